"""A decoder's trial: what it learns from, prepared or encoded on the fly, in patches or whole; and what is refused."""

import json
import re
from functools import partial
from pathlib import Path

import pytest
import torch
from PIL import Image
from tiny_decoding import (
    CHANNELS,
    DECODING,
    SIZE,
    SQUARED_ERROR_ALONE,
    decoding_spec,
    lay_out,
    lay_out_prepared,
    made_by,
    pictures,
    prepared_data,
    tiny_decoder,
)
from tiny_study import write_yaml

from harness.architecture.catalogue import architecture, to_yaml
from harness.architecture.edits import with_edits
from harness.cli import main
from harness.models.weights import read_weights
from harness.records.errors import UserError
from harness.records.plain import to_plain
from harness.records.quantity import Measured
from harness.records.store import Store
from harness.training.randomness import HostDraws
from harness.trials.placed import placed_cost
from harness.trials.prepared import prepare
from harness.trials.run import run_trial
from harness.trials.settings import settings_of
from harness.trials.tasks import reconstructing
from harness.trials.tasks.reconstructing import FITTED

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return lay_out_prepared(tmp_path_factory.mktemp("decoding"))


@pytest.fixture
def spec_of(place):
    return partial(decoding_spec, place, f"out={place}/runs")


def test_prepared_or_encoded_the_pairs_are_the_same(place, spec_of):
    """But for the scale, which the files do not say, and which is measured where data is prepared."""
    flying, stored = prepare(spec_of().settings).task, prepare(spec_of(*prepared_data(place)).settings).task
    assert len(flying.data.train) == len(stored.data.train) > 0
    ((_, made, shown), *_) = flying.decoded(lambda z: torch.zeros(len(z), 3, SIZE, SIZE), CPU)
    ((_, _, again), *_) = stored.decoded(lambda z: torch.zeros(len(z), 3, SIZE, SIZE), CPU)
    assert torch.equal(shown, again)
    assert made.shape == shown.shape
    of_flying, of_stored = (next(iter(task.parts(task.data.train, [0, 3, 5], CPU))) for task in (flying, stored))
    assert torch.equal(of_flying[1], of_stored[1])
    scale = torch.tensor(stored.data.made_by["scale"]).view(1, -1, 1, 1)
    assert flying.data.made_by["scale"] == [1.0] * CHANNELS
    torch.testing.assert_close(of_flying[0] * scale, of_stored[0], rtol=1e-2, atol=1e-2)  # stored in float16


def test_patches_of_prepared_pairs_lie_over_each_other(place, spec_of):
    spec = spec_of(*prepared_data(place), "objective.patch=8")
    task = prepare(spec.settings).task
    assert task.shape == (CHANNELS, 1, 1)
    assert spec.latent == 1
    whole = task.data.pairs(torch.stack([task.data.train[number][0] for number in range(4)]), None)
    objective = task.objective(spec.architecture, 0)
    rows = torch.stack([task.data.train[number][0] for number in range(4)])
    batch = objective.batch(rows, torch.zeros(4), HostDraws(0, 1, range(4), 4))
    seen = set()
    for number in range(4):
        places = [(row, column) for row in range(2) for column in range(2)
                  if torch.equal(batch.latents[number, :, 0, 0], whole[0][number, :, row, column])]  # fmt: skip
        (place_of,) = places
        top, left = (8 * each for each in place_of)
        assert torch.equal(batch.pictures[number], whole[1][number, :, top : top + 8, left : left + 8])
        seen.add(place_of)
    assert len(seen) > 1


def test_the_record_says_what_was_decoded_and_how(place, spec_of, monkeypatch):
    monkeypatch.setattr(reconstructing, "AT_ONCE", 5)  # fewer than are shown
    tiles = {"side": 12, "overlap": 6, "blend": 2}
    spec = spec_of(
        *prepared_data(place), "task.tiled={side: 160, pictures: 3, tiles: {side: 12, overlap: 6, blend: 2}}"
    )
    record = run_trial(spec, place / "attempt")
    with Image.open(spec.store.artifact(record.key, "reconstructions.png")) as shown:
        assert shown.width / shown.height == pytest.approx(reconstructing.SHOWN / 3, rel=0.05)
    section = to_plain(record.protocol)
    assert section["autoencoder"]["kind"] == "tiny"
    assert section["task"]["kind"] == "decode"
    assert str(place) not in json.dumps(section)
    training = read_weights(spec.store.artifact(record.key, "ema.safetensors")).training
    assert (training.task, training.latent, to_plain(training.autoencoder)) == ("decode", 2, section["autoencoder"])
    assert {"train_loss.mse", "train_loss.adaptive_weight", "discriminator_loss.real_accuracy"} <= {
        point.name for point in record.curve
    }
    for name in ("psnr", "ssim", "colour_error", "reconstruction_fd"):
        assert record.quantities[name].conditions["latents"] == "the encoder's means"
        assert record.quantities[name].conditions["samples"] == 12
    in_tiles = record.quantities["in_tiles"]
    assert (in_tiles.unit, in_tiles.conditions["tiles"], in_tiles.conditions["side"]) == ("dB", tiles, 160)
    assert in_tiles.conditions["samples"] == 3
    assert 10 < in_tiles.low < in_tiles.value < in_tiles.high < 120  # its middle has a norm
    assert record.quantities["validation_loss"].conditions["validation"] == "mean squared error of pixels in -1..1"


