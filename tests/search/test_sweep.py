"""`harness sweep`: budgets, limits, repeats and stops, over a space of six tiny candidates."""

from pathlib import Path

import optuna
import pytest
import torch
from optuna.trial import TrialState
from tiny_study import BASE, SETTINGS, SPACE, SWEEP, write_yaml

from harness.cli import main
from harness.launch.events import read_events
from harness.records.store import Store
from harness.search.definition import sweep_study
from harness.search.space import space as space_of
from harness.training.objectives import flow_matching
from harness.trials import run
from harness.trials.costs import counted
from harness.trials.prepared import prepare
from harness.trials.settings import settings_of
from harness.trials.tasks import denoise


def study(name="search"):
    return optuna.load_study(study_name=name, storage=f"sqlite:///{Path('runs', name, 'study.db').absolute()}")


def trials(*states):
    return study().get_trials(states=states or None)


@pytest.fixture
def trainings(monkeypatch):
    """The architectures whose training began, in order."""
    trained, train = [], run.Trial.train

    def counting(self, prepared):
        trained.append(self.spec.architecture.fingerprint)
        return train(self, prepared)

    monkeypatch.setattr(run.Trial, "train", counting)
    return trained


@pytest.mark.slow
def test_a_budget_holds_over_a_stop_and_a_restart(workplace, trainings, monkeypatch):
    poll, polls = denoise.Denoise.score, iter(range(9))

    def interrupted(self, *arguments):
        if next(polls) == 1:
            raise KeyboardInterrupt
        return poll(self, *arguments)

    with monkeypatch.context() as stopping:
        stopping.setattr(denoise.Denoise, "score", interrupted)
        assert main(["sweep", "search"]) == 130
    assert [trial.state for trial in trials()] == [TrialState.COMPLETE, TrialState.RUNNING]
    assert main(["sweep", "search"]) == 0
    complete = trials(TrialState.COMPLETE)
    assert len(complete) == SWEEP["trials"]
    assert len({trial.user_attrs["fingerprint"] for trial in complete}) == SWEEP["trials"]
    assert len(trainings) == SWEEP["trials"] + 1, "the interrupted one begins twice and goes on from its checkpoint"
    finished = [line["key"] for line in read_events(Path("runs/search/attempts")) if line["event"] == "finished"]
    assert len(finished) == len(set(finished)) == SWEEP["trials"]
    records = {record.key: record for record in Store(Path("runs/store")).trials()}
    for trial in complete:
        (level,) = trial.user_attrs["levels"]
        record = records[level["key"]]
        assert trial.values == [record.quantities["kid"].value, record.quantities["macs"].value]


def test_the_same_command_once_more_trains_nothing_and_a_larger_budget_goes_on(workplace, trainings, capsys):
    assert main(["sweep", "search", "trials=1"]) == 0
    assert main(["sweep", "search", "trials=1"]) == 0
    assert len(trainings) == 1
    assert main(["sweep", "search", "trials=2"]) == 0
    assert len(trainings) == len(set(trainings)) == 2
    assert "2 candidates were trained" in capsys.readouterr().err


@pytest.mark.slow
def test_an_exhausted_space_ends_and_says_so(workplace, trainings, capsys):
    assert main(["sweep", "search", "trials=50"]) == 0
    assert "exhausted" in capsys.readouterr().err
    assert len(trainings) == len(set(trainings)) == 6, "every candidate once"
    assert len(trials(TrialState.COMPLETE)) == 6


def test_a_candidate_above_a_limit_is_pruned_with_its_violation_and_never_trained(workplace, trainings):
    space = {**SPACE, "knobs": {"ffn": {"path": "feed_forward.ratio", "choices": [2, 3, 4]}}}
    write_yaml(Path("search_spaces/tiny.yaml"), space)
    prepared = prepare(settings_of([], SETTINGS))
    sizes = {}
    for ratio in (2, 3, 4):
        made = prepared.adapt_to_data(space_of(space).architecture({"ffn": ratio}))
        sizes[ratio] = (counted(made, 8)["params"].value, made.fingerprint)
    limit = sizes[3][0]
    assert main(["sweep", "search", f"limits.params={limit}"]) == 0
    assert sorted(trainings) == sorted(sizes[ratio][1] for ratio in (2, 3))
    (pruned,) = trials(TrialState.PRUNED)
    assert pruned.params == {"ffn": 4}
    assert pruned.user_attrs["refused"] == f"params is {sizes[4][0]:,}, above the limit of {limit:,}"
    violations = {trial.params["ffn"]: violation(trial) for trial in trials() if "fingerprint" in trial.user_attrs}
    assert violations == {ratio: pytest.approx(size / limit - 1) for ratio, (size, _) in sizes.items()}
    assert all(trial.params["ffn"] != 4 for trial in study().best_trials)


