"""The studies of decoders that the repository has: what they train, and what their twins are, by dry runs."""

import re

import optuna
import pytest
import torch
import yaml
from tiny_decoding import lay_out, made_by, pictures

from harness.architecture.catalogue import architecture
from harness.architecture.edits import with_edits
from harness.architecture.ladder import Ladder
from harness.cli import main
from harness.latency.predicted import PredictedLatency
from harness.models.build import build, example_inputs
from harness.models.weights import Training, write_weights
from harness.records.plain import from_plain
from harness.records.quantity import Unavailable
from harness.records.store import Store
from harness.search.definition import sweep_study
from harness.trials.ablation_study import ablation_study
from harness.trials.studies import find_study

SMALL = {
    "decoder.latent_channels": 6,
    "decoder.stages.*.channels": 8,
    "decoder.stages.*.blocks": 1,
    "decoder.norm.groups": 4,
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return lay_out(tmp_path_factory.mktemp("decoder_studies"))


@pytest.fixture(scope="module")
def autoencoder(place):
    """The file of weights of one of ours, as if trained."""
    config = with_edits(architecture("autoencoder/laptop"), SMALL)
    file, training = place / "own.safetensors", Training(trial="0" * 16, latent=16, text={}, task="autoencode")
    write_weights(file, build(config).state_dict(), config, training)
    return file


def ladder(name):
    return from_plain(Ladder, yaml.safe_load(find_study("sweeps", name).read_text())["architecture"])


def test_the_trained_ladders_twins_are_the_counted_ladder():
    counted = {rung.name: config for rung, config in ladder("tab2").architectures()}
    twins = {rung.name: config for rung, config in ladder("tab2_trained").on("decoder/sd3").architectures()}
    assert twins["no_norm"] == with_edits(twins["pixel_shuffle"], {"middle.norm": False})
    assert not twins.pop("no_norm").sees_all
    assert twins.pop("pixel_shuffle") == with_edits(counted["decoder/tiny"], {"upsample": "pixel_shuffle"})
    assert twins == counted
    assert list(twins) == list(counted)
    sizes = [len(config.stages) for _, config in ladder("tab2_trained").architectures()]
    assert set(sizes) == {3}  # 4 times the latent's side, as autoencoder/laptop has it


def test_the_thin_ladder_is_the_trained_ones_lower_half():
    names = ("tab2_trained", "tab2_thin")
    for whole, thin in (map(ladder, names), (ladder(name).on("decoder/sd3") for name in names)):
        every = {rung.name: config for rung, config in whole.architectures()}
        own = {rung.name: config for rung, config in thin.architectures()}
        assert list(own) == list(every)[3:]
        assert all(config == every[name] for name, config in own.items())


def test_a_dry_run_of_the_trained_ladder_counts_every_rung(place, autoencoder, capsys):
    words = [*pictures(place), f"autoencoder.record={autoencoder}", f"out={place}/runs"]
    assert main(["ablate", "tab2_trained", *words, "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "27 trainings, and one of controls" in said
    for rung, _ in ladder("tab2_trained").architectures():
        assert rung.name in said
    study, settings = ablation_study("tab2_trained", words)
    assert settings.twin.latent == 128
    assert settings.objective.adversarial_weight == settings.objective.perceptual_weight == 0
    assert settings.autoencoder.file == autoencoder
    assert len(study.architecture.rungs) == 9


def test_without_an_autoencoder_it_is_one_sentence(refusal):
    assert "give autoencoder.record=KEY" in refusal("ablate", "tab2_trained", "--dry-run")


def test_a_dry_run_of_the_sweep_of_decoders(place, capsys):
    """Its space's base is its twin's, so that sizes are there what they are."""
    data = [*pictures(place)[1:], *made_by(place), f"out={place}/runs"]
    small = ["objective.patch=null", "objective.perceptual_weight=0", "task.perceptual=null"]
    words = [*data, *small, "objective.discriminator.layers=1", "trials=1"]
    assert main(["sweep", "decoder", *words, "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert re.search(r"would be trained \(params .*; twin\.params .*; twin\.macs ", said)
    assert "twin.params is" in said  # of a refused one
    study, settings = sweep_study("decoder", words)
    assert settings.limits["twin.params"] == 3_000_000
    limit = settings.limits["twin.latency_ms"]
    assert limit.chip == PredictedLatency().chip, "which the objective is predicted for"
    with torch.device("meta"):
        network = build(architecture("decoder/sd3"))
    predicted = limit.predictor.measure(network, example_inputs(architecture("decoder/sd3"), latent=128, device="meta"))
    assert isinstance(predicted, Unavailable), "so that a limit is not met, and nothing is trained for no objective"
    own = sweep_study(
        "decoder", [*[word for word in data if not word.startswith("data.size")], "task.perceptual=null"]
    )[1]
    assert own.data.size > own.objective.patch == 256, "so that patches lie at random places"
    assert dict(study.objectives) == {"psnr": "maximize", "twin.latency_predicted": "minimize"}
    assert study.twin.base == "decoder/tiny"


SPACE = """
base: decoder/tiny
knobs:
  attention: {path: middle.attention, choices: [true, false]}
  width_3: {path: stages.3.channels, choices: [32, 64]}
  upsample: {path: upsample.kind, choices: [nearest, pixel_shuffle]}
"""


def goals(record):
    """PSNR, and the latency's negative, so that more of both is better."""
    return record.quantities["psnr"].value, -record.quantities["twin.latency_predicted"].value


def dominates(one, other):
    return one != other and all(a >= b for a, b in zip(one, other, strict=True))


@pytest.mark.slow
def test_the_sweep_of_decoders_trains_its_candidates_and_finalists(place, workplace, monkeypatch):
    """With its own settings but for length and judges, in a smaller space; the higher PSNR goes on."""
    monkeypatch.setattr("harness.search.driver.floor_of", lambda *_: float("-inf"))  # nothing reaches it in four steps
    (workplace / "search_spaces/few.yaml").write_text(SPACE)
    whole = find_study("sweeps", "decoder").read_text()
    (workplace / "sweeps/few.yaml").write_text(whole.replace("space: decoder", "space: few"))
    short = ["trials=3", "budgets=[2,4]", "finalists.most=1", "finalists.seeds=2", "recipe.batch_size=4"]
    judges = ["task.perceptual=null", "task.pictures=12", "task.extractor.resolution=32"]
    losses = [
        "objective.perceptual_weight=0",
        "objective.patch=null",
        "objective.discriminator.layers=1",
        "objective.adversarial_start=1",
        "recipe.log_every=1",
    ]
    data = [*pictures(place)[1:], *made_by(place), f"out={place}/sweep"]
    assert main(["sweep", "few", *data, *short, *judges, *losses]) == 0
    study = optuna.load_study(study_name=None, storage=f"sqlite:///{place}/sweep/few/study.db")
    assert [direction.name for direction in study.directions] == ["MAXIMIZE", "MINIMIZE"]
    records = list(Store(place / "sweep/store").trials())
    at = {steps: [each for each in records if each.protocol["recipe"]["steps"] == steps] for steps in (2, 4)}
    assert len(at[2]) == 3
    (longer,) = [each for each in at[4] if each.fidelity != "final"]
    shorter = {each.architecture_fingerprint: goals(each) for each in at[2]}
    assert not any(dominates(one, shorter[longer.architecture_fingerprint]) for one in shorter.values())
    finalists = [each for each in at[4] if each.fidelity == "final"]
    assert [each.architecture_fingerprint for each in finalists] == [longer.architecture_fingerprint] * 2
    assert len({each.seed for each in (longer, *finalists)}) == 3
    for record in records:
        assert any("adaptive_weight" in point.name for point in record.curve)
