"""Promotion: a trial's architecture as a file that stands on its own, and the longer training that follows."""

import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from tiny_study import SETTINGS, SWEEP, lay_out, write_yaml

from harness.architecture.catalogue import architecture
from harness.cli import main
from harness.records.errors import UserError
from harness.records.manifest import read_manifest
from harness.records.plain import identity
from harness.records.store import Store
from harness.search import contest
from harness.search.promote import named
from harness.trials.compose import merged
from harness.trials.promoted import LONGER, Origin, promoted_in, training_settings, why_not
from harness.trials.protocols import latents_of
from harness.trials.settings import settings_of

TRAIN = [f"{key}={value}".replace(" ", "") for key, value in SETTINGS.items() if key != "recipe.steps"]


@pytest.fixture(scope="module")
def studied(tmp_path_factory, cache):
    """A working directory with an ablation, and a sweep that met an architecture of the ablation's again."""
    folder = lay_out(tmp_path_factory.mktemp("studied"), cache)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["ablate", "tiny"]) == 0
        space = {"base": "tiny_base.yaml", "knobs": {"ffn": {"path": "feed_forward.ratio", "choices": [2, 4]}}}
        write_yaml(Path("search_spaces/tiny.yaml"), space)
        assert main(["sweep", "search", "trials=2"]) == 0
    return folder


@pytest.fixture
def workplace(studied, monkeypatch):
    monkeypatch.chdir(studied)
    return studied


def records(out=Path("runs")):
    return {record.name: record for record in Store(out / "store").trials()}


def test_the_file_rebuilds_to_the_same_fingerprint_from_another_folder(workplace, tmp_path, monkeypatch, capsys):
    target = tmp_path / "winner.yaml"
    assert main(["promote", "tiny", "ffn2", "--to", str(target)]) == 0
    assert capsys.readouterr().out.strip() == str(target)
    monkeypatch.chdir(tmp_path)
    promoted = records(workplace / "runs")["ffn2"]
    assert architecture("winner.yaml").fingerprint == promoted.architecture_fingerprint
    text = target.read_text()
    assert f"  trial: {promoted.key}\n" in text
    assert "# at most 8 processes can share it" in text
    assert f"kid {promoted.quantities['kid'].value:.6g}" in text


def test_costs_and_exports_of_a_promoted_file_are_for_the_latent_it_was_trained_on(workplace, capsys):
    assert main(["promote", "tiny", "ffn2", "--to", "sized.yaml"]) == 0
    capsys.readouterr()
    trained_on = records()["ffn2"].protocol["data"]["size"]
    weights = Store(Path("runs/store")).artifact(records()["ffn2"].key, "ema.safetensors")
    for command in (["export", "sized.yaml", "--preflight"], ["measure", "sized.yaml"], ["measure", str(weights)]):
        assert main([*command, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["latent"] == trained_on == 8
    assert main(["measure", "sized.yaml", "--latent", "16", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["latent"] == 16


@pytest.mark.slow
def test_the_file_needs_nothing_else_and_trains_longer_by_the_studys_own_settings(workplace, capsys, monkeypatch):
    assert main(["promote", "tiny", "base", "--to", "alone.yaml"]) == 0
    assert main(["train", "alone.yaml", "launcher=debug", "tracker=none"]) == 0
    parent, child = records()["base"], records()["alone"]
    recipe = {**parent.protocol["recipe"], "steps": LONGER * SETTINGS["recipe.steps"]}
    assert child.protocol == {**parent.protocol, "recipe": recipe}
    assert child.parent == parent.key
    assert (parent.fidelity, child.fidelity) == ("search", "full")
    assert child.architecture_fingerprint == parent.architecture_fingerprint
    assert child.provenance["device"] == "cpu"
    assert max(point.step for point in child.curve) == recipe["steps"]
    printed = capsys.readouterr()
    assert printed.out.strip().endswith("ema.safetensors")
    assert "what was promised beside what it gave: runs/train-alone/report.html" in " ".join(printed.err.split())
    assert read_manifest(Path("runs"), "train-alone").settings["launcher"] == "debug", "with the command line's"
    check_page_of_promise(Path("runs/train-alone/report.html").read_text(), parent, child)
    assert main(["report", "alone.yaml"]) == 0
    assert capsys.readouterr().out.strip() == "runs/train-alone/report.html"
    monkeypatch.setattr("harness.commands.report.report", refuses)
    assert main(["train", "alone.yaml", "launcher=debug", "tracker=none"]) == 0, "a page takes nothing of the outcome"
    said = capsys.readouterr()
    assert said.out.strip().endswith("ema.safetensors")
    assert "no page of what was promised beside what it gave: the disk is full" in " ".join(said.err.split())


def refuses(*_):
    raise UserError("the disk is full")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"trial": "../../other"}, "origin.trial is the key of a trial"),
        ({"checkpoints": "/etc"}, "origin.checkpoints is a folder below that of out="),
        ({"checkpoints": "tiny/../../elsewhere"}, "origin.checkpoints is a folder below that of out="),
    ],
)
def test_an_origin_leads_nowhere_else(change, sentence):
    with pytest.raises(UserError, match=sentence):
        Origin(**{"trial": "0" * 16, "fingerprint": "1" * 16, **change})


