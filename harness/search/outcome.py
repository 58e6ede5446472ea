"""What a trial's record says of the objectives: their values, what is awaited, or why there are none.

A complete record may lack a latency that a queue has been asked for. Then the candidate waits: it is in no rung of
halving, on no front and among no finalists before the measurement is there. The sampler alone is told something
meanwhile, the other objectives with what a model of the instrument predicts (`stand_in`). Where nothing can be
predicted it is told nothing: the trial runs, to it.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from harness.records.quantity import Failed, Quantity, Unavailable, value_of
from harness.records.record import TrialRecord, why


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """One of `values`, `awaits` and `failed`."""

    values: tuple[float, ...] | None = None
    awaits: tuple[str, ...] = ()  # objectives
    stand_in: tuple[float, ...] | None = None
    failed: str = ""


def outcome_of(record: TrialRecord, objectives: Iterable[str], queued: Collection[str]) -> Outcome:
    """`queued` are the quantities that queues are asked for: what they lack now they may have later, also where the
    queue's folder was out of reach."""
    if record.state != "complete":
        return Outcome(failed=why(record))
    found = {name: record.quantities.get(name) for name in objectives}
    lacking = {name: quantity for name, quantity in found.items() if value_of(quantity) is None}
    for name, quantity in lacking.items():
        if not isinstance(quantity, Unavailable) or name not in queued:
            return Outcome(failed=f"no {name}: {_reason(quantity)}")
    if lacking:
        known = [_or_expected(quantity) for quantity in found.values()]
        stand_in = [value for value in known if value is not None]
        return Outcome(awaits=tuple(lacking), stand_in=tuple(stand_in) if len(stand_in) == len(known) else None)
    return Outcome(values=tuple(value for each in found.values() if (value := value_of(each)) is not None))


def _or_expected(quantity: Quantity | None) -> float | None:
    return value_of(quantity.expected if isinstance(quantity, Unavailable) else quantity)


def _reason(quantity: Quantity | None) -> str:
    if isinstance(quantity, Failed):
        return f"{quantity.stage}: {quantity.message}"
    return quantity.reason if isinstance(quantity, Unavailable) else "its record has none"