def test_it_learns(place, spec_of):
    """By squared error alone: the longer, the closer. The controls have their scores."""
    specs = [spec_of(*SQUARED_ERROR_ALONE, "recipe.learning_rate=0.01", f"recipe.steps={steps}") for steps in (2, 60)]
    few, many = (run_trial(each, place / f"attempt-{number}") for number, each in enumerate(specs))
    assert many.quantities["psnr"].value > few.quantities["psnr"].value + 3
    task = prepare(specs[0].settings).task
    fitted = {"own_decoder": None, "linear": len(task.pairs.train), "nearest": len(task.pairs.train)}
    for name, count in fitted.items():
        psnr = task.control(name, specs[0].architecture)["psnr"]
        assert isinstance(psnr, Measured)
        assert psnr.conditions.get("training_pictures") == count


def test_controls_are_fitted_to_as_many_pictures_as_memory_holds(spec_of, monkeypatch):
    task = prepare(spec_of().settings).task
    monkeypatch.setattr("harness.trials.tasks.reconstructing.FITTED_VALUES", 5 * 3 * SIZE**2 + 1)
    assert len(task.fitted_to) == 5
    psnr = task.control("linear", tiny_decoder())["psnr"]
    assert psnr.conditions["training_pictures"] == 5


@pytest.mark.slow
def test_all_three_losses_train_and_are_on_record_with_what_judged_them(place, spec_of):
    """The embedded VGG16's, and PatchGAN's from its step on, the second."""
    words = ["data.size=24", "task.perceptual.kind=st_lpips", "objective.perceptual_weight=1"]
    spec = spec_of(*words, "recipe.steps=3", "recipe.batch_size=4", "recipe.micro_batch=null")
    record = run_trial(spec, place / "attempt-three")
    curve = {(point.name, point.step): point.value for point in record.curve}
    for part in ("mse", "perceptual", "adversarial"):
        assert (f"train_loss.{part}", 3) in curve
    assert curve["train_loss.perceptual", 3] > 0
    assert curve["discriminator_gradient_norm", 1] == 0 < curve["discriminator_gradient_norm", 3]
    assert "ST-LPIPS-VGG" in record.quantities["st_lpips"].conditions["label"]


def check_operators_are_the_twins(page):
    """Of each rung their milliseconds add up to what is predicted of the same edits of the twin's base."""
    (shown,) = re.findall(r'<section[^>]*id="operators".*?</section>', page, re.DOTALL)
    assert "of the same edits on decoder/tiny at a 8x8 latent" in " ".join(shown.split())
    tags = [dict(re.findall(r'data-(subject|operator|value)="([^"]*)"', tag)) for tag in re.findall(r"<[^>]*>", shown)]
    cells = {(each["subject"], each["operator"]): float(each["value"]) for each in tags if "operator" in each}
    twin = architecture("decoder/tiny")
    wide = with_edits(twin, {"stages.3.channels": 160})
    for name, config in {"one": twin, "wide": wide, "no_norm": with_edits(wide, {"middle.norm": False})}.items():
        parts = [ms for (subject, operator), ms in cells.items() if subject == name and operator != "all"]
        predicted = placed_cost(config, 8).latency.value
        assert sum(parts) == pytest.approx(cells[name, "all"]) == pytest.approx(predicted)


