"""Records to rows: what is known of each rung, seed and quantity. `pd.DataFrame(rows)` makes them a data frame.

Reading   one quantity of one record, or the fact that there is none
Estimate  the same over the seeds of a rung, with its change against the rung it is compared to
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

import pandas as pd

from harness.records.manifest import Manifest
from harness.records.quantity import Failed, Predicted, Quantity, Unavailable
from harness.records.record import Measurement, TrialRecord, trial_key
from harness.records.store import Store

Kind = Literal["measured", "counted", "predicted", "failed", "unavailable", "missing"]
VALUED: tuple[Kind, ...] = ("measured", "counted", "predicted")
TWIN = "twin."
"""What the quantities of a study's deployment twin begin with: `twin.params`."""
TWIN_FINGERPRINT = "twin_fingerprint"  # the condition that tells which twin a quantity is of
Records: TypeAlias = Mapping[tuple[str, int], TrialRecord | None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    subject: str  # the rung's name, or the control's
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


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    subject: str
    quantity: str
    kind: Kind
    values: tuple[float, ...] = ()  # one a seed, all of this kind
    seeds: int = 1  # how many were asked for
    value: float | None = None  # the mean of `values`; an int where it was counted and the seeds agree
    unit: str = ""
    low: float | None = None  # the instrument's interval, at its widest over the seeds
    high: float | None = None
    sampling: float | None = None  # half the interval of one seed's value, as the mean over the seeds
    against: str | None = None
    change: float | None = None  # relative to the same quantity of `against`; None where either is not known
    note: str = ""

    @property
    def seed_range(self) -> tuple[float, float]:
        return min(self.values), max(self.values)


Estimates: TypeAlias = Mapping[tuple[str, str], Estimate]


def records_of(store: Store, manifest: Manifest) -> Records:
    """The record of each rung and seed of the ablation, None where the store has none."""
    protocol = manifest.protocol_fingerprint
    return {
        (rung.name, seed): store.trial(trial_key(rung.architecture_fingerprint, protocol, seed))
        for rung in manifest.rungs
        for seed in manifest.seeds
    }


def controls_of(store: Store, manifest: Manifest) -> dict[str, Measurement | None]:
    return {name: store.measurement(key) for name, key in manifest.controls.items()}


def read_trials(records: Records, quantities: Sequence[str], manifest: Manifest) -> list[Reading]:
    """Every quantity of every record. One training may serve studies with different twins, and its record holds the
    costs of the twin that was asked for last: those of another twin are missing here."""
    fingerprints = {rung.name: rung.twin_fingerprint for rung in manifest.rungs}
    rows = (reading(rung, seed, name, record) for (rung, seed), record in records.items() for name in quantities)
    return [_of_this_twin(row, fingerprints[row.subject], manifest) for row in rows]


def _of_this_twin(row: Reading, fingerprint: str | None, manifest: Manifest) -> Reading:
    if not row.quantity.startswith(TWIN) or row.value is None or manifest.twin is None:
        return row
    found = (row.conditions.get(TWIN_FINGERPRINT), row.conditions.get("latent"))
    if found == (fingerprint, manifest.twin.get("latent")):
        return row
    note = f"its record has the costs of another twin; `harness ablate {manifest.name}` asks for this study's again"
    return Reading(subject=row.subject, seed=row.seed, quantity=row.quantity, kind="missing", note=note)


def read_controls(
    controls: Mapping[str, Measurement | None], names: Iterable[str], quantities: Sequence[str]
) -> list[Reading]:
    return [reading(name, None, quantity, controls.get(name)) for name in names for quantity in quantities]


def reading(subject: str, seed: int | None, quantity: str, record: TrialRecord | Measurement | None) -> Reading:
    """One quantity of one record; a missing record or quantity is a Reading too, of kind `missing`."""
    found = record.quantities.get(quantity) if record is not None else None
    if found is None:
        return Reading(subject=subject, seed=seed, quantity=quantity, kind="missing", note=_why_missing(record))
    return Reading(subject=subject, seed=seed, quantity=quantity, **_content(found))


def stood_in(readings: Sequence[Reading], stand_ins: Mapping[str, str]) -> list[Reading]:
    """Readings in which `stand_ins[Q]` stands, as what it is, where quantity Q is unavailable or missing.

    What stands in may itself be unavailable: then its reason is told. A failure stays a failure, for the reader to see.
    """
    by_key = {(row.subject, row.seed, row.quantity): row for row in readings}
    shown = []
    for row in readings:
        other = by_key.get((row.subject, row.seed, stand_ins.get(row.quantity, "")))
        if row.kind in ("unavailable", "missing") and other is not None and other.kind != "missing":
            row = replace(other, quantity=row.quantity)
        shown.append(row)
    return shown


def estimates(readings: Iterable[Reading], manifest: Manifest) -> dict[tuple[str, str], Estimate]:
    """(rung, quantity) -> its Estimate, with its change against the rung that the manifest names."""
    groups: dict[tuple[str, str], list[Reading]] = {}
    for row in readings:
        groups.setdefault((row.subject, row.quantity), []).append(row)
    against = {rung.name: rung.against for rung in manifest.rungs}
    alone = {key: _estimate(rows, None, None) for key, rows in groups.items()}
    return {
        (rung, quantity): _estimate(rows, against[rung], alone.get((against[rung] or "", quantity)))
        for (rung, quantity), rows in groups.items()
    }


def curves(records: Records, names: Sequence[str]) -> pd.DataFrame:
    """The training curves: columns rung, seed, name, step, value."""
    rows = [
        (rung, seed, point.name, point.step, point.value)
        for (rung, seed), record in records.items()
        for point in (record.curve if record else ())
        if point.name in names
    ]
    return pd.DataFrame(rows, columns=["rung", "seed", "name", "step", "value"])


def incomparable(
    manifest: Manifest, readings: Sequence[Reading], observed: Collection[str]
) -> dict[tuple[str, str], str]:
    """(rung, quantity) -> which condition differs from the rung it is compared to, seed by seed."""
    by_key = {(row.subject, row.seed, row.quantity): row for row in readings if row.value is not None}
    against = {rung.name: rung.against for rung in manifest.rungs}
    found = {}
    for (rung, seed, quantity), row in by_key.items():
        other = by_key.get((against[rung] or "", seed, quantity))
        names = _differences(row, other, observed) if other is not None else []
        if names:
            found[rung, quantity] = f"measured under different conditions: {', '.join(names)}"
    return found


def _differences(row: Reading, other: Reading, observed: Collection[str]) -> list[str]:
    names = {*row.conditions, *other.conditions} - {*observed, TWIN_FINGERPRINT}  # rungs are to differ in it
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
        return {"kind": quantity.kind, "note": f"{quantity.stage}: {quantity.message}"}
    return {
        "kind": quantity.kind,
        "value": quantity.value,
        "unit": quantity.unit,
        "low": getattr(quantity, "low", None),
        "high": getattr(quantity, "high", None),
        "spread": getattr(quantity, "spread", "prediction interval" if isinstance(quantity, Predicted) else ""),
        "replicates": getattr(quantity, "replicates", ()),
        "conditions": quantity.conditions,
        "note": "extrapolated" if isinstance(quantity, Predicted) and quantity.extrapolated else "",
    }


def _why_missing(record: TrialRecord | Measurement | None) -> str:
    if record is None:
        return "there is no record of it"
    state = getattr(record, "state", "complete")
    return "its record does not have it" + ("" if state == "complete" else f": the trial {state}")


def _estimate(rows: Sequence[Reading], against: str | None, reference: Estimate | None) -> Estimate:
    """Measured and predicted values are never averaged together: the first kind present of KINDS is taken."""
    kind = min((row.kind for row in rows), key=KINDS.index)
    chosen = [row for row in rows if row.kind == kind]
    if kind not in VALUED:
        return _without_value(rows, kind, against)
    values = tuple(row.value for row in chosen if row.value is not None)
    value = values[0] if len(set(values)) == 1 else sum(values) / len(values)
    comparable = reference is not None and reference.kind == kind
    return Estimate(
        subject=rows[0].subject,
        quantity=rows[0].quantity,
        kind=kind,
        values=values,
        seeds=len(rows),
        value=value,
        unit=chosen[0].unit,
        low=min((row.low for row in chosen if row.low is not None), default=None),
        high=max((row.high for row in chosen if row.high is not None), default=None),
        sampling=_half_width(chosen),
        against=against,
        change=relative(value, reference.value) if comparable and reference is not None else None,
        note=", ".join(_notes(chosen, len(rows))),
    )


def _half_width(rows: Sequence[Reading]) -> float | None:
    halves = [(row.high - row.low) / 2 for row in rows if row.low is not None and row.high is not None]
    return sum(halves) / len(halves) if halves else None


def _notes(chosen: Sequence[Reading], asked: int) -> Iterable[str]:
    if len(chosen) < asked:
        yield f"{len(chosen)} of {asked} seeds"
    yield from dict.fromkeys(row.note for row in chosen if row.note)


def _without_value(rows: Sequence[Reading], kind: Kind, against: str | None) -> Estimate:
    return Estimate(
        subject=rows[0].subject,
        quantity=rows[0].quantity,
        kind=kind,
        seeds=len(rows),
        against=against,
        note="; ".join(dict.fromkeys(row.note for row in rows if row.kind == kind)),
    )


KINDS: tuple[Kind, ...] = (*VALUED, "failed", "unavailable", "missing")
