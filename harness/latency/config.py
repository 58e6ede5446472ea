"""How long one forward pass takes, on which device: the backends and the setting that chooses among them.

A backend is a frozen dataclass of its own settings, in a file of its own, with a `name`, the `quantity` that it
fills in a record, what else tells one measurement from another (`instrument`), and `measure`; what needs torch is in a
file beside it (`..._run.py`). Registering it is one line: its field in LatencyConfig.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Protocol

from harness.latency.cpu import CpuLatency
from harness.latency.iphone import IphoneLatency
from harness.latency.mac import MacLatency
from harness.latency.onnx import OnnxLatency
from harness.latency.predicted import PredictedLatency
from harness.records.errors import UserError
from harness.records.quantity import Quantity

if TYPE_CHECKING:
    from torch import nn


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

    def measure(self, module: "nn.Module", inputs: Sequence[Any]) -> Quantity:
        """The time of `module(*inputs)` in ms, or why there is none; the module is left as it was."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LatencyConfig:
    latent: int | None = None  # side of the latent to measure at; null: the data's own
    cpu: CpuLatency | None = None  # null: not measured
    onnx: OnnxLatency | None = None
    predicted: PredictedLatency | None = None
    iphone: IphoneLatency | None = None
    mac: MacLatency | None = None

    def __post_init__(self) -> None:
        if self.latent is not None and self.latent < 1:
            raise UserError(f"latency.latent must be at least 1, not {self.latent}; or null for the data's own size")

    @property
    def backends(self) -> tuple[LatencyBackend, ...]:
        """The chosen backends, in the order of their registration."""
        values = (getattr(self, field.name) for field in fields(self) if field.name != "latent")
        return tuple(value for value in values if value is not None)
