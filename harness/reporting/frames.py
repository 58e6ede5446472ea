"""Records to rows: what is known of each rung, seed and quantity. `pd.DataFrame(rows)` makes them a data frame.

Reading   one quantity of one record of a subject, or the fact that there is none
Estimate  the same over the seeds of a subject, with its change against the subject it is compared to
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

import pandas as pd

from harness.records.errors import UserError
from harness.records.fields import value_text
from harness.records.plain import differences, to_plain
from harness.records.quantities import QUANTITIES, TWIN
from harness.records.quantity import Counted, Failed, Measured, Predicted, Quantity, Unavailable
from harness.records.record import Measurement, TrialRecord
from harness.records.store import Store
from harness.reporting.subjects import Study, Subject

Kind = Literal["measured", "counted", "predicted", "failed", "unavailable", "missing"]
VALUED: tuple[Kind, ...] = ("measured", "counted", "predicted")
TWIN_FINGERPRINT = "twin_fingerprint"  # the condition that says which twin a quantity is of
OF_THE_NETWORK = (TWIN_FINGERPRINT, "extrapolated_because", "fitted_to")
"""Conditions that follow from the network alone: its twin, why it is unlike all that the predictor was fitted to, which
of those it is. Two networks that are compared may differ in them."""
Records: TypeAlias = Mapping[tuple[str, int], TrialRecord | None]
"""(subject, seed) -> its record, None where the store has none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    subject: str  # its name, or the control's
    seed: int | None  # None for a control
    quantity: str
    kind: Kind
    value: float | None = None  # an int where it was counted
    unit: str = ""
    low: float | None = None  # the instrument's own interval, where it gives one
    high: float | None = None
    spread: str = ""  # what low..high is
    replicates: tuple[float, ...] = ()  # a score's, without each group of its images
    conditions: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""  # why there is no value, or what to know of it
    other_protocol: str = ""  # of a score: in what its record's protocol is not the study's, `recipe.steps=100`


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    subject: str
    quantity: str
    kind: Kind
    values: tuple[float, ...] = ()  # one a seed, all of this kind
    seeds: int = 1  # how many there are to be
    value: float | None = None  # the mean of `values`; an int where it was counted and the seeds agree
    unit: str = ""
    low: float | None = None  # the instrument's interval, at its widest over the seeds
    high: float | None = None
    sampling: float | None = None  # half the interval of one seed's value, as the mean over the seeds
    against: str | None = None
    change: float | None = None
    """Relative to the same quantity of `against`; None where either is not known, where their conditions differ, and
    where both are predicted and their intervals overlap."""
    note: str = ""
    other_protocol: str = ""  # of its readings, where one has any

    @property
    def seed_range(self) -> tuple[float, float]:
        return min(self.values), max(self.values)

    @property
    def ends(self) -> tuple[float, float]:
        """The widest of the instrument's interval and the range of the values."""
        ends = [*self.values, *(end for end in (self.low, self.high) if end is not None)]
        return min(ends), max(ends)

    def overlaps(self, other: "Estimate") -> bool:
        """Whether their intervals do: then nobody can say which of the two is less."""
        (low, high), (their_low, their_high) = self.ends, other.ends
        return low <= their_high and their_low <= high


Estimates: TypeAlias = Mapping[tuple[str, str], Estimate]


def records_of(store: Store, study: Study) -> tuple[Records, dict[tuple[str, int], str]]:
    """The records, and why some cannot be read: damaged ones, and those of another version, do not take the page away.
    Of a chain, each of whose stages needs the one before, that is a UserError."""
    records: dict[tuple[str, int], TrialRecord | None] = {}
    unreadable = {}
    for one in study.subjects:
        for seed, key in one.trials.items():
            try:
                records[one.name, seed] = store.trial(key)
            except UserError as error:
                if study.kind == "chain":
                    raise
                records[one.name, seed], unreadable[one.name, seed] = None, str(error)
    return records, unreadable


def controls_of(store: Store, study: Study) -> dict[str, Measurement | None]:
    return {name: store.measurement(key) for name, key in study.controls.items()}


def read_trials(records: Records, quantities: Sequence[str], study: Study) -> list[Reading]:
    """Every quantity of every record. One training may serve studies with different twins, and its record holds the
    costs of the twin that was measured last: those of another twin are missing here."""
    subjects, rows = {one.name: one for one in study.subjects}, []
    for (name, seed), record in records.items():
        other = "" if record is None else ", ".join(own_departures(record, subjects[name], study))
        for quantity in quantities:
            row = reading(name, seed, quantity, record)
            if other and row.value is not None and _is_score(quantity):
                row = replace(row, other_protocol=other)
            rows.append(_of_this_twin(row, subjects[name], study))
    return rows


REPLICATE = "sampling.seed"
"""Other samples of the same distribution: a repetition, as another seed of training is, and not another protocol."""


