"""Budgets with real trainings: a promoted candidate is, to the last bit, the one trained to the top straight away."""

from pathlib import Path

import pytest
from optuna.trial import TrialState
from tiny_study import SETTINGS, SWEEP, write_yaml

from harness.cli import main
from harness.launch.events import read_events
from harness.records.store import Store
from harness.search import driver
from harness.search.study import stored_study
from harness.trials import controls
from harness.trials.tasks import denoise

WITHOUT_STEPS = {name: value for name, value in SETTINGS.items() if name != "recipe.steps"}
BUDGETS = {**SWEEP, "trials": 3, "budgets": [4, 7], "settings": WITHOUT_STEPS}
TIMES = ("train_seconds",)  # what two runs of the same training differ in


@pytest.fixture
def budgeted(workplace, monkeypatch):
    """The sweep `search` with two budgets, and a floor that six steps of a tiny network can be below."""
    write_yaml(Path("sweeps/search.yaml"), BUDGETS)
    monkeypatch.setattr(driver, "floor_of", lambda *_: 1e6)
    return workplace


def study(out="runs"):
    found = stored_study(Path(out, "search"), "search")
    assert found is not None
    return found


def records(out="runs"):
    return {record.key: record for record in Store(Path(out, "store")).trials()}


def measured(record):
    return {name: quantity for name, quantity in record.quantities.items() if name not in TIMES}


@pytest.mark.slow
def test_promoted_is_bit_identical_to_trained_to_the_top_straight(budgeted, cache):
    assert main(["sweep", "search"]) == 0
    (complete,) = study().get_trials(states=(TrialState.COMPLETE,))
    assert [level["steps"] for level in complete.user_attrs["levels"]] == [4, 7]
    found = records()
    promoted = found[complete.user_attrs["levels"][-1]["key"]]
    assert promoted.provenance["continued_from"] == [4], "it went on from the lower budget's checkpoint"
    assert complete.values == [promoted.quantities["kid"].value, promoted.quantities["macs"].value]
    Path("straight").mkdir()
    Path("straight/cache").symlink_to(cache)
    assert main(["sweep", "search", "out=straight", "budgets=[7]"]) == 0
    straight = records("straight")[promoted.key]
    assert straight.provenance["continued_from"] == []
    assert measured(straight) == measured(promoted)
    assert straight.curve == promoted.curve
    weights = [Store(Path(out, "store")).artifact(promoted.key, "ema.safetensors") for out in ("runs", "straight")]
    assert weights[0].read_bytes() == weights[1].read_bytes()


@pytest.mark.slow
def test_a_restart_between_and_in_the_budgets_trains_no_step_twice(budgeted, monkeypatch):
    """Stopped in every scoring once: the next driver goes on from the checkpoint, and ends with the same study."""
    score, seen = denoise.Denoise.score, set()

    def interrupted(self, trained, work):
        if work.spec.key not in seen:
            seen.add(work.spec.key)
            raise KeyboardInterrupt
        return score(self, trained, work)

    monkeypatch.setattr(denoise.Denoise, "score", interrupted)
    while main(["sweep", "search"]) == 130:
        assert len(seen) < 9
    assert len(study().get_trials(states=(TrialState.COMPLETE,))) == 1
    assert len(study().get_trials(states=(TrialState.PRUNED,))) == 2
    finished = [line["key"] for line in read_events(Path("runs/search/attempts")) if line["event"] == "finished"]
    assert len(finished) == len(set(finished)) == 4
    (complete,) = study().get_trials(states=(TrialState.COMPLETE,))
    kept = [folder.name for folder in Path("runs/search/checkpoints").iterdir()]
    assert kept == [complete.user_attrs["levels"][0]["key"]], "the front's; nothing that cannot be promoted"


@pytest.mark.slow
def test_checkpoints_are_kept_for_what_may_be_promoted(budgeted, monkeypatch):
    kept, stop = [], driver.Sweep._stop_waiting

    def looking(self, ending):
        kept.extend(self.problem.checkpoints.iterdir())
        stop(self, ending)

    monkeypatch.setattr(driver.Sweep, "_stop_waiting", looking)
    assert main(["sweep", "search"]) == 0
    stopped = study().get_trials(states=(TrialState.PRUNED,))
    waited = [trial for trial in stopped if trial.user_attrs["stopped"].startswith("not among the best")]
    complete = study().get_trials(states=(TrialState.COMPLETE,))
    assert {folder.name for folder in kept} == {each.user_attrs["levels"][0]["key"] for each in [*waited, *complete]}


