"""The cheap gates: what is known of a candidate before it is trained, against the hard limits."""

from collections.abc import Mapping
from dataclasses import dataclass

from harness.architecture.config import ArchitectureConfig
from harness.records.quantity import Counted, Quantity
from harness.trials.costs import counted
from harness.trials.prepared import Prepared, latent_of
from harness.trials.progress import value_of
from harness.trials.spec import violated


@dataclass(frozen=True, kw_only=True, slots=True)
class Gated:
    quantities: Mapping[str, Quantity]
    violations: Mapping[str, float]  # limit -> value / limit - 1: at most 0 where it is met
    refusal: str | None  # the sentence for the first limit that is not met

    @property
    def values(self) -> dict[str, float]:
        """The numbers that are known, by quantity."""
        known = {name: value_of(quantity) for name, quantity in self.quantities.items()}
        return {name: value for name, value in known.items() if value is not None}


def gate(prepared: Prepared, architecture: ArchitectureConfig) -> Gated:
    """Count the candidate, fitted to the data, and hold the settings' limits."""
    limits = prepared.settings.limits
    quantities: dict[str, Quantity] = dict(counted(architecture, latent_of(prepared.settings, prepared.data)))
    refusal = violated(quantities, limits)
    violations = {}
    for name, limit in limits.items():
        quantity = quantities[name]
        assert isinstance(quantity, Counted)
        violations[name] = quantity.value / limit - 1
    return Gated(quantities=quantities, violations=violations, refusal=refusal)
