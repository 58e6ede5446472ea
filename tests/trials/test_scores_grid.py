"""`harness evaluate --guidance --steps`: one checkpoint's scores over guidance and steps."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from tiny_study import SETTINGS
from whole_images import sample_images

from harness.cli import main
from harness.data.dataset import load_dataset
from harness.diffusion.config import SamplingConfig
from harness.measure.quality import quality
from harness.measure.quality_config import QualityConfig
from harness.measure.quality_features import extract
from harness.measure.quality_reference import load_reference
from harness.measure.quality_reference_files import quality_identity
from harness.models.extractor_config import EfficientNetLite0Extractor, InceptionV3Extractor
from harness.models.weights import read_weights
from harness.records.errors import UserError
from harness.records.store import Store
from harness.trials.prepared import prepare
from harness.trials.scores.request import ranked_by, sampling_grid
from harness.trials.settings import settings_of
from harness.trials.spec import cache_folder
from harness.trials.trained import network_and_settings, quality_of, trained_network

QUALITY = [f"{name}={value}" for name, value in SETTINGS.items() if name.startswith("quality.")]
GRID = ["--guidance", "1", "2", "--steps", "2", "3"]


def swept(spec, capsys, *words):
    assert main(["evaluate", spec.key, *words, "--json", *QUALITY]) == 0
    return json.loads(capsys.readouterr().out)


def scores_stored():
    return [each for each in Store(Path("runs/store")).measurements() if each.subject == "score"]


@pytest.fixture
def empty(spec):
    """The trial, of which no score is stored."""
    store = Store(Path("runs/store"))
    for each in scores_stored():
        store.delete(each)
    return spec


def test_each_point_has_the_scores_of_its_own_samples(empty, capsys):
    points = swept(empty, capsys, *GRID)
    assert [(each["sampling"]["steps"], each["sampling"]["guidance_scale"]) for each in points] == [
        (2, 1), (2, 2), (3, 1), (3, 2),
    ]  # fmt: skip
    base = empty.settings.sampling
    prepared = prepare(replace(empty.settings, sampling=replace(base, steps=3, guidance_scale=2.0)))
    network = read_weights(empty.store.artifact(empty.key, "ema.safetensors")).network()
    data = prepared.task.images
    reference = load_reference(prepared.settings.quality, data, cache=cache_folder(Path("runs")))
    expected = quality(*sample_images(network, prepared, prepared.settings.quality.samples), reference)
    for name in ("kid", "fd", "class_agreement"):
        assert points[3]["scores"][name]["value"] == expected[name].value
    assert points[3]["sampling"]["guidance_interval"] == [0, 0.6], "the trial's own, where guidance acts"
    assert points[2]["sampling"]["guidance_interval"] == [0, 1]
    assert len({each["scores"]["kid"]["value"] for each in points}) == 4


def test_an_interrupted_sweep_goes_on_and_a_wider_one_computes_what_is_new(empty, capsys, monkeypatch):
    computed = []

    def interrupted(images, reference):
        computed.append(images)
        if len(computed) == 2:
            raise KeyboardInterrupt
        return extract(images, reference)

    monkeypatch.setattr("harness.trials.scores.score.extract", interrupted)
    assert main(["evaluate", empty.key, *GRID, *QUALITY]) == 130
    assert len(scores_stored()) == 1
    capsys.readouterr()
    once = swept(empty, capsys, *GRID)
    assert len(computed) == 5, "four points, one of which was begun twice"
    assert swept(empty, capsys, *GRID) == once
    assert len(computed) == 5
    assert swept(empty, capsys, "--guidance", "1", "2", "4", "--steps", "2", "3")[:2] == once[:2]
    assert len(computed) == 7


def test_the_best_is_marked_with_how_many_were_tried_and_drawn(empty, capsys):
    assert main(["evaluate", empty.key, *GRID, *QUALITY]) == 0
    out = capsys.readouterr().out
    kids = {(each.settings["sampling"]["guidance_scale"], each.settings["sampling"]["steps"]):
            each.quantities["kid"].value for each in scores_stored()}  # fmt: skip
    scale, steps = min(kids, key=kids.__getitem__)
    assert f"best of 4 tried: guidance {scale:g}, {steps} steps, flattered by the choice" in out
    page = Path(out.splitlines()[-1])
    assert page.parent == Path("runs/scores")
    assert page.name.startswith(f"{empty.key}-")
    assert main(["evaluate", empty.key, *GRID[:3], *QUALITY]) == 0
    other = Path(capsys.readouterr().out.splitlines()[-1])
    assert other.exists()
    assert other != page, "of other settings, beside it"
    content = page.read_text()
    assert f"guidance {scale:g}, {steps} steps" in content
    assert f"{empty.name}, trial {empty.key}, against digits" in content


def test_a_network_whose_images_are_no_numbers_fails_at_its_point_alone(empty, capsys, monkeypatch):
    from harness.diffusion import sampling
    from harness.models.pixels import NotFiniteError

    to_uint8 = sampling.to_uint8
    calls = []

    def fails_first(*values, **more):
        calls.append(values)
        if len(calls) == 1:
            raise NotFiniteError("2 of 16 images have values that are NaN or infinite")
        return to_uint8(*values, **more)

    monkeypatch.setattr(sampling, "to_uint8", fails_first)
    first, second = swept(empty, capsys, "--guidance", "1", "2")
    assert first["scores"]["kid"]["message"].startswith("2 of 16 images")
    assert second["scores"]["kid"]["value"] > 0


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--guidance", "-1"], "sampling.guidance_scale must be a number from 1, which is no guidance, not -1.0"),
        (["--guidance", "1,2"], "argument --guidance: '1,2' is no number; separate several by spaces: 1 1.5 2"),
        (["--steps", "10,25"], "'10,25' is no whole number; separate several by spaces: 10 25"),
        (["--steps", "0"], "sampling.steps must be at least 1, not 0"),
        (["--guidance", "2", "--beside", "0f3a"], "--beside is of one score, and --guidance, --steps and --ema"),
        (["--guidance", "2", "--plot", "x.png"], "--plot names an .html file, not x.png"),
        (["--guidance", "2", "sampling.guidance_scale=3"], "and so does sampling.guidance_scale=3; leave one out"),
        (["--plot", "x.html"], "--plot is the picture of scores over --guidance, --steps or --ema; give one"),
    ],
)
def test_what_cannot_be_swept_is_refused_before_anything_is_sampled(spec, capsys, words, sentence):
    assert main(["evaluate", spec.key, *words]) == 2
    assert sentence in capsys.readouterr().err


def test_what_the_words_alone_tell_is_refused_before_anything_is_loaded(spec, capsys, monkeypatch):
    monkeypatch.setattr("harness.trials.trained.network_and_settings", lambda *_: pytest.fail("loaded"))
    grids = (["--steps", "0"], ["--guidance", "-2"], ["--guidance", "1", "1.0"], ["--steps", "5", "5"])
    for words in (*grids, ["--guidance", "2", "--beside", "0f3a"], ["--guidance", "2", "--plot", "x.png"]):
        assert main(["evaluate", spec.key, *words]) == 2
        assert capsys.readouterr().err.startswith("harness: ")


def test_the_data_must_be_the_one_that_was_trained_on(spec, capsys):
    assert main(["evaluate", spec.key, "--guidance", "2", "data=fashion_mnist"]) == 2
    assert "harness: " in capsys.readouterr().err


def test_a_grid_keeps_the_base_where_it_is_not_told_else():
    base = SamplingConfig(steps=7, guidance_scale=3.0)
    assert sampling_grid(base, None, None) == (base,)
    assert [(each.guidance_scale, each.steps) for each in sampling_grid(base, [1, 2], [5])] == [(1, 5), (2, 5)]
    with pytest.raises(UserError, match="--steps names a value twice"):
        sampling_grid(base, None, [5, 5])


def test_fid_ranks_where_it_is_fid():
    assert ranked_by(QualityConfig()) == "kid"
    assert ranked_by(QualityConfig(metrics=("fd",))) == "fd"
    assert ranked_by(QualityConfig(extractor=InceptionV3Extractor(weights=Path("x")))) == "fd"


def test_a_trial_is_scored_again_as_it_was_scored(spec, capsys):
    """What its page prints, without a word of settings, is its trial's protocol; the command line changes it."""
    assert main(["evaluate", spec.key, "--json"]) == 0
    label = json.loads(capsys.readouterr().out)["kid"]["conditions"]["label"]
    assert label == "KID-EffLite0@32, N=16 against 64"
    _, settings = network_and_settings(spec.key, ["quality.samples=20"], scored=True)
    assert settings.quality == replace(spec.settings.quality, samples=20)
    _, settings = network_and_settings(spec.key, ["quality=laptop"], scored=True)
    assert settings.quality.samples == 512


