"""How long one forward pass takes, on which device: the setting that chooses among the backends."""

from dataclasses import dataclass, fields

from harness.latency.backend import LatencyBackend
from harness.latency.cpu import CpuLatency
from harness.latency.iphone import IphoneLatency
from harness.latency.mac import MacLatency
from harness.latency.onnx import OnnxLatency
from harness.latency.predicted import PredictedLatency
from harness.records.errors import UserError


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