def test_a_limit_that_nothing_meets_ends_in_one_sentence(workplace, trainings, capsys):
    assert main(["sweep", "search", "limits.params=1000", "max_rejections=3"]) == 2
    said = capsys.readouterr().err
    assert "3 candidates in a row were refused" in said
    assert "none has params of at most 1,000, the smallest seen is " in said
    assert trainings == []


def test_a_sweep_whose_every_training_fails_ends_in_a_sentence_and_status_1(workplace, trainings, monkeypatch, capsys):
    loss = flow_matching.flow_matching_loss
    with monkeypatch.context() as patch:
        patch.setattr(flow_matching, "flow_matching_loss", lambda *arguments: loss(*arguments) * torch.nan)
        assert main(["sweep", "search", "trials=2"]) == 1
    assert "; all 2 failed, the last because train: training diverged at step" in capsys.readouterr().err
    assert main(["sweep", "search", "trials=3"]) == 0
    assert len(trainings) == 3


@pytest.mark.slow
def test_what_another_study_measured_is_not_trained_again(workplace, trainings):
    assert main(["sweep", "search", "trials=6"]) == 0
    write_yaml(Path("sweeps/other.yaml"), SWEEP)
    assert main(["sweep", "other", "trials=6"]) == 0
    assert len(trainings) == 6
    assert read_events(Path("runs/other/attempts")) == []
    assert {tuple(trial.values) for trial in study("other").get_trials(states=(TrialState.COMPLETE,))} == {
        tuple(trial.values) for trial in trials(TrialState.COMPLETE)
    }


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"sampler": "tpee"}, "unknown sampler 'tpee'; choose one of: tpe"),
        ({"objectives": {"kidd": "minimize"}}, "unknown objective 'kidd'; choose one of: kid"),
        ({"objectives": {"latency_cpu": "minimize"}}, "unknown objective 'latency_cpu'"),  # latency=none
        ({"objectives": {"kid": "down"}}, "'objectives.kid'"),
        ({"objectives": {}}, "at least one objective"),
        ({"space": "tinny"}, "unknown name in search_spaces/: 'tinny'; choose one of: tiny"),
        ({"settings": {**SETTINGS, "seeds": [0, 1]}}, "give one seed"),
        ({"trial": 3}, "unknown setting 'trial'; choose one of: trials"),
    ],
)
def test_mistakes_are_one_sentence_before_anything_is_trained(workplace, trainings, capsys, change, sentence):
    write_yaml(Path("sweeps/search.yaml"), {**SWEEP, **change})
    assert main(["sweep", "search"]) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert said.count("\n") == 1
    assert trainings == []
    assert not Path("runs/search").exists()


def test_a_changed_space_is_no_continuation(workplace, trainings, capsys):
    assert main(["sweep", "search", "trials=1"]) == 0
    changed = {**SPACE, "knobs": {"ffn": {"path": "feed_forward.ratio", "choices": [2, 3]}}}
    write_yaml(Path("search_spaces/tiny.yaml"), changed)
    assert main(["sweep", "search", "trials=2"]) == 2
    assert "the space changed since this sweep began: knobs" in capsys.readouterr().err
    assert len(trainings) == 1


def test_a_changed_base_is_no_continuation(workplace, trainings, capsys):
    assert main(["sweep", "search", "trials=1"]) == 0
    write_yaml(Path("tiny_base.yaml"), {**BASE, "edits": {**BASE["edits"], "time_width": 32}})
    assert main(["sweep", "search", "trials=2"]) == 2
    assert "the base changed since this sweep began: time_width: 16 -> 32" in capsys.readouterr().err
    assert len(trainings) == 1