def check_page_of_promise(page, parent, child):
    """Search and full training have columns of their own; the search's score bears the mark of its protocol."""
    (row,) = re.findall(r'<tr data-promise="kid">(.*?)</tr>', page, re.DOTALL)
    promised, given = row.split("<td>")[1:]
    for cell, record, marked in ((promised, parent, True), (given, child, False)):
        assert f'data-value="{record.quantities["kid"].value!r}"' in cell
        assert ("†" in cell) == marked
    (macs,) = re.findall(r'<tr data-promise="macs">(.*?)</tr>', page, re.DOTALL)
    assert "†" not in macs, "a count is of the network, under whatever protocol"
    assert "so their scores are not compared:\nrecipe.steps=6." in page


def test_a_folder_of_another_trial_is_not_copied_from():
    """Found by its key, before anything lies where every later run would stumble over it."""
    parent, other = (SimpleNamespace(key=key * 16, architecture_fingerprint=key, seed=0) for key in "ab")
    store = SimpleNamespace(root="store", trial={each.key: each for each in (parent, other)}.get)
    spec = SimpleNamespace(store=store, settings=SimpleNamespace(recipe=None))
    origin = Origin(trial=parent.key, fingerprint="a", checkpoints=f"search/checkpoints/{other.key}")
    assert "is of trial bbbbbbbbbbbbbbbb, another network or seed" in why_not(spec, parent, origin)


def test_words_given_to_promote_stand_in_the_file_and_those_given_to_train_are_the_last(workplace, capsys):
    assert main(["promote", "tiny", "base", "--to", "said.yaml", "recipe.steps=9", "recipe=full"]) == 0
    settings = yaml.safe_load(Path("said.yaml").read_text())["settings"]
    assert (settings["recipe"], settings["recipe.steps"]) == ("full", 9)
    assert settings["recipe.device"] == "auto", "a machine's own settings stay behind"
    assert "recipe.batch_size" not in settings, "another recipe drops what was set of the first"
    capsys.readouterr()
    assert main(["config", "said.yaml", "recipe.steps=11"]) == 0
    printed = capsys.readouterr().out
    assert yaml.safe_load(printed)["settings"]["recipe.steps"] == 11
    Path("again.yaml").write_text(printed)
    assert promoted_in(Path("again.yaml")).origin == promoted_in(Path("said.yaml")).origin
    assert architecture("again.yaml") == architecture("said.yaml")
    assert main(["promote", "tiny", "base", "--to", "typo.yaml", "recipe.stepz=9"]) == 2
    assert "unknown setting 'recipe.stepz'" in capsys.readouterr().err
    assert not Path("typo.yaml").exists()


def test_what_a_study_did_not_write_down_is_asked_for_and_other_data_is_never_trained_on_in_silence(workplace, capsys):
    manifest = json.loads(Path("runs/tiny/manifest.json").read_text())
    Path("runs/older").mkdir()
    Path("runs/older/manifest.json").write_text(json.dumps({**manifest, "name": "older", "settings": {}}))
    assert main(["promote", "older", "base", "--to", "older.yaml"]) == 2
    assert "did not write down its settings, so its data is not known here; give data=NAME" in capsys.readouterr().err
    assert main(["promote", "older", "base", "--to", "older.yaml", "data=digits"]) == 0
    assert "wrote not all settings down: the trial was scored with sampling.steps=2" in capsys.readouterr().err
    assert main(["promote", "tiny", "base", "--to", "held.yaml"]) == 0
    path = Path("held.yaml")
    path.write_text(
        re.sub(r"data: [0-9a-f]{16}", "data: 0123456789abcdef", path.read_text())
    )  # as if of other pictures
    capsys.readouterr()
    assert main(["train", "held.yaml", "launcher=debug", "tracker=none"]) == 2
    assert "by these settings data would not be what trial" in capsys.readouterr().err
    assert not Path("runs/train-held").exists()


