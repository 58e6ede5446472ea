"""What every task keeps, the toy's one file among them; and that nothing but its file is needed for a task of its own:
ablation and page, sweep with halving and finalists, promotion, status, tracker."""

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import torch
import toy_task
from safetensors.torch import load_file
from tiny_decoding import decoding_spec
from tiny_decoding import lay_out as lay_out_decoding
from tiny_study import SETTINGS, share_cache, tiny_spec, write_yaml

from harness.architecture.catalogue import architecture, to_yaml
from harness.architecture.config import ArchitectureConfig
from harness.cli import main
from harness.records import quantities
from harness.records.errors import UserError
from harness.records.quantity import Failed, Measured, Unavailable
from harness.records.record import why
from harness.records.store import Store
from harness.training import loop
from harness.training.objective_config import ObjectiveConfig
from harness.trials.outcomes import learnt
from harness.trials.prepared import prepare
from harness.trials.run import run_trial
from harness.trials.settings import settings_of
from harness.trials.task_config import TaskConfig, task_of

TOY = {
    name: value
    for name, value in SETTINGS.items()
    if not name.startswith(("sampling.", "quality.")) and name != "tracker"
} | {"task": {"kind": "unblur"}, "tracker": "local", "recipe.log_every": 1, "recipe.learning_rate": 0.01}
BASE = toy_task.FilterConfig(latent_channels=1, kernel=3)
ABLATION = {
    "architecture": {"base": "filter.yaml", "mode": "cumulative", "rungs": [
        {"name": "small", "title": "3 x 3"}, {"name": "large", "title": "5 x 5", "edits": {"kernel": 5}}
    ]},
    "settings": TOY,
}  # fmt: skip
SWEEP = {
    "space": "filters",
    "objectives": {"sharpness": "maximize", "macs": "minimize"},
    "sampler": "random",
    "trials": 3,
    "budgets": [4, 40],
    "finalists": {"most": 2, "seeds": 2},
    "settings": {name: value for name, value in TOY.items() if name != "recipe.steps"}
    | {"recipe.schedule": "constant", "recipe.cooldown": 0, "recipe.warmup_steps": 0, "recipe.ema_decay": 0.5},
}


@pytest.fixture
def toy(workplace, monkeypatch):
    """The toy registered, and its studies in the working directory."""
    for union in (ArchitectureConfig, ObjectiveConfig, TaskConfig):
        monkeypatch.setattr(union, "forms", dict(union.forms))
    monkeypatch.setattr(quantities, "QUANTITIES", dict(quantities.QUANTITIES))
    toy_task.register()
    Path("filter.yaml").write_text(to_yaml(BASE))
    write_yaml(Path("sweeps/filters.yaml"), ABLATION)
    write_yaml(Path("search_spaces/filters.yaml"), {"base": "filter.yaml", "knobs": {
        "kernel": {"path": "kernel", "choices": [1, 3, 5]}}})  # fmt: skip
    write_yaml(Path("sweeps/filter_search.yaml"), SWEEP)


def toy_spec(*overrides, **more):
    return prepare(settings_of(overrides, TOY)).spec("toy", BASE, 0, **more)


@pytest.fixture(scope="module")
def decoding(tmp_path_factory):
    return lay_out_decoding(tmp_path_factory.mktemp("decoding"))


@pytest.fixture(params=["denoise", "decode", "unblur"])
def spec_of(request, toy, decoding):
    """Every task's tiny trial."""
    specs = {"denoise": tiny_spec, "decode": partial(decoding_spec, decoding), "unblur": toy_spec}
    return specs[request.param]


def attempt(name):
    folder = Path("attempts") / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"attempt-{len(list(folder.iterdir())):03d}"


@dataclass(frozen=True)
class Ended:
    scores: dict
    curve: tuple
    weights: dict

    @classmethod
    def of(cls, spec, record):
        scores = {name: record.quantities[name] for name in learnt(spec.settings) if name != "train_seconds"}
        return cls(scores, record.curve, load_file(spec.store.artifact(record.key, "ema.safetensors")))

    def assert_equal(self, other):
        assert self.scores == other.scores
        assert self.curve == other.curve
        assert all(torch.equal(tensor, other.weights[name]) for name, tensor in self.weights.items())


