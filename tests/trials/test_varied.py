"""Settings of training that rungs vary: each rung under its own protocol, in one study and on one page."""

import dataclasses
import json
from pathlib import Path

import pytest
from tiny_study import ABLATION, BASE, SETTINGS, TINY, write_yaml

from harness.cli import main
from harness.records.errors import UserError
from harness.records.manifest import read_manifest
from harness.records.store import Store
from harness.records.yaml_text import read_yaml
from harness.trials.ablation import ablation
from harness.trials.compose import parsed
from harness.trials.settings import settings_of
from harness.trials.varied import varied

TEACHER = "objective.teacher.name=abcd"


def edited(*chosen, **edits):
    return varied(settings_of(chosen), edits, parsed(chosen))


def distilling(**edits):
    return edited("objective=distillation", TEACHER, "objective.scaling=fixed", **edits)


def test_edits_are_of_the_studys_own_settings():
    own = distilling()
    assert distilling(**{"objective.features": False}).objective == dataclasses.replace(own.objective, features=False)
    assert distilling(**{"objective.teacher.guidance_scale": 2}).objective.teacher.guidance_scale == 2
    assert distilling(objective="flow_matching").objective == settings_of().objective
    assert distilling(objective="distillation") == own, "the study's own, its teacher and scaling with it"
    assert distilling(**{"recipe.steps": 7, "objective": {"kind": "flow_matching"}}).recipe.steps == 7
    assert distilling(**{"recipe.steps": 7}).sampling == own.sampling


def test_what_a_rung_leaves_without_a_meaning_is_left_out_there_and_refused_of_the_rung_itself():
    """A study sets the discriminator, the weights or a place, and has rungs without."""
    few = (*FEW, "objective.discriminator.learning_rate=0.01")
    without = {"objective.adversarial_weight": 0.0}
    assert edited(*few, **without) == edited(*FEW, **without)
    assert edited(*few, **{"objective.steps": 2}).objective.discriminator.learning_rate == 0.01
    with pytest.raises(UserError, match=r"objective\.discriminator means nothing with objective\.adversarial_weight=0"):
        edited(*FEW, **without, **{"objective.discriminator.width": 8})
    weighed = ("objective=distillation", TEACHER, "objective.scaling=fixed", "objective.output_weight=0.5")
    aware = edited(*weighed, **{"objective.scaling": "timestep_aware"})
    assert aware == edited("objective=distillation", TEACHER, **{"objective.scaling": "timestep_aware"})
    tapped = ("objective=distillation", TEACHER, "objective.teacher_tap=mid.attention.0")
    alone = {"objective.features": False}
    assert edited(*tapped, **alone) == edited("objective=distillation", TEACHER, **alone)


FEW = ("objective=step_distillation", TEACHER, "initial=none")


@pytest.mark.parametrize("steps", [1, 2, 8])
def test_a_student_of_other_steps_is_scored_at_its_own_as_if_the_study_had_named_them(steps):
    own = {"objective.steps": steps, "objective.shift": 2.0}
    assert edited(*FEW, **own) == settings_of([*FEW, *(f"{name}={value}" for name, value in own.items())])
    assert edited(*FEW, "sampling.steps=28", **own).sampling.steps == 28, "chosen by name"
    whole = {"kind": "step_distillation", "steps": steps, "teacher": {"kind": "trained", "name": "abcd"}}
    assert edited("initial=none", objective=whole).sampling == settings_of([*FEW, f"objective.steps={steps}"]).sampling
    usual = settings_of(FEW).sampling
    assert edited(*FEW, objective="flow_matching").sampling == usual, "beside the students, at the study's steps"


