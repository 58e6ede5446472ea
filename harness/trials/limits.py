"""Hard limits: the most a network may have of a quantity that is known before it is trained.

    limits.params=1500000                                     counted
    limits.twin.params=4e8                                    of its deployment twin, where the study has one
    limits.twin.preflight=0                                   how many of the Neural Engine's known limits the twin
                                                              meets, from shapes
    'limits.latency_ms={at_most: 300, chip: A17 Pro}'         on a phone's chip: measured, where the store has that
                                                              measurement already, else predicted

A limit that cannot be checked is not met. What each one was checked with is in the record under the limit's name.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from harness.device.request import ComputeUnit
from harness.device.targets import same_chip
from harness.latency.predicted import PredictedLatency
from harness.records.errors import UserError, unknown_name
from harness.records.quantity import Counted, Failed, Known, Measured, Quantity, Unavailable
from harness.trials.twins import PREFIX, PREFLIGHT

COUNTED = ("params", "macs", "macs_without_attention", "flops_fvcore")
LATENCY = "latency_ms"
NAMES = (*COUNTED, LATENCY)
TWIN_PREFLIGHT = f"{PREFIX}{PREFLIGHT}"
TWIN_NAMES = (*(f"{PREFIX}{name}" for name in NAMES), TWIN_PREFLIGHT)


@dataclass(frozen=True, kw_only=True, slots=True)
class LatencyLimit:
    """At most so many milliseconds a forward pass on this chip."""

    at_most: float
    chip: str
    compute_unit: ComputeUnit = "CPU_AND_NE"
    weight_bits: int = 16

    def __post_init__(self) -> None:
        if not 0 < self.at_most < math.inf:
            raise UserError(f"limits.{LATENCY}.at_most is above 0 ms, not {self.at_most:g}")
        _ = self.predictor  # refuses what it does not know

    @property
    def predictor(self) -> PredictedLatency:
        return PredictedLatency(chip=self.chip, compute_unit=self.compute_unit, weight_bits=self.weight_bits)

    def fits(self, quantity: Quantity) -> bool:
        """Whether it was measured on this chip, by this compute unit, with these weights."""
        return measured_on(quantity, chip=self.chip, compute_unit=self.compute_unit, weight_bits=self.weight_bits)


def measured_on(quantity: Quantity, *, chip: str, compute_unit: ComputeUnit, weight_bits: int) -> bool:
    """Whether it was measured on this chip, by this compute unit, with these weights."""
    if not isinstance(quantity, Measured):
        return False
    conditions = quantity.conditions
    return (
        same_chip(str(conditions.get("chip", "")), chip)
        and conditions.get("compute_unit") == compute_unit
        and conditions.get("weight_bits", 16) == weight_bits
    )


Limit: TypeAlias = int | LatencyLimit
Limits: TypeAlias = Mapping[str, Limit]


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """One limit, and the quantity that it was checked with."""

    name: str
    limit: Limit
    quantity: Quantity

    @property
    def excess(self) -> float:
        """value / limit - 1, of a limit of 0 the value: at most 0 where the limit is met; infinite where there is no
        value to check."""
        most = self.limit.at_most if isinstance(self.limit, LatencyLimit) else self.limit
        return (self.quantity.value - most) / (most or 1) if isinstance(self.quantity, Known) else math.inf

    @property
    def refusal(self) -> str | None:
        """Why the limit is not met; None where it is. It says whether the value was counted, measured or predicted."""
        if self.excess <= 0:
            return None
        if isinstance(self.limit, LatencyLimit):
            on, most = f"{self.name} on {self.limit.chip}", f"the limit of {self.limit.at_most:g}"
        else:
            on, most = self.name, f"the limit of {self.limit:,}"
        if not isinstance(self.quantity, Known):
            return f"{on} is not known, so {most} is not known to be met: {_why(self.quantity)}"
        return f"{on} is {_value_text(self.quantity)}, above {most}"


def flattened(limits: Any) -> Any:
    """Limits as they are named: `{twin: {params: 4e8}}`, which `limits.twin.params=4e8` is read as, is
    `{twin.params: 4e8}`."""
    if not isinstance(limits, Mapping) or not isinstance(inner := limits.get("twin"), Mapping):
        return limits
    others = {name: limit for name, limit in limits.items() if name != "twin"}
    return others | {f"{PREFIX}{name}": limit for name, limit in inner.items()}


def check_limits(limits: Limits, *, has_twin: bool = False) -> None:
    """Refuse a limit that no trial can be held to."""
    for name, limit in limits.items():
        if name not in (*NAMES, *TWIN_NAMES):
            raise _unknown(name)
        if name in TWIN_NAMES and not has_twin:
            raise UserError(
                f"limits.{name} is on the deployment twin, and this study has none; name one, "
                "e.g. twin={base: thin_sdxl, latent: 128}, or limit the network itself"
            )
        on_chip = name.removeprefix(PREFIX) == LATENCY
        if isinstance(limit, LatencyLimit) != on_chip:
            form = f"limits.{name}={{at_most: 300, chip: A17 Pro}}" if on_chip else f"limits.{name}=1500000"
            raise UserError(f"limits.{name} is written as {form}, not {limit}")
        least = 0 if name == TWIN_PREFLIGHT else 1
        if not isinstance(limit, LatencyLimit) and limit < least:
            raise UserError(f"limits.{name} is at least {least}, not {limit}")


def _unknown(name: str) -> UserError:
    """A latency is limited under one name, whatever tells it."""
    prefix, bare = (PREFIX, name.removeprefix(PREFIX)) if name.startswith(PREFIX) else ("", name)
    if not bare.startswith("latency"):
        return unknown_name("limit", name, (*NAMES, *TWIN_NAMES))
    return UserError(
        f"there is no limits.{name}: a latency is limited by limits.{prefix}{LATENCY}={{at_most: 300, chip: A17 Pro}}, "
        "which holds it against what was measured on that chip, else against what is predicted; write that"
    )


def checks(quantities: Mapping[str, Quantity], limits: Limits) -> list[Check]:
    """Every limit beside its quantity; one that has none is a check that fails."""
    missing = Unavailable(reason="it was not measured")
    return [Check(name=name, limit=limit, quantity=quantities.get(name, missing)) for name, limit in limits.items()]


def first_refusal(quantities: Mapping[str, Quantity], limits: Limits) -> str | None:
    """The sentence for the first limit that is not met; None where all are."""
    return next((why for check in checks(quantities, limits) if (why := check.refusal) is not None), None)


def _value_text(quantity: Known) -> str:
    """`1,500,001`, or `350 (predicted, 290 to 420)`."""
    if isinstance(quantity, Counted):
        return f"{quantity.value:,}"
    between = "" if quantity.low is None or quantity.high is None else f", {quantity.low:.4g} to {quantity.high:.4g}"
    return f"{quantity.value:.4g} ({quantity.kind}{between})"


def _why(quantity: Unavailable | Failed) -> str:
    return quantity.reason if isinstance(quantity, Unavailable) else quantity.message
