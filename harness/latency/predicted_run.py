"""Predicting a module's latency, as the settings of the backend ask."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from harness.latency.predicted import PredictedLatency
from harness.predictor.predict import predict_latency
from harness.records.quantity import Predicted, Unavailable


def predict(settings: PredictedLatency, module: nn.Module, inputs: Sequence[Any]) -> Predicted | Unavailable:
    """Milliseconds of `module(*inputs)`, with an interval; Unavailable where the network is predicted not to fit
    the chip, or nothing is known of the compute unit. The first input is the latent (B, C, H, W)."""
    found = predict_latency(
        module, inputs, chip=settings.chip, compute_unit=settings.compute_unit, weight_bits=settings.weight_bits
    )
    if not isinstance(found, Predicted):
        return found
    return replace(found, conditions={"device": "iPhone", **found.conditions})
