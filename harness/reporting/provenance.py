"""Where the numbers come from: what all records share is told once, what differs is told as a range or a list."""

from collections.abc import Mapping, Sequence
from typing import Any

from harness.records.manifest import Manifest
from harness.reporting.definition import ReportDefinition
from harness.reporting.format import number
from harness.reporting.frames import flat

LISTED = 6


def provenance_rows(provenances: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, bool]]:
    """(name, value or values, whether all records share it), over the provenance of many records."""
    flats = [flat(provenance) for provenance in provenances]
    names = list(dict.fromkeys(name for one in flats for name in one))
    rows = []
    for name in names:
        values = [one[name] for one in flats if name in one]
        distinct = list(dict.fromkeys(map(str, values)))
        shared = len(distinct) == 1 and len(values) == len(flats)
        rows.append((name, distinct[0] if len(distinct) == 1 else _several(values, distinct), shared))
    return rows


def facts(
    manifest: Manifest, definition: ReportDefinition, provenances: Sequence[Mapping[str, Any]]
) -> list[tuple[str, str]]:
    """The head of the page: the definition's facts, the seeds, the machine."""
    protocol = flat(manifest.protocol)
    rows = []
    for fact in definition.facts:
        value = protocol.get(fact.setting)
        rows.append((fact.title, "not recorded" if value is None else f"{value} {fact.unit}".strip()))
    rows.append(("Rungs", str(len(manifest.rungs))))
    rows.append(("Seeds", ", ".join(map(str, manifest.seeds))))
    shared = {name: value for name, value, _ in provenance_rows(provenances)}
    rows.append(("Machine", shared.get(definition.machine, "not recorded")))
    return rows


def _several(values: Sequence[Any], distinct: Sequence[str]) -> str:
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        total = f", {number(float(sum(values)))} in all" if any(isinstance(value, float) for value in values) else ""
        return f"{number(float(min(values)))} to {number(float(max(values)))}{total}"
    more = f"; and {len(distinct) - LISTED} more" if len(distinct) > LISTED else ""
    return "; ".join(distinct[:LISTED]) + more
