"""`harness latency predict`: one JSON object for every name and chip, and one sentence for a mistake."""

import json
from time import perf_counter

import pytest

from harness.architecture.catalogue import architecture, catalogue_names
from harness.cli import main
from harness.measure.cost import count
from harness.predictor.chips import CHIPS
from harness.predictor.networks import catalogue_network, timm_network
from harness.predictor.operators import operators_of
from harness.predictor.own import own_points
from harness.predictor.predict import predict_operators
from harness.records.quantity import Measured
from harness.records.record import Measurement
from harness.records.store import Store


def predicted(capsys, *words):
    assert main(["latency", "predict", *words, "--json"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    return json.loads(line)


@pytest.mark.slow
@pytest.mark.parametrize("name", catalogue_names())
def test_every_name_on_every_chip_in_under_50_ms_each(name):
    operators = operators_of(count(*catalogue_network(name, architecture(name).native_latent or 128)).rows)
    for chip in CHIPS:
        spent = []
        for _ in range(3):
            begun = perf_counter()
            prediction = predict_operators(operators, chip=chip)
            spent.append(perf_counter() - begun)
        assert prediction.kind in ("predicted", "unavailable")
        assert min(spent) < 0.05
        if prediction.kind == "predicted":
            assert 0 < prediction.low < prediction.value < prediction.high


def test_a_timm_model_is_folded_first(capsys):
    answer = predicted(capsys, "timm:repvit_m1_0", "--input", "3x224x224", "--chip", "A15")
    assert answer["kind"] == "predicted"
    assert answer["low_ms"] < answer["latency_ms"] < answer["high_ms"]
    assert answer["extrapolated"] is False
    assert answer["inputs"] == [[1, 3, 224, 224]]
    unfolded = operators_of(count(*timm_network("repvit_m1_0", (3, 224, 224), folded=False)).rows)
    assert answer["latency_ms"] < predict_operators(unfolded, chip="A15").value


def test_stable_diffusions_unets_by_name_at_a_batch(capsys):
    one, two = (predicted(capsys, "diffusers:sd1.5", "--chip", "M1", "--batch", n, "--weight-bits", "6") for n in "12")
    assert one["inputs"] == [[1, 4, 64, 64], [1], [1, 77, 768]]
    assert [shape[0] for shape in two["inputs"]] == [2, 2, 2]
    assert two["latency_ms"] > 1.5 * one["latency_ms"]


def test_what_does_not_fit_is_unavailable_and_no_mistake(capsys):
    answer = predicted(capsys, "decoder/sdxl", "--latent", "128", "--chip", "A17 Pro")
    assert answer["kind"] == "unavailable"
    assert "latency_ms" not in answer
    assert "not to fit" in answer["reason"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["snapgen"], "A18 Pro"),
        (["snapgen", "--chip", "M4"], "unknown chip 'M4'"),
        (["timm:resnet18", "--chip", "A15", "--input", "3x224"], "CHANNELSxHEIGHTxWIDTH"),
        (["timm:resnet19", "--chip", "A15"], "resnet18"),
        (["timm:vit_tiny_patch16_224", "--chip", "A15", "--input", "3x100x100"], "give another --input"),
        (["snapgen", "--chip", "A15", "--input", "3x224x224"], "--latent"),
        (["laptop/dit", "--chip", "A15", "--weight-bits", "0"], "at most 16 bits"),
        (["laptop/dit", "--chip", "A15", "--batch", "0"], "--batch is 1 or more"),
        (["diffusers:sd3", "--chip", "A15"], "sdxl, sd2.1, sd1.5"),
        (["diffusers:sdxl", "--chip", "A15", "--latent", "20"], "multiple of 8"),
    ],
)
def test_a_mistake_is_one_sentence(words, sentence, capsys):
    assert main(["latency", "predict", *words]) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert len(error.splitlines()) == 1


def test_own_measurements_become_points_or_are_named(tmp_path):
    store, config = Store(tmp_path), architecture("laptop/dit")

    def put(fingerprint, **conditions):
        number = Measured(value=2.0, unit="ms", conditions=conditions)
        settings = {"architecture": fingerprint, "latent": 8, "of": conditions}
        store.put(Measurement(subject="latency", settings=settings, quantities={"latency_iphone": number}))

    engine = {"chip": "A17 Pro", "compute_unit": "CPU_AND_NE", "on_engine": True}
    put(config.fingerprint, **engine, weight_bits=8)
    put(config.fingerprint, **{**engine, "on_engine": False}, engine_doubt="80% of the planned cost is on it")
    put(config.fingerprint, chip="not named", compute_unit="CPU_AND_NE")
    put(config.fingerprint, chip="A17 Pro", compute_unit="CPU_ONLY")
    put("0" * 16, **engine)
    put(config.fingerprint, device="this CPU")
    (point,), unused = own_points(store)
    assert (point.model, point.chip, point.latency_ms, point.weight_bits) == (config.fingerprint, "A17 Pro", 2.0, 8)
    assert len(point.operators)
    assert sorted(left.why.split()[0] for left in unused) == ["its", "measured", "not", "the"]
