"""The predictor as a backend: a prediction that names its chip, from shapes alone, and never a measurement."""

import dataclasses

import pytest
import torch

from harness.architecture.catalogue import architecture
from harness.latency.cpu import CpuLatency
from harness.latency.predicted import PredictedLatency
from harness.models.build import build, example_inputs
from harness.predictor import calibration
from harness.predictor.predict import predict_latency
from harness.records.quantity import Predicted, Unavailable


def on_meta(name: str, latent: int):
    config = architecture(name)
    with torch.device("meta"):
        module = build(config)
    return module, example_inputs(config, latent=latent, device="meta")


def test_it_is_the_predictors_number_with_the_chip_in_its_conditions():
    module, inputs = on_meta("snapgen", 128)
    latency = PredictedLatency(chip="A16", weight_bits=8).measure(module, inputs)
    expected = predict_latency(module, inputs, chip="A16", weight_bits=8)
    assert isinstance(latency, Predicted)
    assert (latency.value, latency.low, latency.high) == (expected.value, expected.low, expected.high)
    names = ("device", "chip", "compute_unit", "weight_bits", "latent")
    values = tuple(latency.conditions[name] for name in names)
    assert values == ("iPhone", "A16", "CPU_AND_NE", 8, 128)


def test_a_network_too_big_for_the_neural_engine_is_said_to_be_so():
    latency = PredictedLatency().measure(*on_meta("decoder/sdxl", 128))
    assert isinstance(latency, Unavailable)
    assert "not to fit the Neural Engine" in latency.reason


def test_real_weights_and_the_meta_device_give_the_same(net, inputs):
    real = PredictedLatency().measure(net, inputs)
    assert real == PredictedLatency().measure(net.to("meta"), tuple(x.to("meta") for x in inputs))


def test_another_calibration_predicts_anew_and_another_processor_does_not(monkeypatch):
    before = PredictedLatency().instrument()
    assert before == {"calibration": calibration.read().fingerprint}
    assert not before.keys() & CpuLatency().instrument().keys()
    other = dataclasses.replace(calibration.read(), half_width=0.5)
    monkeypatch.setattr(calibration, "read", lambda: other)
    assert PredictedLatency().instrument() != before


@pytest.mark.parametrize("unit", ["CPU_AND_GPU", "CPU_ONLY"])
def test_a_compute_unit_without_data_is_no_guess(unit, net, inputs):
    assert isinstance(PredictedLatency(compute_unit=unit).measure(net, inputs), Unavailable)