def test_a_record_has_what_its_task_names(spec_of):
    spec = spec_of()
    record = run_trial(spec, attempt("whole"))
    judging, scoring = spec.settings.task.judging, spec.settings.task.scoring(spec.settings)
    assert record.state == "complete"
    assert set(judging.scores) <= set(scoring.scores)
    assert all(isinstance(record.quantities[name], Measured) for name in learnt(spec.settings))
    assert all(quantities.is_learnt(name) for name in learnt(spec.settings))
    assert {"ema.safetensors", judging.picture} <= set(record.artifacts)
    assert all(spec.store.artifact(record.key, name).is_file() for name in record.artifacts)
    assert task_of(record.protocol) == spec.settings.task
    assert set(spec.settings.task.scored_by) <= set(record.protocol)
    assert prepare(spec.settings).task.shape[-1] == record.trained_latent


@pytest.mark.parametrize("end", ["in training", "in its stages"])
def test_killed_and_continued_it_ends_bit_identical(spec_of, cache, monkeypatch, end):
    Path("elsewhere").mkdir()
    share_cache(Path("elsewhere/runs"), cache)
    straight = spec_of("out=elsewhere/runs")
    whole = Ended.of(straight, run_trial(straight, attempt("straight")))
    spec, advance = spec_of(), loop.Training.advance

    def dies(*_):
        raise KeyboardInterrupt

    def dies_at_5(self, step, batch):
        return dies() if step == 5 else advance(self, step, batch)

    with monkeypatch.context() as dying:
        if end == "in training":
            dying.setattr(loop.Training, "advance", dies_at_5)
        else:
            dying.setattr(type(prepare(spec.settings).task), "score", dies)
        with pytest.raises(KeyboardInterrupt):
            run_trial(spec, attempt("killed"))
    record = run_trial(spec, attempt("killed"))
    assert record.provenance["continued_from"] == ([4] if end == "in training" else [])
    Ended.of(spec, record).assert_equal(whole)


def test_every_ending_says_why_of_every_score(spec_of, monkeypatch):
    rejected = run_trial(spec_of(limits={"params": 1}), attempt("rejected"))
    assert all(isinstance(rejected.quantities[name], Unavailable) for name in learnt(spec_of().settings))
    counted = run_trial(spec_of("count_only=true"), attempt("counted"))
    assert counted.quantities["macs"].value > 0
    advance = loop.Training.advance

    def spoilt(self, step, batch):
        advance(self, step, batch)
        if step == self.recipe.steps:
            next(self.ema.model.parameters()).data.fill_(torch.nan)

    monkeypatch.setattr(loop.Training, "advance", spoilt)
    monkeypatch.setattr(loop.Training, "_validate", lambda self: self._point("validation_loss", 1.0))
    monkeypatch.setattr(loop.Training, "save", lambda _self: None)
    spec = spec_of()
    stages = {"denoise": "sample", "decode": "reconstruct", "unblur": "restore"}
    failed = run_trial(spec, attempt("failed"))
    phase = stages[spec.settings.task.name]
    assert failed.state == "failed"
    for name in spec.settings.task.scoring(spec.settings).scores:
        quantity = failed.quantities[name]
        assert isinstance(quantity, Failed)
        assert (quantity.phase, "NaN or infinite" in quantity.message) == (phase, True)
    assert why(failed).startswith(phase)


def test_the_default_task_is_in_no_identity_and_another_is(toy):
    assert "task" not in tiny_spec().protocol.sections
    assert toy_spec().protocol.sections["task"] == {"kind": "unblur", "pictures": 32}
    keys = {toy_spec(f"task.pictures={count}").key for count in (32, 16)}
    assert len(keys) == 2
    assert "objective" not in toy_spec().protocol.sections
    assert toy_spec("objective.critic=0").protocol.sections["objective"] == {"critic": 0.0, "kind": "restoring"}


