"""How a model is timed on a device: everything that can change the number, in one value that is part of its identity.

First the outputs are compared with the float32 module's, because the Neural Engine has returned wrong numbers quickly
in other projects; Apple gates its own conversions at 35 dB (github.com/apple/ml-stable-diffusion, torch2coreml.py).
Then: load, warm up until two windows of runs agree, time `iterations` runs, and refuse a number that drifts.

Reported: the median, the interquartile range, the minimum, and the load time apart from them. The limits on
agreement, drift and cool-down are chosen, not fitted.
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from harness.records.errors import UserError
from harness.records.plain import fingerprint, identity

ComputeUnit: TypeAlias = Literal["CPU_AND_NE", "CPU_AND_GPU", "CPU_ONLY", "ALL"]
"""coremltools.ComputeUnit's names: what Core ML may use, not what it does use."""

FEWEST = 15  # runs: thirds of five, below which a third's median means nothing


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchmarkProtocol:
    compute_unit: ComputeUnit = "CPU_AND_NE"
    iterations: int = 60  # timed runs
    warm_up_window: int = 5  # untimed runs whose median is compared with that of the window before
    warm_up_tolerance: float = 0.05  # by which part two windows may differ to be called stable
    warm_up_most: int = 100  # untimed runs without stability, after which the measurement fails
    drift_limit: float = 0.10  # by which part the last third's median may differ from the first third's
    parity_db: float = 35.0  # the least PSNR of the device's outputs against the float32 module's
    cool_down_s: float = 60.0  # rest between two models

    def __post_init__(self) -> None:
        if self.iterations < FEWEST:
            raise UserError(f"protocol.iterations must be at least {FEWEST}, not {self.iterations}")
        if self.warm_up_window < 1 or self.warm_up_most < 2 * self.warm_up_window:
            raise UserError(
                "protocol.warm_up_most must hold two windows of protocol.warm_up_window runs, "
                f"not {self.warm_up_most} for windows of {self.warm_up_window}"
            )
        for name in ("warm_up_tolerance", "drift_limit", "parity_db"):
            if getattr(self, name) <= 0:
                raise UserError(f"protocol.{name} must be above 0, not {getattr(self, name)}")
        if self.cool_down_s < 0:
            raise UserError(f"protocol.cool_down_s must be at least 0, not {self.cool_down_s}")

    @property
    def fingerprint(self) -> str:
        return fingerprint(identity(self), schema="benchmark-protocol-1")
