"""The cheap gates: what is known of a candidate before it is trained, against the hard limits."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite

from harness.architecture.config import ArchitectureConfig
from harness.records.quantity import Counted, Quantity, value_of
from harness.trials.costs import before_training
from harness.trials.limits import checks, violated
from harness.trials.prepared import Prepared
from harness.trials.twins import Twin

UNKNOWN = 1.0
"""The violation of a limit that cannot be checked, as if the value were twice the limit: chosen, because a sampler
knows no unknown, and an infinity is no JSON."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Gated:
    quantities: Mapping[str, Quantity]
    violations: Mapping[str, float]  # limit -> value / limit - 1: at most 0 where it is met
    refusal: str | None  # the sentence for the first limit that is not met

    @property
    def values(self) -> dict[str, float]:
        """The numbers that are known, by quantity; what was not counted says so: `latency_ms_predicted`."""
        known = {_name(name, quantity): value_of(quantity) for name, quantity in self.quantities.items()}
        return {name: value for name, value in known.items() if value is not None}


def _name(name: str, quantity: Quantity) -> str:
    says_so = isinstance(quantity, Counted) or name.endswith(quantity.kind)
    return name if says_so else f"{name}_{quantity.kind}"


def gate(prepared: Prepared, architecture: ArchitectureConfig, twin: Twin | None = None) -> Gated:
    """Count the candidate and its deployment twin, predict what a limit on latency asks for, and hold the settings'
    limits."""
    settings = prepared.settings
    quantities = before_training(prepared.spec("", architecture, settings.seeds[0], twin=twin))
    return Gated(
        quantities=quantities,
        violations={
            check.name: check.excess if isfinite(check.excess) else UNKNOWN
            for check in checks(quantities, settings.limits)
        },
        refusal=violated(quantities, settings.limits),
    )