@pytest.mark.parametrize(
    ("edits", "says"),
    [
        ({"objective": "destillation"}, "unknown objective 'destillation'; choose one of: distillation"),
        ({"objective.feature": True}, "unknown setting 'objective.feature'; choose one of: objective.features"),
        ({"objective.teachers.name": "x"}, "unknown setting 'objective.teachers.name'; choose one of: objective.teach"),
        ({"objective.features": ["no"]}, "'objective.features' must be true or false"),
        ({"objective.features": "no"}, "'objective.features' must be true or false, not 'no'"),
        ({"objective.scaling": "fix"}, "unknown value for 'objective.scaling': 'fix'; choose one of: fixed"),
        ({"recipe.device": "cpu"}, "recipe.device=cpu varies recipe.device, which changes no result; leave it out"),
        (
            {"recipe.learnin_rate": 1},
            "unknown setting of the recipe, which recipe.learnin_rate=1 varies: 'learnin_rate'",
        ),
        ({"recipe": "full"}, "recipe: full is a whole recipe; name what differs from the study's: recipe.steps, ..."),
        ({"recipe.steps": 0}, "recipe.steps must be at least 1, not 0"),
        ({"initial.name": "x"}, "unknown setting 'initial.name'; choose one of: initial"),
        ({"initial": ["ab", "cd", "ef"]}, "initial names 3 networks, and there are 2 seeds; name one for each seed"),
    ],
)
def test_what_cannot_be_is_one_sentence(edits, says):
    with pytest.raises(UserError) as caught:
        distilling(**edits)
    assert says in str(caught.value)


RUNGS = [
    {"name": "none", "edits": {**TINY, "objective": "flow_matching"}},
    {"name": "output", "edits": {"objective": "distillation", "objective.features": False}},
    {"name": "longer", "edits": {"recipe.steps": 3}},
]
STUDY = ABLATION | {
    "architecture": {"base": "laptop/thin_sdxl", "mode": "one_at_a_time", "rungs": RUNGS},
    "report": None,
    "settings": SETTINGS | {"objective": "distillation", "recipe.steps": 2},
}


@pytest.fixture(scope="module")
def distilled(studied):
    """The folder of a study in which one trial taught two rungs, and that trial's key."""
    folder, spec = studied
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        begun = {"name": "begun", "edits": {"initial": spec.key}}
        with_it = STUDY | {"architecture": STUDY["architecture"] | {"rungs": [*RUNGS, begun]}}
        write_yaml(Path("sweeps/taught.yaml"), with_it)
        assert main(["ablate", "taught", f"objective.teacher.name={spec.key}"]) == 0
    return folder, spec.key


def test_each_rung_has_its_own_protocol_and_one_page_has_them_all(distilled, monkeypatch, capsys):
    folder, teacher = distilled
    monkeypatch.chdir(folder)
    manifest, store = read_manifest(Path("runs"), "taught"), Store(Path("runs/store"))
    records = {rung.name: store.trial(manifest.key(rung, 0)) for rung in manifest.rungs}
    assert {name: record.state for name, record in records.items()} == dict.fromkeys(records, "complete")
    assert len({record.architecture_fingerprint for record in records.values()}) == 1
    protocols = {name: record.protocol for name, record in records.items()}
    assert "objective" not in protocols["none"]
    assert "teacher" not in protocols["none"]
    assert protocols["output"]["objective"]["features"] is False
    assert protocols["longer"]["recipe"]["steps"] == 3
    assert "objective" not in protocols["longer"], "which edits the first rung"
    begins = {name: protocol.get("initial") for name, protocol in protocols.items()}
    assert begins.pop("begun")["weights"] == protocols["output"]["teacher"]["weights"]
    assert set(begins.values()) == {None}
    assert [rung.touched for rung in manifest.rungs] == [{}] * 4
    plain = ablation("tiny_plain.yaml", ["recipe.steps=2"], "") if _plain_study() else None
    assert plain.specs()[0].key == records["none"].key, "a trial without a teacher is what it is in any study"
    page = Path("runs/taught/report.html").read_text()
    assert 'title="another protocol' not in page
    assert main(["status", "taught", "--json"]) == 0
    assert {cell["state"] for cell in json.loads(capsys.readouterr().out)["cells"]} == {"complete"}
    assert main(["ablate", "taught", f"objective.teacher.name={teacher}", "--dry-run"]) == 0
    assert "0 of 4 would run" in capsys.readouterr().out