def test_other_objectives_are_no_continuation(workplace, trainings, capsys):
    assert main(["sweep", "search", "trials=1"]) == 0
    write_yaml(Path("sweeps/search.yaml"), {**SWEEP, "objectives": {"kid": "minimize"}})
    assert main(["sweep", "search", "trials=2"]) == 2
    assert "the objectives changed since this sweep began: macs: minimize -> None" in capsys.readouterr().err


def test_a_latency_that_is_an_objective_stays_on_its_chip(workplace, trainings, capsys):
    objectives = {"kid": "minimize", "latency_predicted": "minimize"}
    settings = {**SWEEP["settings"], "latency": "predicted"}
    write_yaml(Path("sweeps/search.yaml"), {**SWEEP, "objectives": objectives, "settings": settings})
    assert main(["sweep", "search", "trials=1"]) == 0
    assert main(["sweep", "search", "trials=2", "latency.predicted.chip=A16"]) == 2
    said = capsys.readouterr().err
    assert "the latency changed since this sweep began: latency_predicted.chip: A17 Pro -> A16" in said


def test_a_limit_on_latency_says_what_it_was_checked_with(workplace, trainings, capsys):
    limit = "limits.latency_ms={{at_most: {}, chip: A15}}"
    assert main(["sweep", "search", "trials=1", "max_rejections=3", limit.format(0.0001)]) == 2
    assert "none has latency_ms of at most 0.0001" in (said := capsys.readouterr().err)
    assert "the last because latency_ms on A15 is" in said
    assert "(predicted, " in said
    assert trainings == []
    assert main(["sweep", "search", "trials=1", limit.format(1000)]) == 0
    (record,) = [found for found in Store(Path("runs/store")).trials() if found.state == "complete"]
    assert Path("runs/search/report.html").is_file()  # a sweep ends with its page
    assert record.quantities["latency_ms"].kind == "predicted"
    assert record.quantities["latency_ms"].conditions["chip"] == "A15"


def test_a_study_file_that_cannot_be_read_or_written_is_a_sentence(workplace, monkeypatch, capsys):
    def full(*_, **__):
        raise optuna.exceptions.StorageInternalError("commit") from OSError("database or disk is full")

    with monkeypatch.context() as disk:
        disk.setattr(optuna.storages.RDBStorage, "create_new_trial", full)
        assert main(["sweep", "search"]) == 2
    path = Path("runs/search/study.db")
    said = capsys.readouterr().err
    assert f"cannot write {path}: database or disk is full; mend that and run the same command" in said
    before_the_first_candidate = [(optuna.Study, "get_trials"), (optuna.storages.RDBStorage, "set_study_user_attr")]
    for owner, operation in before_the_first_candidate:
        with monkeypatch.context() as disk:
            disk.setattr(owner, operation, full)
            assert main(["sweep", "search"]) == 2
        said = capsys.readouterr().err
        assert f"cannot write {path}: database or disk is full; mend that and run the same command" in said
    path.write_bytes(b"no database" * 100)
    assert main(["sweep", "search"]) == 2
    assert f"cannot open the study {path}: file is not a database; " in capsys.readouterr().err


def violation(trial):
    """How far above its limit a candidate is; 0 or less where the limit is met."""
    return trial.constraints["params"]


def test_the_twin_of_the_command_line_is_the_pages(workplace):
    """Else the page holds the costs of the twin that ran for another's."""
    write_yaml(Path("sweeps/twinned.yaml"), {**SWEEP, "twin": {"base": "thin_sdxl", "latent": 128}})
    definition, settings = sweep_study("twinned", ["twin.latent=64"])
    assert definition.twin == settings.twin
    assert definition.twin.latent == 64
    assert sweep_study("twinned", ["twin=null"])[0].twin is None


@pytest.mark.parametrize("setting", ["sampler.seed=3", "trials.x=3"])
def test_a_part_of_a_setting_that_has_none_is_a_sentence(workplace, capsys, setting):
    assert main(["sweep", "search", setting]) == 2
    assert f"unknown setting '{setting.split('=')[0]}'" in capsys.readouterr().err


def test_a_dry_run_refuses_another_storage_too(workplace, capsys):
    folder = Path("runs/search")
    folder.mkdir(parents=True)
    (folder / "sweep.json").write_text('{"id": "0", "storage": "sqlite"}')
    assert main(["sweep", "search", "storage=journal", "--dry-run"]) == 2
    assert "this sweep's study lies in storage=sqlite, not journal" in capsys.readouterr().err
