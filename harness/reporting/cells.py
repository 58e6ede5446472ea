"""What stands in a table's cell: the text a reader sees and, as data attributes, the number a program reads."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from harness.reporting.definition import Column
from harness.reporting.findings import Corrected, change_of
from harness.reporting.format import change, number
from harness.reporting.frames import Estimate, Reading, flat
from harness.reporting.published import Published, PublishedCell
from harness.reporting.section import Frames

MOST_NOTES = 8
NO_VALUE = {"failed": "failed", "unavailable": "unavailable", "missing": "not measured"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Text:
    """A piece of a cell. `kind` gives its look; `data` becomes its data-* attributes."""

    kind: str
    text: str
    data: Mapping[str, object] = field(default_factory=dict)
    hint: str = ""  # what a pointer over it shows
    other_protocol: str = ""  # see `Reading`: the cell bears a mark


@dataclass(frozen=True, kw_only=True, slots=True)
class Head:
    """What stands beside a subject wherever it begins a row."""

    name: str
    number: str
    title: str
    edits: Mapping[str, object]
    against: str | None
    marks: Sequence[tuple[str, str]]  # (short, long)
    touched: str
    beaten: str  # by which control; empty where by none


def heads(frames: Frames) -> dict[str, Head]:
    rows, checks = frames.published.rows, frames.checks
    return {
        one.name: Head(
            name=one.name,
            number=(rows[one.name].number if one.name in rows else "") or str(index),
            title=one.title,
            edits=flat(one.edits),
            against=one.against,
            marks=checks.marks(one.name),
            touched=_touched(one.touched),
            beaten=checks.beaten.get(one.name, ""),
        )
        for index, one in enumerate(frames.study.subjects)
    }


def _touched(touched: Mapping[str, float]) -> str:
    """How much of the work of the rung that it changes an edit touches; empty where that is not known."""
    parts = []
    if "network" in touched:
        parts.append(f"{_share(touched['network'])} of this network's multiply-adds")
    if "twin" in touched:
        parts.append(f"{_share(touched['twin'])} of the twin's")
    return f"touches {', '.join(parts)}" if parts else ""


def _share(share: float) -> str:
    return f"{share:.0%}" if share >= 0.1 else f"{share:.1%}"


def reading_text(row: Reading) -> Text:
    data = {"subject": row.subject, "seed": "control" if row.seed is None else row.seed, "quantity": row.quantity}
    data |= {"kind": row.kind, "value": exact(row.value), "low": exact(row.low), "high": exact(row.high)}
    hint = row.note or _interval_hint(row)
    return Text(kind=row.kind, text=shown(row), data=data, hint=hint, other_protocol=row.other_protocol)


def value_text(estimate: Estimate, column: Column) -> Text:
    low, high = interval(estimate, column)
    data = {"subject": estimate.subject, "quantity": estimate.quantity, "seed": "all", "kind": estimate.kind}
    data |= {"value": exact(estimate.value), "low": exact(low), "high": exact(high)}
    text, other = shown(estimate), estimate.other_protocol
    return Text(kind=estimate.kind, text=text, data=data, hint=estimate.note, other_protocol=other)


def change_text(estimate: Estimate, column: Column, tests: Corrected) -> Text | None:
    """A score's change stands with its interval, and as a difference where a relative change is ill-determined."""
    data: dict[str, object] = {"subject": estimate.subject, "quantity": estimate.quantity, "against": estimate.against}
    hint = f"against {estimate.against}"
    if column.spread == "seeds":
        by_seeds = change_of(tests.noises, estimate.quantity, estimate.subject, estimate.against)
        if by_seeds is None:
            return None
        if by_seeds.value is None:
            data |= {"difference": exact(by_seeds.comparison.difference)}
        else:
            data |= {"change": exact(by_seeds.value)}
        return Text(kind="change", text=by_seeds.shown, data=data, hint=f"{hint}; {by_seeds.comparison.noise}")
    if estimate.change is None:
        return None
    text = change(estimate.change) + (" predicted" if estimate.kind == "predicted" else "")
    return Text(kind="change", text=text, data=data | {"change": exact(estimate.change)}, hint=hint)


def published_text(row: str, column: str, published: Published, cell: PublishedCell) -> Text:
    """An absolute value stands with its column's name: it is not what our own column measures."""
    data = {"subject": row, "published": column, "published-value": exact(cell.value), "source": cell.source}
    data["published-change"] = exact(cell.change)
    name = f"{published.columns[column].title} " if cell.value is not None else ""
    unit = published.columns[column].unit if cell.value is not None else ""
    return Text(kind="published", text=f"{name}{cell.shown} {unit}".rstrip(), data=data, hint=cell.source)


def shown(row: Reading | Estimate) -> str:
    return NO_VALUE[row.kind] if row.value is None else number(row.value, row.unit)


def interval(estimate: Estimate, column: Column) -> tuple[float | None, float | None]:
    """What the column calls spread: the seeds' range, or the instrument's interval."""
    if column.spread == "seeds" and len(estimate.values) > 1:
        return estimate.seed_range
    return (estimate.low, estimate.high) if column.spread == "instrument" else (None, None)


def spread_text(estimate: Estimate, column: Column) -> str:
    """`12.7 to 13.0`; empty where there is none."""
    low, high = interval(estimate, column)
    return "" if low is None or high is None else f"{number(float(low))} to {number(float(high))}"


def exact(value: float | None) -> str:
    """Every digit: what a program reads back equals what the store holds."""
    return "" if value is None else repr(value)


def protocol_notes(readings: Sequence[Reading]) -> list[str]:
    """What the marks beside scores mean: `recipe.steps=100 (4 of 12 records)`; none where one protocol made all."""
    scored: dict[str, set[tuple[str, int | None]]] = {}
    for row in readings:
        scored.setdefault(row.other_protocol, set()).add((row.subject, row.seed))
    every = len({(row.subject, row.seed) for row in readings})
    notes = [f"{other} ({len(records)} of {every} records)" for other, records in scored.items() if other]
    more = len(notes) - MOST_NOTES
    return [*notes[:MOST_NOTES], *([f"and {more} others"] if more > 0 else [])]


def names_of(readings: Sequence[Reading]) -> dict[str, str]:
    """Quantity -> the name its conditions give it: `FD-EffLite0@64, N=512`, or `predicted for A17 Pro`."""
    names: dict[str, list[str]] = {}
    for row in readings:
        if "label" in row.conditions:
            names.setdefault(row.quantity, []).append(str(row.conditions["label"]))
        elif "chip" in row.conditions:
            how = "predicted for" if row.kind == "predicted" else f"{row.kind} on"
            names.setdefault(row.quantity, []).append(f"{how} {row.conditions['chip']}")
    return {quantity: " and ".join(dict.fromkeys(several)) for quantity, several in names.items()}


def _interval_hint(row: Reading) -> str:
    if row.low is None or row.high is None:
        return ""
    return f"{number(row.low)} to {number(row.high)} {row.spread}".strip()
