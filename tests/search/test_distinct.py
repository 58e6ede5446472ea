"""No architecture is trained twice, and a finite space is exhausted with every one of its architectures."""

import optuna
import pytest
from fake_sweep import SPACE, World
from optuna.trial import TrialState

from harness.records.errors import UserError
from harness.search import searcher
from harness.search.searcher import Unseen
from harness.search.space import space

SMALL = {"base": SPACE["base"], "knobs": {name: SPACE["knobs"][name] for name in ("ffn", "width")}}  # 12


def fingerprints(world, *states):
    return [trial.user_attrs["fingerprint"] for trial in world.trials(*states)]


def test_a_hundred_trials_of_tpe_are_a_hundred_architectures(tmp_path, cheap):
    world = World(tmp_path)
    world.run(trials=100, sampler="tpe", storage="journal")
    assert len(set(fingerprints(world, TrialState.COMPLETE))) == 100
    assert len(world.trials()) == 100, "a repeat is replaced in the same question, not written as a trial"


def test_tpe_alone_repeats_itself():
    """What the replacement is for: the same sampler, space and scores, asked plainly."""
    study = optuna.create_study(directions=["minimize"] * 2, sampler=optuna.samplers.TPESampler(seed=0))
    of_space, seen = space(SPACE), set()
    for _ in range(100):
        trial = study.ask()
        parameters = of_space.suggest(trial)
        seen.add(tuple(parameters.values()))
        widths = [parameters[name] for name in ("width", "middle", "last")]
        macs = sum(width**2 for width in widths) * parameters["ffn"] + parameters["time"]
        study.tell(trial, [2e4 / macs + 0.08, macs])
    assert len(seen) < 90


def test_without_the_replacement_it_is_trained_again(tmp_path, cheap, monkeypatch):
    """The mutation: every combination is taken for new."""
    monkeypatch.setattr(searcher.Unseen, "nearest", lambda _self, parameters: parameters)
    world = World(tmp_path, workers=1)
    world.run(SMALL, trials=12)
    assert len(set(fingerprints(world))) < 12


def test_an_exhausted_space_ends_and_says_so(tmp_path, cheap):
    world = World(tmp_path)
    ending = world.run(SMALL, trials=50)
    assert "exhausted" in ending.reason
    assert len(fingerprints(world)) == len(set(fingerprints(world))) == 12


def test_what_a_limit_refused_is_refused_once(tmp_path, cheap):
    world = World(tmp_path)
    world.run(SMALL, trials=50, limits={"macs": 20_000})
    assert len(fingerprints(world)) == 12
    assert 0 < len(world.trials(TrialState.PRUNED)) < 12


def test_a_space_of_which_nothing_meets_the_limit_says_that_and_not_that_it_is_exhausted(tmp_path, cheap):
    with pytest.raises(UserError, match="12 candidates in a row were refused: none has macs of at most 10"):
        World(tmp_path).run(SMALL, trials=5, limits={"macs": 10})


def test_a_combination_that_a_rule_refuses_is_one_trial_with_its_reason(tmp_path, cheap):
    odd = {"base": SPACE["base"], "knobs": {"head": {"path": "head_dim", "choices": [16, 7]}}}
    world = World(tmp_path)
    assert "exhausted" in world.run(odd, trials=9).reason
    refused = [trial for trial in world.trials() if "refused" in trial.user_attrs]
    assert [trial.params["head"] for trial in refused] == [7]
    assert len(world.trials(TrialState.COMPLETE)) == 1


def test_the_nearest_is_the_fewest_knobs_away():
    found = space(SPACE)
    start = {"ffn": 2, "width": 32, "middle": 48, "last": 64, "time": 64}
    unseen_yet = Unseen(found, lambda parameters: str(sorted(parameters.items())), [], seed=0)
    distances = []
    for _ in range(80):
        near = unseen_yet.nearest(start)
        unseen_yet._tried.add(searcher._key(near))
        distances.append(sum(near[name] != start[name] for name in start))
    assert distances == sorted(distances)
    assert distances[0] == 0
    assert distances.count(1) == 3 + 2 + 2 + 2 + 3


def test_another_knob_setting_of_the_same_architecture_is_a_repeat(tmp_path, cheap):
    same = {
        "base": SPACE["base"],
        "knobs": {
            "ffn": {"path": "feed_forward.ratio", "choices": [2, 3]},
            "twice": {"edits": {"so": {"time_width": 64}, "or_so": {"time_width": 64}}},
        },
    }
    world = World(tmp_path)
    assert "exhausted" in world.run(same, trials=9).reason
    assert len(fingerprints(world)) == 2
