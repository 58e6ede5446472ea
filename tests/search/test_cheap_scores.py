"""`harness proxies` on real records of tiny trials, and the studies that it refuses."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import optuna
import pytest
from scipy.stats import kendalltau
from tiny_study import SETTINGS, SWEEP, lay_out, write_yaml

from harness.cli import main
from harness.measure import quality
from harness.records.errors import UserError
from harness.records.record import Protocol
from harness.records.store import Store
from harness.search import proxies
from harness.search.study import samplers_used, stored_study
from harness.trials.tasks.denoise import Denoise

ENOUGH = 5
TRAINED = {**SETTINGS, "recipe.steps": 8, "recipe.validate_every": 2, "recipe.log_every": 4}
WITHOUT_STEPS = {name: value for name, value in SETTINGS.items() if name != "recipe.steps"}


@pytest.fixture(scope="module")
def studied(tmp_path_factory, cache):
    """Six tiny architectures, all trained to 8 steps, 16 samples each."""
    folder = lay_out(tmp_path_factory.mktemp("studied"), cache)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_yaml(Path("sweeps/search.yaml"), {**SWEEP, "trials": 6, "settings": TRAINED})
        assert main(["sweep", "search"]) == 0
    return folder


@pytest.fixture
def workplace(studied, monkeypatch):
    monkeypatch.chdir(studied)
    monkeypatch.setattr(proxies, "FEWEST", ENOUGH)
    monkeypatch.setattr(proxies, "SMALL", (4, 8))
    return studied


def records():
    """Of the six, in the order of their keys."""
    return [r for r in Store(Path("runs/store")).trials() if r.seed == 0 and r.protocol["recipe"]["steps"] == 8]


def judged(capsys, *words):
    capsys.readouterr()
    assert main(["proxies", "search", "--json", *words]) == 0
    return json.loads(capsys.readouterr().out)


def test_every_cheap_score_is_judged_and_its_tau_is_that_of_the_records(workplace, capsys):
    found = judged(capsys)
    assert (found["architectures"], found["steps"], found["seed"], found["against"]) == (6, 8, 0, "kid")
    scores = {each["score"]: each for each in found["scores"]}
    losses = [f"validation_loss@{step}" for step in (2, 4, 8)]  # no point is within the first tenth of 8 steps
    assert list(scores) == ["params", "macs", *losses, "train_loss@4", "train_loss@8", "kid@4", "kid@8"]
    trained = records()
    kid = [record.quantities["kid"].value for record in trained]
    for name in ("params", "macs"):
        assert scores[name]["ranks_first"] == "largest"
        values = [record.quantities[name].value for record in trained]
        assert scores[name]["tau"] == pytest.approx(kendalltau(values, kid).statistic)
        best = min(k for k, value in zip(kid, values, strict=True) if value == max(values))
        assert scores[name]["regret"]["1"] <= best - min(kid) + 1e-12 or values.count(max(values)) > 1
    at_4 = [p.value for record in trained for p in record.curve if (p.step, p.name) == (4, "validation_loss")]
    assert scores["validation_loss@4"]["tau"] == pytest.approx(kendalltau(at_4, kid).statistic)
    assert scores["validation_loss@4"]["regret"]["1"] == pytest.approx(kid[int(np.argmin(at_4))] - min(kid))
    assert scores["validation_loss@4"]["cost"] == "50% of the training"
    assert found["notes"] == ["chosen by the sampler: random"]


def test_the_ceiling_is_the_agreement_of_disjoint_samples(workplace, capsys):
    found = {each["compared"]: each for each in judged(capsys)["ceiling"]}
    assert list(found) == [
        "kid of the first half of the samples with the second half's",
        "kid of the first 4 samples with that of the other 12",
    ]


def test_samples_are_scored_once(workplace, capsys, monkeypatch):
    first = judged(capsys)
    monkeypatch.setattr(proxies, "distance", lambda *_: pytest.fail("scored again"))
    assert judged(capsys) == first


@pytest.fixture
def stored_too(workplace):
    """Put records into the store for the length of a test."""
    store, put = Store(Path("runs/store")), []

    def call(record):
        store.put(record)
        put.append(record)

    yield call
    for record in put:
        store.delete(record)


def scored(record, kid):
    return replace(record, quantities={**record.quantities, "kid": replace(record.quantities["kid"], value=kid)})


def steps_of(record, steps, **recipe):
    protocol = {**record.protocol, "recipe": {**record.protocol["recipe"], "steps": steps, **recipe}}
    return replace(record, protocol=protocol, protocol_fingerprint=Protocol(sections=protocol).fingerprint)


def test_another_seed_of_the_same_architectures_tells_how_reliable_the_dear_score_is(workplace, capsys, stored_too):
    trained, other = records(), [3.0, 1.0, 2.0, 5.0, 4.0, 9.0]
    for record, kid in zip(trained, other, strict=True):
        stored_too(scored(replace(record, seed=1), kid))
    stored_too(scored(replace(steps_of(trained[0], 7), seed=1), 0.0))  # another protocol: no further evidence
    (between,) = [each for each in judged(capsys)["ceiling"] if each["compared"] == "kid of seed 0 with that of seed 1"]
    assert between["n"] == 6
    kid = [record.quantities["kid"].value for record in trained]
    assert between["tau"] == pytest.approx(kendalltau(kid, other).statistic)


def test_the_dear_score_of_a_shorter_training_is_a_cheap_score(workplace, capsys, stored_too):
    """What halving chooses by. Only the same training counts: not one of another learning rate, nor of another seed."""
    trained, early = records(), [3.0, 1.0, 2.0, 5.0, 4.0]  # the sixth was not trained for so long
    for record, kid in zip(trained[:5], early, strict=True):
        stored_too(scored(steps_of(record, 2), kid))
        stored_too(scored(steps_of(record, 3, learning_rate=0.5), kid))
        stored_too(scored(replace(steps_of(record, 4), seed=1), kid))
    found = {each["score"]: each for each in judged(capsys)["scores"] if each["score"].startswith("kid after")}
    assert list(found) == ["kid after 2 steps"]
    kid = [record.quantities["kid"].value for record in trained[:5]]
    assert found["kid after 2 steps"]["tau"] == pytest.approx(kendalltau(kid, early).statistic)
    assert found["kid after 2 steps"]["n"] == 5
    assert found["kid after 2 steps"]["cost"] == "25% of the training, sampling"


@pytest.mark.slow
def test_the_random_sampler_draws_the_same_architectures_for_another_seed_and_fewer_steps(workplace, capsys):
    for name, settings in (("again", {"seeds": [1]}), ("early", {"recipe.steps": 4})):
        write_yaml(Path(f"sweeps/{name}.yaml"), {**SWEEP, "trials": 6, "settings": {**TRAINED, **settings}})
        assert main(["sweep", name]) == 0
    found = judged(capsys)
    assert [each["n"] for each in found["scores"] if each["score"] == "kid after 4 steps"] == [6]
    assert [each["n"] for each in found["ceiling"] if each["compared"] == "kid of seed 0 with that of seed 1"] == [6]


def test_the_table_says_signs_and_directions(workplace, capsys):
    assert main(["proxies", "search"]) == 0
    said = capsys.readouterr().out
    assert "6 architectures of search, 8 steps each, seed 0" in said
    assert "the largest" in said
    assert "the smallest" in said
    assert "below 0 where more of it goes with less kid" in said
    assert "(a random choice)" in said


def test_too_few_architectures_are_one_sentence(workplace, refusal, monkeypatch):
    monkeypatch.setattr(proxies, "FEWEST", 24)
    said = refusal("proxies", "search")
    assert "'search' has 6 architectures with a kid under one protocol and seed" in said
    assert "at least 24" in said
    assert "`harness sweep search trials=24`" in said


@pytest.mark.slow
def test_survivors_of_halving_are_refused(workplace, capsys, monkeypatch):
    """What early scores chose is no test of early scores."""
    write_yaml(Path("sweeps/halved.yaml"), {**SWEEP, "trials": 2, "budgets": [2, 4], "settings": WITHOUT_STEPS})
    monkeypatch.setattr("harness.search.driver.floor_of", lambda *_: float("inf"))
    assert main(["sweep", "halved"]) == 0
    capsys.readouterr()
    assert main(["proxies", "halved"]) == 2
    said = capsys.readouterr().err
    assert "'halved' chose by scores at 2 steps which candidates go on to 4: the 1 that did are no fair test" in said
    assert said.count("\n") == 1


def studied_so(monkeypatch, **attributes):
    study = optuna.create_study()
    for name, value in attributes.items():
        study.set_user_attr(name, value)
    monkeypatch.setattr(proxies, "stored_study", lambda *_: study)


def test_a_sweep_with_several_budgets_is_refused_before_its_records_are_read(workplace, refusal, monkeypatch):
    studied_so(monkeypatch, began={"budgets": [2, 4]})
    assert "judge those on a sweep with one budget" in refusal("proxies", "search")


@pytest.mark.parametrize(
    ("samplers", "said"),
    [
        (["random"], ["chosen by the sampler: random"]),
        (["random", "tpe"], ["chosen by the sampler: random, tpe", "no fair draw"]),
        ([], ["chosen by the sampler: not noted", "no fair draw"]),
    ],
)
def test_a_sampler_that_learns_is_said(workplace, capsys, monkeypatch, samplers, said):
    studied_so(monkeypatch, samplers=samplers)
    notes = judged(capsys)["notes"]
    assert len(notes) == len(said)
    assert all(part in note for part, note in zip(said, notes, strict=True))


def test_the_driver_notes_its_sampler(workplace):
    assert samplers_used(stored_study(Path("runs/search"), "search")) == ["random"]


@pytest.mark.slow
def test_an_ablations_rungs_are_said_to_be_chosen_by_hand(workplace, capsys, monkeypatch):
    monkeypatch.setattr(proxies, "FEWEST", 2)
    assert main(["ablate", "tiny"]) == 0
    capsys.readouterr()
    assert main(["proxies", "tiny"]) == 0
    assert "the rungs were chosen by hand" in capsys.readouterr().out


def test_other_settings_than_the_trials_were_scored_with_are_refused(workplace, refusal):
    said = refusal("proxies", "search", "quality.reference_samples=32")
    assert "was scored with other settings of quality than these" in said


def test_samples_that_are_gone_are_one_sentence(workplace):
    store = Store(Path("runs/store"))
    record = replace(records()[0], seed=7)
    with pytest.raises(UserError, match=r"cannot read the samples of trial-\d, .*samples\.npz"):
        proxies._samples(store, record)


@pytest.mark.parametrize("name", sorted(quality.DISTANCES))
def test_a_distance_alone_is_that_of_the_whole_score(workplace, name):
    """`distance` of the features is what `quality` puts into a record."""
    task = proxies.trained_alike("search", [], "kid").prepared.task
    assert isinstance(task, Denoise)
    reference = task.reference
    record = records()[0]
    images, labels = proxies._samples(Store(Path("runs/store")), record)
    found = quality.distance(name, reference.extractor.features(images).double(), labels, reference)
    assert found.value == pytest.approx(record.quantities[name].value, rel=1e-9)
