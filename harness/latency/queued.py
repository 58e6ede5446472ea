"""The seam for instruments that answer later, on another machine."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from harness.records.quantity import Failed, Quantity, Unavailable

if TYPE_CHECKING:
    from torch import nn


@runtime_checkable
class QueuedBackend(Protocol):
    """A LatencyBackend that asks a queue. None of its methods waits, and a queue out of reach stops no study."""

    queue: Path | None

    @property
    def quantity(self) -> str: ...

    def instrument(self) -> Mapping[str, Any]: ...

    def obstacle(self) -> Unavailable | None:
        """Why nothing can be asked at present; None where it can."""

    def submit(self, module: "nn.Module", inputs: Sequence[Any]) -> str | Unavailable | Failed:
        """The request's id; costs an export."""

    def collect(self, request: str) -> Quantity | None:
        """The answer, or Unavailable while it waits; None where the queue does not know the request."""
