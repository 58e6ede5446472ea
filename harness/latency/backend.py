"""What every latency backend has: one that answers at once, and one that asks a queue and answers later.

A backend is a file: a frozen dataclass of its settings with `measure`. Settings are read without torch, so a backend
imports what measures where it measures. Registering it is one line: its field in LatencyConfig.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from harness.coreml.config import Mlprogram
from harness.records.errors import UserError
from harness.records.quantity import Failed, Quantity, Unavailable

if TYPE_CHECKING:
    from torch import nn

    from harness.latency.predicted import PredictedLatency


class LatencyBackend(Protocol):
    @property
    def name(self) -> str:
        """`cpu`: the field in LatencyConfig."""

    @property
    def quantity(self) -> str:
        """`latency_cpu`: the name in a record's quantities."""

    @property
    def needs_weights(self) -> bool:
        """False: the module may be on the meta device."""

    @property
    def of_deployment(self) -> bool:
        """Whether it stands for the machine that the network is meant for: a study with a deployment twin asks it for
        the twin alone."""

    def instrument(self) -> Mapping[str, Any]:
        """What takes the number besides the settings (processor, versions), plain: another instrument measures anew."""

    def check(self) -> None:
        """UserError where this machine can never take the number; asked before a study begins."""

    def measure(self, module: "nn.Module", inputs: Sequence[Any]) -> Quantity:
        """The time of `module(*inputs)` in ms, or why there is none; the module is left as it was. The first input is
        the latent (B, C, H, W)."""


@runtime_checkable
class QueuedBackend(LatencyBackend, Protocol):
    """One that asks a queue. None of its methods waits, and a queue out of reach stops no study."""

    queue: Path | None

    @property
    def predictor(self) -> "PredictedLatency | None":
        """What says how long it may take, until it is measured; None where nothing is known of such a device."""

    def obstacle(self) -> Unavailable | None:
        """Why nothing can be asked at present; None where it can."""

    def submit(self, module: "nn.Module", inputs: Sequence[Any]) -> str | Unavailable | Failed:
        """The request's id; costs an export."""

    def collect(self, request: str) -> Quantity | None:
        """The answer, or Unavailable while it waits; None where the queue does not know the request."""


def check_export(backend: str, config: Mlprogram) -> None:
    """Refuse a setting of the export that the latency's own would contradict."""
    if config.latent is not None:
        raise UserError(
            f"latency.{backend}.export.latent is for coreml.latent alone; set latency.latent={config.latent}"
        )
