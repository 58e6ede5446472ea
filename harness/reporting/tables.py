"""Rows to table cells: the text a reader sees and, as data attributes, the number a program reads."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from harness.records.manifest import Manifest
from harness.reporting.claims import Claim, caption_verdict
from harness.reporting.definition import Column, ReportDefinition
from harness.reporting.findings import Corrected, change_of
from harness.reporting.format import change, number
from harness.reporting.frames import Estimate, Estimates, Reading, flat
from harness.reporting.provenance import several
from harness.reporting.published import Published, PublishedCell

NO_VALUE = {"failed": "failed", "unavailable": "unavailable", "missing": "not measured"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Text:
    """A piece of a cell. `kind` gives its look; `data` becomes its data-* attributes."""

    kind: str
    text: str
    data: Mapping[str, object] = field(default_factory=dict)
    hint: str = ""  # what a pointer over it tells


@dataclass(frozen=True, kw_only=True, slots=True)
class LadderCell:
    value: Text
    spreads: tuple[str, ...]
    change: Text | None
    published: Text | None


@dataclass(frozen=True, kw_only=True, slots=True)
class LadderRow:
    rung: str
    cells: list[LadderCell]  # in the order of the columns
    asides: list[tuple[str, Text]]  # (title, value) of what is told of this run's own network, unjudged


@dataclass(frozen=True, kw_only=True, slots=True)
class ClaimCell:
    published: Text | None
    verdict: str
    size: str
    size_reason: str
    reason: str
    shown: str
    tests: str
    beside: str
    data: Mapping[str, object]


def ladder_rows(
    manifest: Manifest, definition: ReportDefinition, published: Published, estimates: Estimates, tests: Corrected
) -> list[LadderRow]:
    rows = []
    for rung in manifest.rungs:
        cells = [
            _ladder_cell(estimates[rung.name, column.quantity], column, published, tests)
            for column in definition.main(manifest)
        ]
        asides = [(c.title, _value_text(estimates[rung.name, c.quantity], c)) for c in definition.asides]
        rows.append(LadderRow(rung=rung.name, cells=cells, asides=asides))
    return rows


def touched_text(touched: Mapping[str, float]) -> str:
    """How much of the work of the rung that it changes an edit touches; empty where that is not known."""
    parts = []
    if "network" in touched:
        parts.append(f"{_share(touched['network'])} of this network's multiply-adds")
    if "twin" in touched:
        parts.append(f"{_share(touched['twin'])} of the twin's")
    return f"touches {', '.join(parts)}" if parts else ""


def _share(share: float) -> str:
    return f"{share:.0%}" if share >= 0.1 else f"{share:.1%}"


def absences(columns: Sequence[Column], estimates: Estimates) -> list[tuple[str, str]]:
    """(`Latency on iPhone, unavailable`, why) for what has no value in the ladder's table."""
    titles = {column.quantity: column.title for column in columns}
    found: dict[str, list[str]] = {}
    for (_, quantity), estimate in estimates.items():
        if quantity in titles and estimate.kind in NO_VALUE:
            found.setdefault(f"{titles[quantity]}, {NO_VALUE[estimate.kind]}", []).append(estimate.note)
    return [(what, several(reasons)) for what, reasons in found.items()]


def reading_rows(readings: Sequence[Reading]) -> list[tuple[tuple[str, int | None], list[Text]]]:
    """((rung, seed), one Text a quantity): every reading of every record, nothing averaged."""
    rows: dict[tuple[str, int | None], list[Text]] = {}
    for row in readings:
        rows.setdefault((row.subject, row.seed), []).append(reading_text(row))
    return list(rows.items())


def reading_text(row: Reading) -> Text:
    data = {"rung": row.subject, "seed": "control" if row.seed is None else row.seed, "quantity": row.quantity}
    data |= {"kind": row.kind, "value": _exact(row.value), "low": _exact(row.low), "high": _exact(row.high)}
    return Text(kind=row.kind, text=shown(row), data=data, hint=row.note or _interval_hint(row))


def claim_rows(
    manifest: Manifest,
    definition: ReportDefinition,
    published: Published,
    claims: Sequence[Claim],
    estimates: Estimates,
) -> list[tuple[str, list[ClaimCell], ClaimCell]]:
    """(rung, a cell a rule, the caption's cell) for every rung but the base."""
    rows = []
    for rung in (rung for rung in manifest.rungs if rung.against is not None):
        chosen = [claim for claim in claims if claim.rung == rung.name]
        caption = caption_verdict(chosen)
        whole = ClaimCell(
            published=None, verdict=caption.state, size="no claim", size_reason="", reason=caption.reason, shown="",
            tests="", beside="", data={"rung": rung.name, "claim": "caption", "verdict": caption.state},
        )  # fmt: skip
        rows.append((rung.name, [_claim_cell(claim, definition, published, estimates) for claim in chosen], whole))
    return rows


def condition_rows(
    definition: ReportDefinition, readings: Sequence[Reading]
) -> list[tuple[str, str, str, str, list[tuple[str, str]]]]:
    """(quantity, kinds, unit, what its spread is, [(condition, its value or values)]) for each quantity with values."""
    titles = {column.quantity: column.title for column in definition.columns}
    rows = []
    for quantity in dict.fromkeys(row.quantity for row in readings):
        known = [row for row in readings if row.quantity == quantity and row.value is not None]
        if not known:
            continue
        stated = [flat(row.conditions) for row in known]
        names = sorted({name for one in stated for name in one})
        conditions = [(name, several([one.get(name, "not stated") for one in stated])) for name in names]
        kinds, units, spreads = (
            _distinct(getattr(row, field_) for row in known if getattr(row, field_))
            for field_ in ("kind", "unit", "spread")
        )
        rows.append((titles.get(quantity, quantity), kinds, units, spreads, conditions))
    return rows


