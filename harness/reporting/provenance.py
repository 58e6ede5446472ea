"""Where the numbers come from: what all records share is told once, what differs is told as a range or a list."""

from collections.abc import Mapping, Sequence
from datetime import datetime
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
        total = f", {number(float(sum(values)))} in all" if not shared and _additive(values) else ""
        rows.append((name, several(values) + total, shared))
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


def several(values: Sequence[Any]) -> str:
    """The value if there is one; a range of numbers or times; else the values themselves, at most LISTED of them."""
    distinct = list(dict.fromkeys(map(_text, values)))
    if len(distinct) == 1:
        return distinct[0]
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return " to ".join(f"{end:,}" if isinstance(end, int) else number(end) for end in (min(values), max(values)))
    if len(distinct) > 2 and all(_is_time(value) for value in values):
        return f"{min(distinct)} to {max(distinct)}"
    more = f"; and {len(distinct) - LISTED} more" if len(distinct) > LISTED else ""
    return "; ".join(distinct[:LISTED]) + more


def _text(value: Any) -> str:
    """Sentences in a list are told as sentences; none are `none`."""
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return ", ".join(value) or "none"
    return str(value)


def _additive(values: Sequence[Any]) -> bool:
    """Numbers with a fraction, such as seconds and hours, have a sum worth telling; counts such as cores do not."""
    return all(isinstance(value, float) for value in values)


def _is_time(value: Any) -> bool:
    try:
        datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return False
    return True
