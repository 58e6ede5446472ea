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
    made = architecture(name)
    with torch.device("meta"):
        module = build(made)
    return module, example_inputs(made, latent=latent, device="meta")


def test_it_is_the_predictors_number_with_the_chip_in_its_conditions():
    module, inputs = on_meta("snapgen", 128)
    found = PredictedLatency(chip="A16", weight_bits=8).measure(module, inputs)
    wanted = predict_latency(module, inputs, chip="A16", weight_bits=8)
    assert isinstance(found, Predicted)
    assert (found.value, found.low, found.high) == (wanted.value, wanted.low, wanted.high)
    said = {name: found.conditions[name] for name in ("device", "chip", "compute_unit", "weight_bits", "latent")}
    assert said == {"device": "iPhone", "chip": "A16", "compute_unit": "CPU_AND_NE", "weight_bits": 8, "latent": 128}


def test_a_network_too_big_for_the_neural_engine_is_said_to_be_so():
    found = PredictedLatency().measure(*on_meta("decoder/sdxl", 128))
    assert isinstance(found, Unavailable)
    assert "not to fit the Neural Engine" in found.reason


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