def test_a_file_that_stands_there_is_not_lost(workplace, capsys):
    words = ["promote", "tiny", "base", "--to", "kept.yaml"]
    assert main(words) == 0
    assert main(words) == 0, "the same again"
    Path("kept.yaml").write_text(Path("kept.yaml").read_text() + "# mine\n")
    capsys.readouterr()
    assert main(words) == 2
    assert "kept.yaml is there already, and says something else; give another file" in capsys.readouterr().err
    assert Path("kept.yaml").read_text().endswith("# mine\n")


def test_a_search_under_the_protocol_for_searching_is_trained_by_the_one_it_stands_for():
    chosen = {"data": "prepared", "data.path": "/data/imagenet", "protocol": "quick", "seeds": [0], "out": "runs"}
    settings = settings_of((), chosen)
    sections = {name: identity(getattr(settings, name)) for name in ("recipe", "sampling", "quality")}
    sections |= {"autoencoder": dict(latents_of(settings.autoencoder))}
    sections["recipe"] = {**sections["recipe"], "steps": 12_010, "learning_rate": 0.001}
    record = SimpleNamespace(protocol=sections)
    trained = training_settings(record, merged(chosen, {}))
    assert trained["data.path"] == "/data/imagenet"
    assert not {"seeds", "out"} & set(trained)
    full = settings_of((), trained)
    fig3 = settings_of(["protocol=fig3"])
    assert full.recipe == replace(fig3.recipe, learning_rate=0.001), "what the search varied is the candidate's own"
    assert (full.sampling, full.quality) == (fig3.sampling, fig3.quality)


def test_a_file_that_was_edited_since_has_no_parent(workplace, capsys):
    assert main(["promote", "tiny", "base", "--to", "edited.yaml"]) == 0
    path = Path("edited.yaml")
    changed = path.read_text().replace("ratio: 4", "ratio: 3")
    assert changed != path.read_text()
    path.write_text(changed)
    assert main(["train", "edited.yaml", *TRAIN, "recipe.steps=7"]) == 0
    assert "edited since its promotion" in " ".join(capsys.readouterr().err.split())
    assert records()["edited"].parent is None


def test_training_it_no_longer_than_before_is_refused(workplace, capsys):
    assert main(["promote", "tiny", "base", "--to", "same.yaml"]) == 0
    assert main(["train", "same.yaml", "recipe.steps=6", "launcher=debug", "tracker=none"]) == 2
    assert "train it longer: recipe.steps=12" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["tiny", "search"])
def test_best_is_the_lowest_kid_of_the_study(workplace, name, tmp_path, monkeypatch):
    monkeypatch.setattr(contest, "_floor_of", lambda *_: None)  # after six steps the Gaussian beats both rungs
    target = tmp_path / "best.yaml"
    assert main(["promote", name, "--rule", "best", "--to", str(target)]) == 0
    found = [record for record in records().values() if record.name in ("base", "ffn2")]
    best = min(found, key=lambda record: record.quantities["kid"].value)
    assert architecture(str(target)).fingerprint == best.architecture_fingerprint


def test_a_rung_that_the_gaussian_beats_is_chosen_by_no_rule(workplace, tmp_path, monkeypatch, capsys):
    assert main(["promote", "tiny", "--rule", "best", "--to", str(tmp_path / "none.yaml")]) == 2
    assert "none of 2 in 'tiny' has a better KID than a Gaussian fitted to the pixels" in capsys.readouterr().err
    kids = {each.name: each.quantities["kid"].value for each in records().values() if each.name in ("base", "ffn2")}
    monkeypatch.setattr(contest, "_floor_of", lambda *_: sum(kids.values()) / 2)
    assert main(["promote", "tiny", "--rule", "best", "--to", str(tmp_path / "best.yaml")]) == 0
    said = capsys.readouterr().err
    assert f"beaten by what needs no network, and not among them: {max(kids, key=kids.__getitem__)}" in said


def test_a_sweeps_candidate_is_found_by_the_name_the_sweep_shows(workplace, tmp_path, capsys):
    """The ablation trained it first, so its record has the rung's name."""
    assert main(["sweep", "search", "trials=2"]) == 0
    shown = [word for word in capsys.readouterr().out.split() if word.startswith("trial-")]
    target = tmp_path / "candidate.yaml"
    assert main(["promote", "search", shown[0], "--to", str(target)]) == 0
    fingerprints = {record.architecture_fingerprint for record in records().values() if record.fidelity == "search"}
    assert architecture(str(target)).fingerprint in fingerprints


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["tiny", "ffn3"], "unknown trial 'ffn3'; choose one of: ffn2, base"),
        (["search", "base"], "unknown trial 'base'; choose one of: trial-"),
        (["tinny", "--rule", "best"], "unknown study in runs/ or sweeps/: 'tinny'; choose one of: tiny"),
        (["tiny"], "name one trial, or give a rule"),
        (["tiny", "base", "--rule", "best"], "name one trial, or give a rule"),
    ],
)
def test_mistakes_are_one_sentence(workplace, capsys, words, sentence):
    assert main(["promote", *words]) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert said.count("\n") == 1


