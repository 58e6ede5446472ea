"""The seam for instruments that answer later, on another machine."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from harness.latency.config import LatencyBackend
from harness.latency.predicted import PredictedLatency
from harness.records.quantity import Failed, Quantity, Unavailable

if TYPE_CHECKING:
    from torch import nn


@runtime_checkable
class QueuedBackend(LatencyBackend, Protocol):
    """One that asks a queue. None of its methods waits, and a queue out of reach stops no study."""

    queue: Path | None

    @property
    def predictor(self) -> PredictedLatency | None:
        """What says how long it may take, until it is measured; None where nothing is known of such a device."""

    def obstacle(self) -> Unavailable | None:
        """Why nothing can be asked at present; None where it can."""

    def submit(self, module: "nn.Module", inputs: Sequence[Any]) -> str | Unavailable | Failed:
        """The request's id; costs an export."""

    def collect(self, request: str) -> Quantity | None:
        """The answer, or Unavailable while it waits; None where the queue does not know the request."""
