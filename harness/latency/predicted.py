"""Latency on a named iPhone chip, predicted from the network's operators: needs no phone and no weights."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from harness.device.request import ComputeUnit
from harness.predictor import calibration
from harness.predictor.chips import chip_named
from harness.records.errors import UserError
from harness.records.quantity import Predicted, Unavailable

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, kw_only=True, slots=True)
class PredictedLatency:
    """Never a measurement: its quantity is `Predicted`, and its conditions name the chip."""

    chip: str = "A17 Pro"  # the iPhone 15 Pro's: the phone of the published ladder
    compute_unit: ComputeUnit = "CPU_AND_NE"
    weight_bits: int = 16  # below 16: palettized

    name: ClassVar[str] = "predicted"
    quantity: ClassVar[str] = "latency_predicted"
    needs_weights: ClassVar[bool] = False
    of_deployment: ClassVar[bool] = True

    def __post_init__(self) -> None:
        chip_named(self.chip)  # another one is a UserError that lists them
        if not 1 <= self.weight_bits <= 16:
            raise UserError(f"latency.{self.name}.weight_bits is 1 to 16, not {self.weight_bits}")

    def instrument(self) -> Mapping[str, Any]:
        """Another calibration predicts anew."""
        return {"calibration": calibration.read().fingerprint}

    def check(self) -> None:
        """It needs no machine but this."""

    def measure(self, module: "nn.Module", inputs: Sequence[Any]) -> Predicted | Unavailable:
        """Milliseconds of `module(*inputs)`, with an interval; Unavailable where the network is predicted not to fit
        the chip, or nothing is known of the compute unit. The first input is the latent (B, C, H, W)."""
        from harness.predictor.predict import predict_latency

        prediction = predict_latency(
            module, inputs, chip=self.chip, compute_unit=self.compute_unit, weight_bits=self.weight_bits
        )
        if not isinstance(prediction, Predicted):
            return prediction
        return replace(prediction, conditions={"device": "iPhone", **prediction.conditions})