def own_departures(record: TrialRecord, subject: Subject, study: Study) -> list[str]:
    """In what the record's protocol is not the study's; what the study itself varies of it, as a knob of its space or a
    rung's edit, is what it compares, and stands with the knobs."""
    apart = departures(record.protocol, study.protocol)
    return [each for each in apart if not is_below(each.partition("=")[0], subject.compared)]


def is_below(path: str, above: Iterable[str]) -> bool:
    """Whether it is one of those paths, or a setting in one of them."""
    return any(path == each or path.startswith(f"{each}.") for each in above)


def departures(own: Mapping[str, Any], study: Mapping[str, Any]) -> list[str]:
    """In what a record's protocol is not the study's, as one would set it: `recipe.steps=100`; none where it is."""
    if own == study:  # as most are, of ten thousand
        return []
    theirs, changed = flat(own), differences(to_plain(study), to_plain(own))
    settings = {path: value for each in changed for path, value in flat({each.path: each.after}).items()}
    return [
        f"{path}={'its default' if value is None and path not in theirs else value_text(value)}"
        for path, value in settings.items()
        if path != REPLICATE
    ]


def _is_score(quantity: str) -> bool:
    """Counts and latencies are of the architecture, under whatever protocol it is trained."""
    return quantity in QUANTITIES and QUANTITIES[quantity].spread == "seeds"


def _of_this_twin(row: Reading, subject: Subject, study: Study) -> Reading:
    if not row.quantity.startswith(TWIN) or row.value is None or study.twin is None:
        return row
    theirs = row.conditions.get(TWIN_FINGERPRINT)
    same = subject.twin_fingerprint in (theirs, None)  # a sweep does not say which twin a candidate has
    same &= row.conditions.get("twin") == study.twin.get("base")
    if same and row.conditions.get("latent") == study.twin.get("latent"):
        return row
    note = f"its record has the costs of another twin; `{study.command}` measures this study's again"
    return Reading(subject=row.subject, seed=row.seed, quantity=row.quantity, kind="missing", note=note)


def read_controls(
    controls: Mapping[str, Measurement | None], names: Iterable[str], quantities: Sequence[str]
) -> list[Reading]:
    return [reading(name, None, quantity, controls.get(name)) for name in names for quantity in quantities]


def reading(subject: str, seed: int | None, quantity: str, record: TrialRecord | Measurement | None) -> Reading:
    """One quantity of one record; a missing record or quantity is a Reading too, of kind `missing`."""
    recorded = record.quantities.get(quantity) if record is not None else None
    if recorded is None:
        return Reading(subject=subject, seed=seed, quantity=quantity, kind="missing", note=_why_missing(record))
    return Reading(subject=subject, seed=seed, quantity=quantity, **_content(recorded))


def with_stand_ins(readings: Sequence[Reading], stand_ins: Mapping[str, str]) -> list[Reading]:
    """Readings in which `stand_ins[Q]` stands, as what it is, where quantity Q is unavailable or missing.

    What stands in may itself be unavailable: then its reason stands there. A failure stays a failure.
    """
    by_key = {(row.subject, row.seed, row.quantity): row for row in readings}
    shown = []
    for row in readings:
        other = by_key.get((row.subject, row.seed, stand_ins.get(row.quantity, "")))
        if row.kind in ("unavailable", "missing") and other is not None and other.kind != "missing":
            row = replace(other, quantity=row.quantity)
        shown.append(row)
    return shown


def estimates(
    readings: Iterable[Reading], study: Study, apart: Collection[tuple[str, str]]
) -> dict[tuple[str, str], Estimate]:
    """(subject, quantity) -> its Estimate, with its change against the subject that the study names. `apart`: those
    that are `incomparable`."""
    groups: dict[tuple[str, str], list[Reading]] = {}
    for row in readings:
        groups.setdefault((row.subject, row.quantity), []).append(row)
    alone, against = {key: _estimate(rows) for key, rows in groups.items()}, study.against
    return {
        (name, quantity): _with_change(
            each, other, alone.get((other, quantity)), comparable=(name, quantity) not in apart
        )
        if (other := against[name]) is not None
        else each
        for (name, quantity), each in alone.items()
    }


def curves(records: Records, names: Sequence[str]) -> pd.DataFrame:
    """The training curves: columns subject, seed, name, step, value."""
    rows = [
        (subject, seed, point.name, point.step, point.value)
        for (subject, seed), record in records.items()
        for point in (record.curve if record else ())
        if point.name in names
    ]
    return pd.DataFrame(rows, columns=["subject", "seed", "name", "step", "value"])


def incomparable(study: Study, readings: Sequence[Reading], observed: Collection[str]) -> dict[tuple[str, str], str]:
    """(subject, quantity) -> which condition differs from the subject it is compared to, seed by seed; where the two
    share no seed, from any of its."""
    by_key = {(row.subject, row.seed, row.quantity): row for row in readings if row.value is not None}
    any_seed = {(name, quantity): row for (name, _, quantity), row in by_key.items()}
    against, differing = study.against, {}
    for (name, seed, quantity), row in by_key.items():
        theirs = against[name] or ""
        other = by_key.get((theirs, seed, quantity), any_seed.get((theirs, quantity)))
        if other is not None and (conditions := _differences(row, other, observed)):
            how = row.kind if row.kind == other.kind else "known"
            differing[name, quantity] = f"{how} under different conditions: {', '.join(conditions)}"
    return differing


