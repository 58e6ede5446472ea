"""What refused candidates are to TPE: neither random start nor part of gamma, and still to be avoided."""

import itertools

import numpy as np
import optuna
import pytest
from fake_sweep import SPACE, World, size
from optuna.samplers import TPESampler
from optuna.trial import TrialState, create_trial
from scipy.stats import binomtest

from harness.search import searcher
from harness.search.searcher import ENOUGH, TPE, Searcher
from harness.search.space import space

LIMIT = {"macs": 17_440}  # refuses 55% of the space


def modelled(monkeypatch, kind=TPE):
    """(how many are trained, how many are called good) at each knob that is asked of the model."""
    seen, build = [], TPESampler._build_parzen_estimator

    def noting(self, study, space, trials, handle_below):
        if handle_below:
            states = (TrialState.COMPLETE, TrialState.PRUNED)
            past = study.get_trials(deepcopy=False, states=states)
            seen.append((sum("refused" not in each.user_attrs for each in past), len(trials)))
        return build(self, study, space, trials, handle_below)

    monkeypatch.setattr(TPESampler, "_build_parzen_estimator", noting)
    return seen


def test_the_limit_refuses_55_percent():
    found = space(SPACE)
    choices = [knob.values() for knob in found.knobs.values()]
    combined = (dict(zip(found.knobs, values, strict=True)) for values in itertools.product(*choices))
    sizes = [size(found.architecture(parameters)) for parameters in itertools.islice(combined, 0, None, 4)]
    assert np.mean(np.array(sizes) > LIMIT["macs"]) == pytest.approx(0.55, abs=0.05)


def test_it_begins_to_model_after_so_many_trained_ones_and_gamma_counts_those(tmp_path, cheap, monkeypatch):
    seen = modelled(monkeypatch)
    world = World(tmp_path, workers=1)
    world.run(trials=30, sampler="tpe", limits=LIMIT)
    assert sum("refused" in trial.user_attrs for trial in world.trials()) > 10
    assert min(trained for trained, _ in seen) == ENOUGH
    assert max(trained for trained, _ in seen) == 29
    for trained, good in seen:
        assert good == int(np.ceil(0.1 * trained))


def test_the_same_after_a_restart(tmp_path, cheap, monkeypatch):
    world = World(tmp_path, workers=1)
    world.run(trials=6, sampler="tpe", limits=LIMIT)
    seen = modelled(monkeypatch)
    world.run(trials=14, sampler="tpe", limits=LIMIT)
    assert min(trained for trained, _ in seen) == ENOUGH
    assert {good for _, good in seen} <= {1, 2}


def refuse_high(sampler_of, seed, refused_as_trials):
    """The share of proposals with x = 2 or 3 of 0 to 3, which is refused, after ten results that say nothing of x."""
    sampler = sampler_of(seed)
    study = optuna.create_study(directions=["minimize", "minimize"], sampler=sampler)
    draw, kept = np.random.default_rng(seed), []
    space = {"x": optuna.distributions.CategoricalDistribution([0, 1, 2, 3])}

    def past(x, **more):
        return create_trial(params={"x": x}, distributions=space, **more)

    for number in range(20):
        x = number % 4
        if x >= 2:
            kept.append(past(x, state=TrialState.PRUNED, constraints={"macs": 0.5}))
            kept[-1].number = len(study.trials)
        else:
            study.add_trial(past(x, values=draw.uniform(size=2), state=TrialState.COMPLETE))
    if refused_as_trials:
        sampler.refused = kept
    found = []
    for _ in range(40):
        trial = study.ask()
        found.append(trial.suggest_categorical("x", [0, 1, 2, 3]))
        study.tell(trial, state=TrialState.FAIL)
    return [x >= 2 for x in found]


def test_it_proposes_what_was_refused_less_often_than_by_chance():
    with_them = np.concatenate([refuse_high(lambda s: TPE(seed=s), seed, True) for seed in range(8)])
    assert binomtest(int(with_them.sum()), len(with_them), 0.5, alternative="less").pvalue < 1e-6
    without = np.concatenate([refuse_high(lambda s: TPE(seed=s), seed, False) for seed in range(8)])
    assert with_them.mean() < without.mean() - 0.05, "not only because nothing good was seen there"


@pytest.mark.slow
def test_in_a_sweep_it_is_refused_less_often_than_at_random(tmp_path, cheap):
    def refused_after_the_start(sampler, seed):
        folder = tmp_path / f"{sampler}-{seed}"
        folder.mkdir()
        world = World(folder, workers=1)
        world.run(trials=30, sampler=sampler, sampler_seed=1000 * seed, limits=LIMIT)
        marks, trained = [], 0
        for trial in world.trials():
            trained += "levels" in trial.user_attrs
            if trained > ENOUGH:
                marks.append("refused" in trial.user_attrs)
        return marks

    tpe, random = (
        np.concatenate([refused_after_the_start(name, seed) for seed in range(3)]) for name in ("tpe", "random")
    )
    assert binomtest(int(tpe.sum()), len(tpe), random.mean(), alternative="less").pvalue < 0.001


def test_counting_them_as_trials_shows(tmp_path, cheap, monkeypatch):
    """Red on Optuna's own counting: refused ones as pruned trials of the study."""
    monkeypatch.setitem(searcher.SAMPLERS, "tpe", lambda seed: TPESampler(seed=seed))
    add = Searcher._add

    def as_a_trial(self, candidate):
        if candidate.state != "refused":
            return add(self, candidate)
        self._study.add_trial(
            create_trial(
                state=TrialState.PRUNED,
                params=dict(candidate.parameters),
                distributions=self._space.distributions(candidate.parameters),
                constraints=dict(candidate.violations),
                user_attrs={"refused": True},
            )
        )
        self._next += 1
        return None

    monkeypatch.setattr(Searcher, "_add", as_a_trial)
    seen = modelled(monkeypatch)
    world = World(tmp_path, workers=1)
    world.run(trials=30, sampler="tpe", limits=LIMIT)
    assert min(trained for trained, _ in seen) < ENOUGH
    assert any(good > int(np.ceil(0.1 * trained)) for trained, good in seen)
