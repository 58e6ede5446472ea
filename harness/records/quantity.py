"""What is known about one number, and how. Never None, never 0, never a guess.

Counted      exact, by arithmetic on the network itself (parameters, multiply-adds)
Measured     came out of an instrument or an experiment; carries its spread
Predicted    came out of a model of the instrument; carries its interval
Unavailable  nobody could know it here, and why
Failed       it was tried and did not work: the phase and the message
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from harness.records.errors import UserError

Conditions = Mapping[str, Any]
"""What the number was obtained under: device, N, resolution, latent, ... Plain values only."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Counted:
    value: int
    unit: str
    conditions: Conditions = field(default_factory=dict)
    kind: Literal["counted"] = "counted"


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    value: float
    unit: str
    low: float | None = None  # the interval that `spread` names, where one is known
    high: float | None = None
    spread: str = ""  # what low..high is, e.g. "interquartile range of 30 runs"
    replicates: tuple[float, ...] = ()  # the value without each group of what it was computed from (jackknife)
    conditions: Conditions = field(default_factory=dict)
    kind: Literal["measured"] = "measured"


@dataclass(frozen=True, kw_only=True, slots=True)
class Predicted:
    value: float
    unit: str
    low: float
    high: float
    extrapolated: bool
    conditions: Conditions = field(default_factory=dict)
    kind: Literal["predicted"] = "predicted"


@dataclass(frozen=True, kw_only=True, slots=True)
class Unavailable:
    reason: str
    awaits: str = ""  # the request that will bring the number, where one waits in a queue
    expected: Predicted | None = None  # what a model of the instrument says meanwhile, where a queue is asked
    kind: Literal["unavailable"] = "unavailable"


@dataclass(frozen=True, kw_only=True, slots=True)
class Failed:
    phase: str
    message: str
    kind: Literal["failed"] = "failed"


Known: TypeAlias = Counted | Measured | Predicted
Quantity: TypeAlias = Known | Unavailable | Failed


def known(quantity: Quantity) -> Known:
    """The quantity if it has a value, else a UserError that says why it has none."""
    if isinstance(quantity, Counted | Measured | Predicted):
        return quantity
    why = quantity.reason if isinstance(quantity, Unavailable) else f"{quantity.phase} failed: {quantity.message}"
    raise UserError(f"no value: {why}")


def known_or_expected(quantity: Quantity | None) -> Known | None:
    """Its value; where a queue is still asked, what a model of the instrument says meanwhile."""
    if isinstance(quantity, Unavailable):
        return quantity.expected
    return quantity if isinstance(quantity, Known) else None


def value_of(quantity: Quantity | None) -> float | None:
    """The number, where there is one."""
    return float(quantity.value) if isinstance(quantity, Known) else None