def test_best_of_trials_without_a_kid_is_one_sentence(workplace, capsys):
    assert main(["ablate", "tiny", "count_only=true", "out=counted"]) == 0
    capsys.readouterr()
    assert main(["promote", "tiny", "--rule", "best", "out=counted"]) == 2
    said = capsys.readouterr().err
    assert "--rule best takes the lowest KID, and no trial here has one; name a trial: base, ffn2" in said
    assert said.count("\n") == 1
    assert main(["promote", "tiny", "ffn2", "out=counted", "--to", "counted.yaml"]) == 0


def test_a_study_without_a_complete_trial_says_so(workplace, capsys):
    write_yaml(Path("sweeps/none.yaml"), {**SWEEP, "max_rejections": 1})
    assert main(["sweep", "none", "limits.params=10"]) == 2
    assert main(["promote", "none", "--rule", "best"]) == 2
    assert "'none' has no complete trial yet" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["ablate", "sweep"])
def test_a_study_of_which_all_failed_says_why_nothing_is_promoted(kind, workplace, capsys):
    name = "tiny" if kind == "ablate" else "search"
    assert main([kind, name, "recipe.learning_rate=1e9", "recipe.clip=null", "out=failed"]) == 1
    capsys.readouterr()
    assert main(["promote", name, "--rule", "best", "out=failed"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"no trial of '{name}' was trained to its end, and none is running: train: training diverged" in line


def test_a_trial_is_named_by_the_beginning_of_its_key():
    kept = SimpleNamespace(name="ffn2", key="abcd000000000001", seed=0)
    others = [SimpleNamespace(name="base", key=f"abcde0000000000{each}", seed=each) for each in (3, 2)]
    assert named([kept, *others], "abcd0") is kept
    assert named([kept, *others], "base").seed == 2, "the first of its seeds"
    with pytest.raises(UserError, match=r"begins the keys of 3 trials; give more of the key: abcd000000000001 \(ffn2"):
        named([kept, *others], "abcd")
    with pytest.raises(UserError, match="unknown trial 'abc'"):
        named([kept, *others], "abc")


def stopped_sweep(name: str, **change) -> None:
    """A sweep whose candidates beat no Gaussian: all are trained to the first budget, and stopped there."""
    space = {"base": "tiny_base.yaml", "knobs": {"ffn": {"path": "feed_forward.ratio", "choices": [2, 3, 4]}}}
    write_yaml(Path("search_spaces/three.yaml"), space)
    settings = {key: value for key, value in SETTINGS.items() if key != "recipe.steps"}
    write_yaml(
        Path(f"sweeps/{name}.yaml"), {**SWEEP, "space": "three", "budgets": [2, 4], "settings": settings, **change}
    )


def test_a_sweep_whose_candidates_were_all_stopped_says_so_and_gives_one_by_name(workplace, monkeypatch, capsys):
    monkeypatch.setattr("harness.search.driver.floor_of", lambda *_: 1e-9)
    stopped_sweep("stopped")
    assert main(["sweep", "stopped", "trials=2"]) == 0
    capsys.readouterr()
    assert main(["promote", "stopped", "--rule", "best"]) == 2
    said = capsys.readouterr().err
    assert "no candidate of 'stopped' was trained to its top budget: 2 were stopped before, its KID of " in said
    assert "name one of them (trial-0, trial-1)" in said
    assert main(["promote", "stopped", "trial-1", "--to", "one.yaml"]) == 0
    assert architecture("one.yaml").fingerprint in {each.architecture_fingerprint for each in records().values()}
    assert main(["promote", "stopped", "trial-7"]) == 2


def test_a_refused_candidate_says_why_it_cannot_be_promoted(workplace, monkeypatch, capsys):
    monkeypatch.setattr("harness.search.driver.floor_of", lambda *_: 1e6)
    settings = {key: value for key, value in SETTINGS.items() if key != "recipe.steps"} | {"limits.macs": 1}
    stopped_sweep("refused", settings=settings)
    assert main(["sweep", "refused", "trials=2"]) == 2
    first = capsys.readouterr().err
    assert "were refused: none has macs of at most 1" in first
    assert main(["sweep", "refused", "trials=2"]) == 2  # also where an earlier driver has met all of them
    assert "were refused: none has macs of at most 1" in capsys.readouterr().err
    assert main(["promote", "refused", "trial-0"]) == 2
    assert "trial-0 of 'refused' is refused: " in capsys.readouterr().err