def labels_of(readings: Sequence[Reading]) -> dict[str, str]:
    """Quantity -> the name its conditions give it: `FD-EffLite0@64, N=512`, or `predicted for A17 Pro`."""
    labels: dict[str, list[str]] = {}
    for row in readings:
        if "label" in row.conditions:
            labels.setdefault(row.quantity, []).append(str(row.conditions["label"]))
        elif "chip" in row.conditions:
            how = "predicted for" if row.kind == "predicted" else f"{row.kind} on"
            labels.setdefault(row.quantity, []).append(f"{how} {row.conditions['chip']}")
    return {quantity: " and ".join(dict.fromkeys(found)) for quantity, found in labels.items()}


def _ladder_cell(estimate: Estimate, column: Column, published: Published, tests: Corrected) -> LadderCell:
    cell = published.cell(estimate.subject, column.published)
    printed = None
    if cell is not None:
        printed = published_text(estimate.subject, column.published or "", published, cell)
    return LadderCell(
        value=_value_text(estimate, column),
        spreads=_spreads(estimate, column),
        change=_change_text(estimate, column, tests),
        published=printed,
    )


def _value_text(estimate: Estimate, column: Column) -> Text:
    low, high = interval(estimate, column)
    data = {"rung": estimate.subject, "quantity": estimate.quantity, "seed": "all", "kind": estimate.kind}
    data |= {"value": _exact(estimate.value), "low": _exact(low), "high": _exact(high)}
    return Text(kind=estimate.kind, text=shown(estimate), data=data, hint=estimate.note)


def _change_text(estimate: Estimate, column: Column, tests: Corrected) -> Text | None:
    """A score's change stands with its interval, and as a difference where a relative change is ill-determined."""
    data: dict[str, object] = {"rung": estimate.subject, "quantity": estimate.quantity, "against": estimate.against}
    hint = f"against {estimate.against}"
    if column.spread == "seeds":
        found = change_of(tests.noises.get(estimate.quantity), estimate.subject, estimate.against)
        if found is None:
            return None
        if found.value is None:
            data |= {"difference": _exact(found.comparison.difference)}
        else:
            data |= {"change": _exact(found.value)}
        return Text(kind="change", text=found.shown, data=data, hint=f"{hint}; {found.comparison.noise}")
    if estimate.change is None:
        return None
    told = change(estimate.change) + (" predicted" if estimate.kind == "predicted" else "")
    return Text(kind="change", text=told, data=data | {"change": _exact(estimate.change)}, hint=hint)


def published_text(row: str, column: str, published: Published, cell: PublishedCell) -> Text:
    """An absolute value is told with its column's name: it is not what our own column measures."""
    data = {"rung": row, "published": column, "published-value": _exact(cell.value), "source": cell.source}
    data["published-change"] = _exact(cell.change)
    name = f"{published.columns[column].title} " if cell.value is not None else ""
    unit = published.columns[column].unit if cell.value is not None else ""
    return Text(kind="published", text=f"{name}{cell.shown} {unit}".rstrip(), data=data, hint=cell.source)


def _claim_cell(claim: Claim, definition: ReportDefinition, published: Published, estimates: Estimates) -> ClaimCell:
    beside = ""
    if claim.rule.beside is not None and not claim.finding.unknown:
        other = estimates[claim.rung, claim.rule.beside]
        how = " predicted" if other.kind == "predicted" else ""
        title = definition.column(claim.rule.beside).title
        beside = f"{title}:{how} {change(other.change)}" if other.change is not None else ""
    data: dict[str, object] = {"rung": claim.rung, "claim": claim.rule.quantity, "verdict": claim.direction.state}
    if claim.size.state != "no claim":
        data["size"] = claim.size.state
    printed = None
    if claim.published is not None:
        printed = published_text(claim.rung, claim.rule.published or "", published, claim.published)
    return ClaimCell(
        published=printed,
        verdict=claim.direction.state,
        size=claim.size.state,
        size_reason=claim.size.reason,
        reason=claim.direction.reason,
        shown="" if claim.finding.shown in claim.direction.reason else claim.finding.shown,
        tests=claim.finding.tests,
        beside=beside,
        data=data,
    )


def shown(row: Reading | Estimate) -> str:
    return NO_VALUE[row.kind] if row.value is None else number(row.value, row.unit)


def interval(estimate: Estimate, column: Column) -> tuple[float | None, float | None]:
    """What the column calls spread: the seeds' range, or the instrument's interval."""
    if column.spread == "seeds" and len(estimate.values) > 1:
        return estimate.seed_range
    return (estimate.low, estimate.high) if column.spread == "instrument" else (None, None)


def _spreads(estimate: Estimate, column: Column) -> tuple[str, ...]:
    """The column's spread; beside a spread over seeds, apart from it, what the images of one score make of it."""
    low, high = interval(estimate, column)
    parts = [] if low is None or high is None else [f"{number(float(low))} to {number(float(high))}"]
    if estimate.value is not None and estimate.note:
        parts.append(estimate.note)
    found = [", ".join(parts)] if parts else []
    if column.spread == "seeds" and estimate.sampling is not None:
        found.append(f"each ±{number(estimate.sampling)} by its images")
    return tuple(found)


def _interval_hint(row: Reading) -> str:
    if row.low is None or row.high is None:
        return ""
    return f"{number(row.low)} to {number(row.high)} {row.spread}".strip()


def _exact(value: float | None) -> str:
    """Every digit: what a program reads back equals what the store holds."""
    return "" if value is None else repr(value)


def _distinct(values: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(values))