def test_an_ablation_has_a_page_with_controls(place, workplace, capsys):
    Path("decoder.yaml").write_text(to_yaml(tiny_decoder()))
    rungs = [
        {"name": "one", "title": "One"},
        {"name": "wide", "title": "Wide", "edits": {"stages.3.channels": 16}, "twin": {"stages.3.channels": 160}},
        {"name": "no_norm", "title": "No norm", "edits": {"middle.norm": False}},
    ]
    ladder = {"base": "decoder.yaml", "mode": "cumulative", "rungs": rungs}
    overlap = 2 * tiny_decoder().reach + 2
    tiles = {"side": overlap + 2, "overlap": overlap, "blend": 2}
    tiled = {"task.tiled": {"side": 8 * (overlap + 4), "pictures": 1, "tiles": tiles}}
    twin = {"base": "decoder/tiny", "latent": 8}
    write_yaml(Path("sweeps/decoders.yaml"), {"architecture": ladder, "twin": twin, "settings": DECODING | tiled})
    sections = ["summary", "printed", "table", "tiles", "operators", "zoom", "samples", "controls"]
    write_yaml(Path("reports/decoders.yaml"), {"published": "tab2", "sections": sections})
    words = ["ablate", "decoders", *pictures(place), *made_by(place)]
    assert main([*words, "--dry-run"]) == 0
    assert "3 trainings, and one of controls" in capsys.readouterr().out
    assert main(words) == 0
    assert "done, PSNR " in capsys.readouterr().err
    page = Path("runs/decoders/report.html").read_text()
    assert "a linear decoder fitted by least squares; what needs no network" in page
    assert f"of at most {FITTED:,} training pictures that whose latent is nearest" in page
    assert "eight times the difference" in page
    assert "KID" not in page
    printed = page.split('id="printed"')[1].split("</section>")[0]
    assert printed.index("On the Neural Engine") < printed.index("On the GPU") < printed.index("PSNR, here")
    assert "54.4x compares the SDXL decoder on the GPU with the tiny one on the Neural Engine" in printed
    assert page.count("by its group norm a pixel depends on the whole latent") == 2
    assert page.count("are left out of a tile: the same arithmetic") == page.count('"no_norm" data-equal="True"') == 1
    assert all(f'data-zoom="{rung["name"]}"' in page for rung in rungs)
    assert page.count('name="zoom"') == 12  # as many pictures as the sheet shows
    assert "Below a mean stands its distance" not in page, "of one seed, whose spread is not known"
    assert "between the floor" not in page
    reasons = re.findall(r"beaten (by [^<\"]*)", page)
    assert any("linear, PSNR" in each for each in reasons)
    assert not [each for each in reasons if "Colour error" in each or "FD of" in each], "by these controls are no worse"
    check_operators_are_the_twins(page)
    assert main(["config", "decoders", *pictures(place), *made_by(place)]) == 0
    key = next(iter(Store(Path("runs/store")).trials())).key
    assert main(["sample", key]) != 0
    assert "is of task=decode, and no pictures are sampled" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["objective.discriminator.layers=2", "data.size=8"], "layers=2 judges pictures from 12 px, and these have 8"),
        (["objective.patch=12"], "objective.patch=12 is to be a multiple of the autoencoder's 8 pixels, up to"),
        (["objective.patch=32"], "up to the pictures' 16; give objective.patch=16"),
        (["data.color=grayscale"], "encodes pictures of 3 channels, and these have 1"),
        (["recipe.micro_batch=4"], "weighs by the gradients of a whole batch"),
        (["text=minilm"], "text says something of a task's text, and task=decode has none"),
        (["task.tiled={side: 1025}"], "task.tiled.side must be a multiple of 8, as this autoencoder's pictures are"),
        (["task.tiled={side: 768}"], "a latent of 96 x 96 cells, and tiles of task.tiled.tiles.side=96 hold all of it"),
        (["task.tiled={pictures: 0}"], "task.tiled.pictures is at least 1, not 0"),
        (["task.pictures=1"], "task.pictures is a number of held-out pictures from 2, not 1"),
    ],
)
def test_what_cannot_be_is_a_sentence(spec_of, overrides, sentence):
    with pytest.raises(UserError, match=sentence):
        spec_of(*overrides)


def test_another_autoencoders_latents_and_other_sizes_are_refused(place, spec_of, tmp_path):
    other = lay_out(tmp_path)
    encoder = torch.load(other / "encoder.pth", weights_only=True)
    torch.save({name: tensor * 1.01 for name, tensor in encoder.items()}, other / "encoder.pth")
    settings = settings_of([*prepared_data(place), *made_by(other), f"out={place}/runs"], DECODING)
    with pytest.raises(UserError, match="autoencoder=tiny did not make these latents: its weights is"):
        prepare(settings)
    with pytest.raises(UserError, match="autoencoder=pixels makes none; give autoencoder=tiny"):
        prepare(settings_of([*pictures(place), f"out={place}/runs"], DECODING))
    fewer = with_edits(tiny_decoder(), {"stages": to_plain(tiny_decoder().stages)[:3]})
    with pytest.raises(UserError, match=r"a decoder of 3 stages makes pictures of 4 times .* give one of 4 stages"):
        prepare(spec_of().settings).adapt_to_data(fewer)


def test_a_decoder_of_another_autoencoders_latents_is_nothing_to_begin_with(place, spec_of):
    spec = spec_of("recipe.steps=2", "recipe.validate_every=2")
    key = run_trial(spec, place / "first").key
    assert prepare(spec_of(f"initial={key}").settings).initial is not None
    with pytest.raises(UserError, match=r"decodes latents of another autoencoder than this data's: its scale is \[1"):
        spec_of(*prepared_data(place), f"initial={key}")