def _differences(row: Reading, other: Reading, observed: Collection[str]) -> list[str]:
    names = {*row.conditions, *other.conditions} - {*observed, *OF_THE_NETWORK}
    differing = sorted(name for name in names if row.conditions.get(name) != other.conditions.get(name))
    return differing + (["unit"] if row.unit != other.unit else [])


def flat(mapping: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, with dotted names."""
    result: dict[str, Any] = {}
    for key, value in mapping.items():
        name = f"{prefix}{key}"
        result |= flat(value, f"{name}.") if isinstance(value, Mapping) and value else {name: value}
    return result


def relative(value: float | None, reference: float | None) -> float | None:
    """value / reference - 1; None where either is not known or the reference is not above zero (KID can be)."""
    return None if value is None or reference is None or reference <= 0 else value / reference - 1


def _content(quantity: Quantity) -> dict[str, Any]:
    if isinstance(quantity, Unavailable):
        return {"kind": quantity.kind, "note": quantity.reason}
    if isinstance(quantity, Failed):
        return {"kind": quantity.kind, "note": f"{quantity.phase}: {quantity.message}"}
    return {
        "kind": quantity.kind,
        "value": quantity.value,
        "unit": quantity.unit,
        "low": getattr(quantity, "low", None),
        "high": getattr(quantity, "high", None),
        "spread": getattr(quantity, "spread", "prediction interval" if isinstance(quantity, Predicted) else ""),
        "replicates": getattr(quantity, "replicates", ()),
        "conditions": quantity.conditions,
        "note": _remark(quantity),
    }


FITTED = "fitted to a latency of this network, so no test"


def _remark(quantity: Counted | Measured | Predicted) -> str:
    """What to know of a value: that it was extrapolated, or fitted to, or is not the Neural Engine's."""
    if isinstance(quantity, Predicted):
        fitted = FITTED if quantity.conditions.get("fitted_to") else ""
        return "; ".join(filter(None, ("extrapolated" * quantity.extrapolated, fitted)))
    if quantity.conditions.get("on_engine") is False:
        return f"not called the Neural Engine's: {quantity.conditions['engine_doubt']}"
    return ""


def _why_missing(record: TrialRecord | Measurement | None) -> str:
    if record is None:
        return "there is no record of it"
    state = getattr(record, "state", "complete")
    return "its record does not have it" + ("" if state == "complete" else f": the trial {state}")


def _estimate(rows: Sequence[Reading]) -> Estimate:
    """Measured and predicted values are never averaged together: the first kind present of KINDS is taken."""
    kind = min((row.kind for row in rows), key=KINDS.index)
    chosen = [row for row in rows if row.kind == kind]
    if kind not in VALUED:
        return _without_value(rows, kind)
    values = tuple(row.value for row in chosen if row.value is not None)
    return Estimate(
        subject=rows[0].subject,
        quantity=rows[0].quantity,
        kind=kind,
        values=values,
        seeds=len(rows),
        value=values[0] if len(set(values)) == 1 else sum(values) / len(values),
        unit=chosen[0].unit,
        low=min((row.low for row in chosen if row.low is not None), default=None),
        high=max((row.high for row in chosen if row.high is not None), default=None),
        sampling=_half_width(chosen),
        note=", ".join(_notes(chosen, len(rows))),
        other_protocol="; ".join(dict.fromkeys(row.other_protocol for row in chosen if row.other_protocol)),
    )


def _with_change(ours: Estimate, against: str, theirs: Estimate | None, *, comparable: bool) -> Estimate:
    if theirs is None or theirs.kind != ours.kind or ours.value is None or not comparable:
        return replace(ours, against=against)
    if ours.kind == "predicted" and ours.overlaps(theirs):
        return replace(ours, against=against)
    return replace(ours, against=against, change=relative(ours.value, theirs.value))


def _half_width(rows: Sequence[Reading]) -> float | None:
    """Of the 95% intervals by the images alone; a range, or a standard deviation, is none."""
    halves = [
        (row.high - row.low) / 2
        for row in rows
        if row.low is not None and row.high is not None and row.spread.startswith("95%")
    ]
    return sum(halves) / len(halves) if halves else None


def _notes(chosen: Sequence[Reading], seeds: int) -> Iterable[str]:
    if len(chosen) < seeds:
        yield f"{len(chosen)} of {seeds} seeds"
    yield from dict.fromkeys(row.note for row in chosen if row.note)


def _without_value(rows: Sequence[Reading], kind: Kind) -> Estimate:
    return Estimate(
        subject=rows[0].subject,
        quantity=rows[0].quantity,
        kind=kind,
        seeds=len(rows),
        note="; ".join(dict.fromkeys(row.note for row in rows if row.kind == kind)),
    )


KINDS: tuple[Kind, ...] = (*VALUED, "failed", "unavailable", "missing")