def test_the_floor_is_the_pixel_gaussians_and_computed_first(workplace, capsys):
    """With the real floor: four steps of a tiny network are worse than it, so all are stopped and nothing promoted."""
    write_yaml(Path("sweeps/search.yaml"), {**BUDGETS, "trials": 1})
    assert main(["sweep", "search"]) == 0
    said = " ".join(capsys.readouterr().err.split())
    (control,) = [m for m in Store(Path("runs/store")).measurements() if m.settings.get("control") == "pixel_gaussian"]
    floor = control.quantities["kid"].value
    assert f"floor: candidates are promoted below a KID of {floor:.4g}" in said
    (trial,) = study().trials
    (level,) = trial.user_attrs["levels"]
    assert trial.state == TrialState.PRUNED
    assert (level["score"] < floor) == ("not among the best" in trial.user_attrs["stopped"])


def test_one_budget_is_held_against_the_floor_too(workplace, monkeypatch, capsys):
    """Six steps of a tiny network are worse: it is complete, and neither on the front nor chosen by a rule."""
    monkeypatch.setattr(driver, "floor_of", driver.floor_of.__wrapped__)
    assert main(["sweep", "search", "trials=1", "finalists.most=1", "finalists.seeds=2"]) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "floor: candidates count below a KID of" in said
    assert "no complete one counts, 1 of 1 are not below the floor, a KID of" in said
    assert "so there are no finalists" in said
    (trial,) = study().trials
    assert trial.state == TrialState.COMPLETE
    assert trial.user_attrs["beaten"].endswith("which a Gaussian fitted to the pixels reaches")
    assert study().best_trials == []
    top = Path("runs/search/report.html").read_text().split("</header>")[0]
    assert "trial-0 is no better than a Gaussian fitted to the pixels" in top
    assert "lowest" not in top
    assert main(["promote", "search", "--rule", "best"]) == 2
    assert "none of 1 in 'search' has a better KID than a Gaussian fitted to the pixels" in capsys.readouterr().err
    assert main(["promote", "search", "trial-0", "--to", "named.yaml"]) == 0
    assert main(["status", "search"]) == 0
    assert "counts below a KID of" in capsys.readouterr().out


def test_of_one_budget_a_floor_that_cannot_be_known_is_said_and_holds_nobody(workplace, monkeypatch, capsys):
    monkeypatch.setattr(driver, "floor_of", driver.floor_of.__wrapped__)
    monkeypatch.setattr(controls, "_measure", broken)
    assert main(["sweep", "search", "trials=1"]) == 0
    assert "so that no candidate is held against it" in " ".join(capsys.readouterr().err.split())
    assert study().best_trials != []


def broken(*_):
    raise RuntimeError("no such pixels")


def test_a_floor_that_cannot_be_known_is_said_and_nothing_trained(workplace, monkeypatch, capsys):
    monkeypatch.setattr(controls, "_measure", broken)
    write_yaml(Path("sweeps/search.yaml"), BUDGETS)
    assert main(["sweep", "search"]) == 2
    said = capsys.readouterr().err
    assert "budgets need a floor, the KID of a Gaussian fitted to the pixels, and it is not known: " in said
    assert "no such pixels" in said
    assert study().trials == []


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"budgets": [7, 4]}, "budgets are numbers of training steps, each above the last, not [7, 4]"),
        ({"budgets": [4, 7], "settings": SETTINGS}, "leave out recipe.steps"),
        (
            {"settings": {**WITHOUT_STEPS, "recipe.schedule": "cosine"}},
            "recipe.schedule=cosine depends on the last step",
        ),
        ({"settings": {**WITHOUT_STEPS, "count_only": True}, "objectives": {"macs": "minimize"}}, "count_only trains"),
        ({"reduction": 1}, "reduction is at least 2, not 1"),
        ({"hours": 0}, "hours is above 0, or null for no limit"),
        ({"gpu_hours": 1, "settings": {**WITHOUT_STEPS, "recipe.device": "cpu"}}, "limit hours instead"),
        ({"storage": "journl"}, "unknown storage 'journl'; choose one of: journal"),
        ({"enqueue": "search"}, "enqueue: search is no ablation"),
    ],
)
def test_mistakes_are_one_sentence(workplace, capsys, change, sentence):
    write_yaml(Path("sweeps/search.yaml"), {**BUDGETS, **change})
    assert main(["sweep", "search"]) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert said.count("\n") == 1
    assert not Path("runs/search").exists()


def test_budgets_may_not_change_while_a_study_goes_on(budgeted, capsys):
    assert main(["sweep", "search", "trials=1"]) == 0
    assert main(["sweep", "search", "trials=2", "budgets=[4,8]"]) == 2
    assert "the budgets changed since this sweep began: [4, 7] -> [4, 8]" in capsys.readouterr().err