@pytest.mark.parametrize(
    ("base", "settings", "sentence"),
    [
        ("filter.yaml", ["task=denoise"], "task=denoise trains no FilterConfig, and task=unblur does; give that task"),
        ("laptop/dit", [], "task=unblur trains no DiTConfig, and task=denoise does; give that task"),
        ("decoder/tiny", [], "task=unblur trains no DecoderConfig, and task=decode does; give that task"),
        ("filter.yaml", ["sampling.steps=3"], "sampling.steps says something of a task's sampling, and task=unblur"),
        ("filter.yaml", ["objective=flow_matching"], "task=unblur is trained by objective=restoring, not by flow_"),
    ],
)
def test_what_does_not_suit_a_task_is_refused_in_a_sentence(toy, capsys, base, settings, sentence):
    ladder = {"base": base, "mode": "cumulative", "rungs": [{"name": "only", "title": "Only"}]}
    study = {"architecture": ladder, "settings": TOY}
    write_yaml(Path("sweeps/odd.yaml"), study)
    assert main(["ablate", "odd", *settings]) != 0
    said = capsys.readouterr().err
    assert said.startswith("harness: ")
    assert sentence in said
    assert said.count("\n") == 1
    assert not Path("runs/store").exists()


def test_an_ablation_has_a_page_status_and_logs(toy, capsys):
    assert main(["ablate", "filters", "recipe.steps=60", "seeds=[0,1]"]) == 0
    said = capsys.readouterr()
    assert "done, Sharpness " in said.err
    page = Path("runs/filters/report.html").read_text()
    assert "Sharpness" in page
    assert "KID" not in page
    assert "the blurred digits as they are; what needs no network" in page
    assert page.count('alt="samples of ') == 4
    assert "The same digits, restored by each network." in page
    assert "same noise" not in page
    assert main(["status", "filters"]) == 0
    assert "done, Sharpness " in capsys.readouterr().out
    assert main(["status", "filters", "--json"]) == 0
    status = json.loads(capsys.readouterr().out)
    assert status["score"] == "sharpness"
    assert all(cell["score"] > 0 for cell in status["cells"])
    (log, *_) = Path("runs/tracking").glob("*.jsonl")
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert {"task.kind", "recipe.steps", "kernel"} <= set(lines[0]["config"])
    assert "sharpness" in log.read_text()
    assert main(["config", "filters"]) == 0
    printed = capsys.readouterr().out
    Path("sweeps/again.yaml").write_text(printed)
    assert settings_of([], settings_in_yaml("sweeps/again.yaml")) == settings_of([], TOY)
    key = next(iter(Store(Path("runs/store")).trials())).key
    assert main(["sample", key]) != 0
    assert f"Trial {key} is of task=unblur, and no pictures are sampled from its network" in capsys.readouterr().err


def settings_in_yaml(path):
    import yaml

    return yaml.safe_load(Path(path).read_text())["settings"]


def test_a_sweep_halves_and_trains_finalists_and_the_best_is_promoted(toy, capsys):
    assert main(["sweep", "filter_search"]) == 0
    said = capsys.readouterr()
    assert "floor: candidates are promoted above a Sharpness of " in said.err
    assert "were re-scored with 2 seeds" in said.err
    page = Path("runs/filter_search/report.html").read_text()
    assert "highest sharpness" in page
    assert "KID" not in page
    records = list(Store(Path("runs/store")).trials())
    final = {record.seed for record in records if record.fidelity == "final"}
    assert final == {1, 2}
    assert {record.protocol["recipe"]["steps"] for record in records} == {4, 40}
    assert main(["status", "filter_search"]) == 0
    assert "promoted above a Sharpness of " in capsys.readouterr().out

    assert main(["promote", "filter_search", "--rule", "best", "--to", "winner.yaml"]) == 0
    assert "the highest Sharpness: sharpness " in (said := capsys.readouterr().err)
    assert " re-scored finalists, by the means of 2 fresh seeds" in said
    means = {}
    for record in (each for each in records if each.fidelity == "final"):
        means.setdefault(record.architecture_fingerprint, []).append(record.quantities["sharpness"].value)
    best = max(means, key=lambda fingerprint: sum(means[fingerprint]))
    assert architecture("winner.yaml").fingerprint == best
    assert "  task:" in Path("winner.yaml").read_text()
    capsys.readouterr()
    assert main(["train", "winner.yaml", "recipe.steps=50", "data=digits", "coreml=none", "latency=none",
                 "launcher=debug", "tracker=none"]) == 0  # fmt: skip
    assert "goes on from step 40 of trial " in capsys.readouterr().err


def test_a_task_that_nothing_makes_known_is_a_sentence():
    with pytest.raises(UserError, match=r"unknown value for 'task.kind': 'unblur'"):
        task_of({"task": {"kind": "unblur"}})
