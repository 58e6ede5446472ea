"""Rows to table cells: the text a reader sees and, as data attributes, the number a program reads."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from harness.records.manifest import Manifest
from harness.reporting.claims import Claim, caption_verdict
from harness.reporting.definition import Column, ReportDefinition
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
    spread: str
    change: Text | None
    published: Text | None


@dataclass(frozen=True, kw_only=True, slots=True)
class ClaimCell:
    published: Text | None
    ours: str
    verdict: str
    reason: str
    beside: str
    data: Mapping[str, object]


def ladder_rows(
    manifest: Manifest, definition: ReportDefinition, published: Published, estimates: Estimates
) -> list[tuple[str, list[LadderCell]]]:
    """(rung, its cells in the order of the definition's columns)."""
    rows = []
    for rung in manifest.rungs:
        cells = [
            _ladder_cell(estimates[rung.name, column.quantity], column, published) for column in definition.columns
        ]
        rows.append((rung.name, cells))
    return rows


def absences(definition: ReportDefinition, estimates: Estimates) -> list[tuple[str, str]]:
    """(`Latency on iPhone, unavailable`, why) for what has no value in the ladder's table."""
    titles = {column.quantity: column.title for column in definition.columns}
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
        data = {"rung": rung.name, "claim": "caption", "verdict": caption.state}
        whole = ClaimCell(
            published=None, ours="", verdict=caption.state, reason=caption.reason, beside="", data=data
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


def _ladder_cell(estimate: Estimate, column: Column, published: Published) -> LadderCell:
    cell = published.cell(estimate.subject, column.published)
    key = {"rung": estimate.subject, "quantity": estimate.quantity}
    low, high = interval(estimate, column)
    data = {**key, "seed": "all", "kind": estimate.kind, "value": _exact(estimate.value)}
    data |= {"low": _exact(low), "high": _exact(high)}
    relative = None
    if estimate.change is not None:
        data_ = {**key, "against": estimate.against, "change": _exact(estimate.change)}
        told = change(estimate.change) + (" predicted" if estimate.kind == "predicted" else "")
        relative = Text(kind="change", text=told, data=data_, hint=f"against {estimate.against}")
    printed = None
    if cell is not None:
        printed = published_text(estimate.subject, column.published or "", published, cell)
    value = Text(kind=estimate.kind, text=shown(estimate), data=data, hint=estimate.note)
    return LadderCell(value=value, spread=_spread(estimate, column), change=relative, published=printed)


def published_text(row: str, column: str, published: Published, cell: PublishedCell) -> Text:
    """An absolute value is told with its column's name: it is not what our own column measures."""
    data = {"rung": row, "published": column, "published-value": _exact(cell.value), "source": cell.source}
    data["published-change"] = _exact(cell.change)
    name = f"{published.columns[column].title} " if cell.value is not None else ""
    unit = published.columns[column].unit if cell.value is not None else ""
    return Text(kind="published", text=f"{name}{cell.shown} {unit}".rstrip(), data=data, hint=cell.source)


def _claim_cell(claim: Claim, definition: ReportDefinition, published: Published, estimates: Estimates) -> ClaimCell:
    beside = ""
    if claim.rule.beside is not None:
        other = estimates[claim.rung, claim.rule.beside]
        how = " predicted" if other.kind == "predicted" else ""
        title = definition.column(claim.rule.beside).title
        beside = f"{title}:{how} {change(other.change)}" if other.change is not None else ""
    data = {"rung": claim.rung, "claim": claim.rule.published, "verdict": claim.verdict.state}
    if not claim.interval.unknown:
        data |= {"low": _exact(claim.interval.low), "high": _exact(claim.interval.high)}
    printed = published_text(claim.rung, claim.rule.published, published, claim.published) if claim.published else None
    return ClaimCell(
        published=printed,
        ours=change(claim.ours) if claim.ours is not None else "",
        verdict=claim.verdict.state,
        reason=claim.verdict.reason,
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


def _spread(estimate: Estimate, column: Column) -> str:
    low, high = interval(estimate, column)
    parts = [] if low is None or high is None else [f"{number(float(low))} to {number(float(high))}"]
    if estimate.value is not None and estimate.note:
        parts.append(estimate.note)
    return ", ".join(parts)


def _interval_hint(row: Reading) -> str:
    if row.low is None or row.high is None:
        return ""
    return f"{number(row.low)} to {number(row.high)} {row.spread}".strip()


def _exact(value: float | None) -> str:
    """Every digit: what a program reads back equals what the store holds."""
    return "" if value is None else repr(value)


def _distinct(values: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(values))