@pytest.mark.parametrize(
    "config",
    [
        QualityConfig(),
        QualityConfig(metrics=("fd",), extractor=InceptionV3Extractor(), fewer_for_floor=False, kid_full=False),
        settings_of(["quality=fid", "quality.samples=100"]).quality,
        QualityConfig(reference_samples=None, extractor=EfficientNetLite0Extractor(resolution=224)),
    ],
)
def test_recorded_scoring_is_read_again_whole(spec, config, monkeypatch):
    record = replace(spec.store.trial(spec.key), protocol={"quality": quality_identity(config, 8)})
    trained = replace(trained_network(spec.key, Path("runs")), record=record)
    assert settings_of((), quality_of(trained)).quality == config


@pytest.mark.slow
def test_fewer_samples_than_were_asked_for_is_said(empty, capsys):
    """The digits have so many images outside the reference, and the floor is of as many."""
    data = load_dataset(empty.settings.data)
    others = [word for word in QUALITY if not word.startswith(("quality.samples", "quality.metrics"))]
    words = [
        "evaluate",
        empty.key,
        "--guidance",
        "1",
        "--steps",
        "2",
        *others,
        "quality.metrics=[fd]",
        "sampling.solver=euler",
    ]
    assert main([*words, "quality.samples=2000"]) == 0
    printed = capsys.readouterr()
    count = len(data.train)
    assert f"note: {count} samples are scored, and not quality.samples=2000: digits has no more" in printed.err
    assert f"N={count}" in printed.out
    assert main([*words, "quality.samples=16"]) == 0
    assert "samples are scored" not in capsys.readouterr().err
