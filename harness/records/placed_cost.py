"""What a network costs place by place and operator by operator: counted, and predicted for a chip. Computed where the
network can be built (`harness.trials.placed`), shown by pages, which cannot."""

from collections.abc import Mapping
from dataclasses import dataclass

from harness.records.quantity import Predicted, Unavailable


@dataclass(frozen=True, kw_only=True, slots=True)
class Share:
    """What one place, or all operators of one name, add to the whole."""

    params: int = 0
    """0 of operators: parameters belong to places."""
    macs: int = 0
    calls: int = 0
    ms: float | None = None
    """Predicted; None where nothing is predicted of the whole."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PlacedCost:
    latent: int
    """Height and width that all of it is for."""
    chip: str
    """That the latency is predicted for."""
    places: Mapping[str, Share]
    """By place of the network's outline, in the order of execution; behind them what embeds time and condition."""
    operators: Mapping[str, Share]
    """By name, the one that takes the most time first."""
    latency: Predicted | Unavailable
    """Of the whole: the places' milliseconds and `fixed_ms`, with an interval that only the whole has."""
    fixed_ms: float = 0.0
    """Of a prediction, wherever it is spent."""

    @property
    def params(self) -> int:
        return sum(share.params for share in self.places.values())

    @property
    def macs(self) -> int:
        return sum(share.macs for share in self.places.values())
