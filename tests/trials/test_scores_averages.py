"""`harness evaluate --ema`: one training's scores over the span of the average of its weights."""

import json
from pathlib import Path

import pytest
import torch
from tiny_study import SETTINGS, tiny_spec

from harness.cli import main
from harness.models.weights import read_weights
from harness.records.record import Measurement
from harness.records.store import Store
from harness.reporting.score_sweeps import Scored, score_sweeps
from harness.training.ema import PowerAverages
from harness.training.parallel import World
from harness.training.post_hoc import read_snapshot, reconstructed, snapshots_in
from harness.trials.run import run_trial
from harness.trials.scores.network import averaged_network
from harness.trials.trained import trained_network

QUALITY = [f"{name}={value}" for name, value in SETTINGS.items() if name.startswith("quality.")]


@pytest.fixture
def averaged(spec):
    """The trial, with snapshots of two spans of weights that moved for twelve steps."""
    weights = read_weights(spec.store.artifact(spec.key, "ema.safetensors"))
    network, folder = weights.network(), weights.path.parent
    averages = PowerAverages(network, (0.05, 0.1))
    random = torch.Generator().manual_seed(0)
    for step in range(1, 13):
        for parameter in network.parameters():
            parameter.data += 0.05 * torch.randn(parameter.shape, generator=random)
        averages.update(network, step)
        if step % 3 == 0:
            averages.write(folder, step, spec.architecture.fingerprint, World())
    yield spec
    for path in snapshots_in(folder):
        path.unlink()


def swept(spec, capsys, *words):
    assert main(["evaluate", spec.key, *words, "--json", *QUALITY]) == 0
    return json.loads(capsys.readouterr().out)


def test_each_span_has_its_own_score_and_the_trials_own_keeps_its_key(averaged, capsys):
    own = swept(averaged, capsys, "--steps", "2")
    points = swept(averaged, capsys, "--ema", "0.05", "0.08", "--steps", "2", "3")
    assert [(each["average_span"], each["sampling"]["steps"]) for each in points] == [
        (0.05, 2), (0.05, 3), (0.08, 2), (0.08, 3),
    ]  # fmt: skip
    values = [each["scores"]["kid"]["value"] for each in (*own, *points)]
    assert len(set(values)) == 5
    assert points[0]["scores"]["kid"]["conditions"]["average_span"] == 0.05
    stored = [each for each in Store(Path("runs/store")).measurements() if each.subject == "score"]
    assert sum("average" in each.settings for each in stored) == 4
    assert any("average" not in each.settings for each in stored)


def test_asked_again_it_comes_from_the_store(averaged, capsys, monkeypatch):
    once = swept(averaged, capsys, "--ema", "0.07")
    monkeypatch.setattr("harness.trials.scores.score.extract", lambda *_: pytest.fail("scored again"))
    assert swept(averaged, capsys, "--ema", "0.07") == once


def test_a_span_that_was_kept_is_that_snapshot(averaged):
    trained = trained_network(averaged.key, Path("runs"))
    files = snapshots_in(trained.weights.parent)
    network = read_weights(trained.weights).network()
    made = averaged_network(trained, 0.05, network).state_dict()
    kept = read_snapshot(files[3], averaged.architecture.fingerprint)[1]
    assert files[3].name == "average-0.050-00000012.safetensors"
    for name, tensor in kept.items():
        torch.testing.assert_close(made[name], tensor, rtol=1e-4, atol=1e-5)
    assert reconstructed(files, 0.08, averaged.architecture.fingerprint).keys() == made.keys()


def test_a_training_leaves_its_averages_with_its_weights(workplace):
    spec = tiny_spec("recipe.ema_spans=[0.05,0.1]", "recipe.ema_snapshot_every=4", "recipe.steps=6")
    attempt = Path("runs/attempts/x/attempt-001")
    attempt.mkdir(parents=True)
    record = run_trial(spec, attempt)
    names = [f"average-{span}-{step:08d}.safetensors" for span in ("0.050", "0.100") for step in (4, 6)]
    assert [name for name in record.artifacts if name.startswith("average")] == names
    assert all(spec.store.artifact(spec.key, name).is_file() for name in names)
    assert spec.key == tiny_spec("recipe.steps=6").key


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--ema", "0.05", "0.05"], "--ema names a span twice: 0.05, 0.05; give it once"),
        (["--ema", "0.4"], "an average's span is above 0 and below 0.2887, the plain mean's, not 0.4"),
        (["--ema", "wide"], "argument --ema: 'wide' is no number"),
    ],
)
def test_spans_that_cannot_be_are_refused(averaged, capsys, words, sentence):
    assert main(["evaluate", averaged.key, *words]) == 2
    assert sentence in capsys.readouterr().err


def test_where_no_averages_were_kept_the_sentence_says_how_to_keep_them(spec, capsys):
    assert main(["evaluate", spec.key, "--ema", "0.05"]) == 2
    assert (
        "kept no averages to make others of; leave out --ema, or train with 'recipe.ema_spans="
        in capsys.readouterr().err
    )


def test_the_picture_is_over_the_span(averaged, capsys):
    assert main(["evaluate", averaged.key, "--ema", "0.05", "0.1", *QUALITY, "--plot", "over.html"]) == 0
    table = capsys.readouterr().out
    assert "EMA span" in table
    assert "average of span" in table
    assert "span of the average" in Path("over.html").read_text()


def test_each_average_is_a_sweep_of_its_own_on_a_page():
    settings = {"trial": "0" * 16, "samples": 8, "quality": {}, "data": {}}
    sampling = [{"guidance_scale": scale, "steps": 5} for scale in (1.0, 2.0)]
    average = {"average": {"span": 0.1, "of": "x"}}
    stored = [
        Measurement(subject="score", settings={**settings, **more, "sampling": each}, quantities={})
        for more in ({}, average)
        for each in sampling
    ]
    network = Scored(name="thin", title="Thin", seed=0, protocol={})
    own, other = score_sweeps({"0" * 16: network}, stored)
    assert (own.title, other.title) == ("Thin", "Thin, average of span 0.1")
    assert [point.span for point in other.points] == [0.1, 0.1]
    assert own.shared != other.shared
