"""The on-device total: its arithmetic, what kind of number it is, and where its parts come from."""

import json

import pytest

from harness.architecture.catalogue import architecture
from harness.cli import main
from harness.commands.latency_total import published_of
from harness.latency.predicted import PredictedLatency
from harness.records.errors import UserError
from harness.records.quantity import Failed, Measured, Predicted, Unavailable
from harness.records.record import Measurement
from harness.records.store import Store
from harness.trials import on_device
from harness.trials.on_device import check_pair, latency_on_chip, total

PHONE = {"chip": "A18 Pro", "compute_unit": "CPU_AND_NE", "device": "iPhone"}
UNET = Measured(value=274, unit="ms", low=270, high=280, conditions=PHONE)
DECODER = Measured(value=119, unit="ms", conditions=PHONE)
GUESS = Predicted(value=144, unit="ms", low=77, high=269, extrapolated=True)
SMALL = "laptop/thin_sdxl"


def put(store, name, quantity, *, latent=8, backend="iphone"):
    settings = {"architecture": architecture(name).fingerprint, "latent": latent, "backend": backend}
    store.put(Measurement(subject="latency", settings=settings, quantities={f"latency_{backend}": quantity}))


@pytest.mark.parametrize(("steps", "published_s"), [(4, 1.2), (8, 2.3)])
def test_the_papers_parts_add_up_to_its_totals(steps, published_s):
    """274 ms a step, 119 ms for the decoder, 1.2 s and 2.3 s in all: SnapGen, iPhone 16 Pro Max."""
    summed = total(UNET, DECODER, steps)
    assert summed.value == steps * 274 + 119
    assert round(summed.value / 1000, 1) == published_s
    assert published_of("snapgen_t2i", "decoder/tiny", "a18 pro", 128)[steps][0] == pytest.approx(1000 * published_s)


@pytest.mark.parametrize(
    "other",
    [
        ("snapgen", "decoder/tiny", "A18 Pro", 128),
        ("snapgen_t2i", "decoder/sd3", "A18 Pro", 128),
        ("snapgen_t2i", "decoder/tiny", "A17 Pro", 128),
        ("snapgen_t2i", "decoder/tiny", "A18 Pro", 64),
    ],
)
def test_nothing_is_published_of_another_pair_chip_or_latent(other):
    assert published_of(*other) == {}


def test_intervals_are_added_and_a_part_without_one_adds_its_value():
    assert (total(UNET, DECODER, 4).low, total(UNET, DECODER, 4).high) == (4 * 270 + 119, 4 * 280 + 119)
    mixed = total(UNET, GUESS, 8)
    assert (mixed.low, mixed.high) == (8 * 270 + 77, 8 * 280 + 269)


@pytest.mark.parametrize(
    ("unet", "decoder", "kind"),
    [(UNET, DECODER, Measured), (UNET, GUESS, Predicted), (GUESS, DECODER, Predicted), (GUESS, GUESS, Predicted)],
)
def test_a_sum_with_a_predicted_part_is_predicted(unet, decoder, kind):
    summed = total(unet, decoder, 4)
    assert isinstance(summed, kind)
    assert summed.conditions == {"steps": 4, "unet": unet.kind, "decoder": decoder.kind}
    assert getattr(summed, "extrapolated", False) == (kind is Predicted)


def test_a_part_without_a_value_is_named_and_gives_no_total():
    for lost, why in (
        (Unavailable(reason="too big"), "too big"),
        (Failed(phase="benchmark", message="drifts"), "drifts"),
    ):
        assert total(UNET, lost, 4).reason.startswith("the decoder's latency is not known")
        assert why in total(lost, DECODER, 4).reason
    with pytest.raises(UserError, match="at least 1 step, not 0"):
        total(UNET, DECODER, 0)


def test_measured_where_the_store_has_it_for_that_chip_latent_and_unit_else_predicted(tmp_path):
    store, config, predictor = Store(tmp_path), architecture(SMALL), PredictedLatency(chip="A18 Pro")
    for conditions in ({"chip": "A17 Pro"}, {"compute_unit": "CPU_AND_GPU"}, {"weight_bits": 4}):
        put(store, SMALL, Measured(value=1.0, unit="ms", conditions=PHONE | conditions))
        assert isinstance(latency_on_chip(store, config, 8, predictor), Predicted)
    put(store, SMALL, Measured(value=1.0, unit="ms", conditions=PHONE), latent=16)
    put(store, "laptop/dit", Measured(value=1.0, unit="ms", conditions=PHONE))
    assert isinstance(latency_on_chip(store, config, 8, predictor), Predicted)
    put(store, SMALL, Measured(value=2.0, unit="ms", conditions=PHONE | {"chip": "a18 pro"}), backend="iphone")
    put(store, SMALL, Measured(value=3.0, unit="ms", conditions=PHONE), backend="mac")
    assert latency_on_chip(store, config, 8, predictor).value == 3.0  # the slower of two


def test_a_store_whose_chips_are_not_looked_at_would_be_seen(tmp_path, monkeypatch):
    store, predictor = Store(tmp_path), PredictedLatency(chip="A18 Pro")
    put(store, SMALL, Measured(value=1.0, unit="ms", conditions=PHONE | {"chip": "A14"}))
    monkeypatch.setattr(on_device, "measured_on", lambda *_, **__: True)
    assert isinstance(latency_on_chip(store, architecture(SMALL), 8, predictor), Measured)


@pytest.mark.parametrize(
    ("unet", "decoder", "why"),
    [
        ("decoder/tiny", "decoder/tiny", "denoises"),
        ("snapgen", "snapgen", "--decoder is a decoder"),
        ("sdxl", "decoder/tiny", "4 channels and the decoder takes 16"),
    ],
)
def test_what_cannot_be_a_pair_is_refused(unet, decoder, why):
    with pytest.raises(UserError, match=why):
        check_pair(architecture(unet), architecture(decoder))


def test_the_command_tells_parts_totals_kinds_and_what_is_published(capsys, tmp_path):
    put(Store(tmp_path / "store"), "snapgen_t2i", UNET, latent=128)
    words = ["latency", "total", "snapgen_t2i", "--decoder", "decoder/tiny", "--chip", "A18 Pro", f"out={tmp_path}"]
    assert main([*words, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["unet_latency"]["kind"] == "measured"
    assert answer["decoder_latency"]["kind"] == "predicted"
    assert answer["decoder_latency"]["fitted_to"].startswith("the paper's tiny decoder")
    assert "fitted_to" not in answer["unet_latency"]
    assert [(one["steps"], one["kind"], one["published_ms"]) for one in answer["totals"]] == [
        (4, "predicted", 1200), (8, "predicted", 2300),
    ]  # fmt: skip
    assert answer["totals"][0]["latency_ms"] == 4 * 274 + answer["decoder_latency"]["latency_ms"]
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert "predicted, extrapolated" in shown
    assert "1,200 [P]" in shown
    assert "fitted, so that meeting it proves little: the data have the paper's tiny decoder" in shown


def test_an_unknown_chip_lists_the_chips(capsys):
    assert main(["latency", "total", "snapgen", "--decoder", "decoder/tiny", "--chip", "A99"]) == 2
    error = capsys.readouterr().err
    assert "A17 Pro" in error
    assert error.count("\n") == 1