def test_seeds_that_begin_with_their_own_are_one_study_of_trials_that_are_those_of_each(distilled, monkeypatch):
    folder, key = distilled
    monkeypatch.chdir(folder)
    write_yaml(Path("tiny_base.yaml"), BASE)
    rungs = [{"name": "base"}, {"name": "random", "edits": {"initial": "none"}}]
    plain = {"base": "tiny_base.yaml", "mode": "one_at_a_time", "rungs": rungs}
    write_yaml(Path("of_seeds.yaml"), {"architecture": plain, "settings": SETTINGS | {"recipe.steps": 2}})
    job = ablation("of_seeds.yaml", [f"initial=[{key},none]", "seeds=[0,7]"], "")
    manifest = job.manifest()
    keys = {(rung.name, seed): manifest.key(rung, seed) for rung in manifest.rungs for seed in manifest.seeds}
    assert keys == {(spec.name, spec.seed): spec.key for spec in job.specs()}
    taught = read_manifest(Path("runs"), "taught")
    rungs = {rung.name: taught.key(rung, 0) for rung in taught.rungs}
    assert (keys["base", 0], keys["random", 0]) == (rungs["begun"], rungs["none"])
    assert keys["base", 7] == keys["random", 7], "of another study no other trial"
    assert [rung.varied for rung in manifest.rungs] == [("initial",), ("initial",)]
    with pytest.raises(UserError, match="rungs 'base' and 'random' are the same network, trained alike"):
        ablation("of_seeds.yaml", ["initial=[none,none]", "seeds=[0,7]"], "")


def _plain_study():
    write_yaml(Path("tiny_base.yaml"), BASE)
    plain = {"base": "tiny_base.yaml", "mode": "cumulative", "rungs": [{"name": "base"}]}
    write_yaml(Path("tiny_plain.yaml"), {"architecture": plain, "settings": SETTINGS})
    return True


def test_a_promoted_rung_is_trained_as_it_was(distilled, monkeypatch):
    folder, teacher = distilled
    monkeypatch.chdir(folder)
    rungs = ("none", "output", "begun")
    for rung in rungs:
        assert main(["promote", "taught", rung, "--to", f"{rung}.yaml"]) == 0
    settings = {rung: settings_of((), read_yaml(Path(f"{rung}.yaml"))["settings"]) for rung in rungs}
    assert [settings[rung].initial for rung in rungs] == [None, None, teacher]
    assert settings["none"].objective == settings_of().objective
    assert (settings["output"].objective.features, settings["output"].objective.teacher.name) == (False, teacher)
    assert "teacher" in read_yaml(Path("output.yaml"))["origin"]["trained_on"]


def test_a_rung_that_cannot_be_is_named_before_anything_is_trained(studied, monkeypatch, refusal):
    folder, spec = studied
    monkeypatch.chdir(folder)
    write_yaml(Path("sweeps/taught.yaml"), STUDY)
    wrong = [*RUNGS, {"name": "odd", "edits": {"objective": "distillation", "objective.teacher_tap": "nowhere"}}]
    write_yaml(Path("sweeps/odd.yaml"), STUDY | {"architecture": STUDY["architecture"] | {"rungs": wrong}})
    named = f"objective.teacher.name={spec.key}"
    assert "unknown objective.teacher_tap 'nowhere'; choose one of" in refusal("ablate", "odd", named, "--dry-run")
    wrong[-1] = {"name": "odd", "edits": {"objective.featres": True}}
    write_yaml(Path("sweeps/odd.yaml"), STUDY | {"architecture": STUDY["architecture"] | {"rungs": wrong}})
    assert "rung 'odd': unknown setting 'objective.featres'" in refusal("ablate", "odd", named)
    wrong[-1] = {"name": "odd", "edits": {"objective": "distillation", "objective.teacher.sharded": True}}
    also = {"name": "as_odd", "edits": {"objective": "distillation"}}
    write_yaml(Path("sweeps/odd.yaml"), STUDY | {"architecture": STUDY["architecture"] | {"rungs": [*wrong, also]}})
    assert "rungs 'odd' and 'as_odd' are the same network, trained alike" in refusal("ablate", "odd", named)
    assert "missing setting 'objective.teacher.name', which has no default" in refusal("ablate", "taught")
    counted = refusal("ablate", "taught", named, "count_only=true")
    assert "rung 'none' sets objective, and count_only trains nothing; leave out one" in counted
