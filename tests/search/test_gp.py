"""Gaussian processes as a sweep's sampler: limits are learnt from refused candidates, and the search goes on anew."""

import pytest
from fake_sweep import World

from harness.search.searcher import ENOUGH, GP

LIMIT = {"macs": 12_000}  # refuses about 70% of the space


def refused_after_the_start(folder):
    """Of two drivers' candidates, those refused once so many were trained that the sampler models."""
    world = World(folder, workers=2)
    for trials in (12, 20):
        world.run(trials=trials, sampler="gp", limits=LIMIT)
    refused = ["refused" in trial.user_attrs for trial in world.trials()]
    assert refused.count(False) == 20
    modelling = [at for at, each in enumerate(refused) if not each][ENOUGH + 1]  # two are asked for at once
    return sum(refused[modelling:])


@pytest.mark.slow
def test_limits_are_learnt_from_what_was_refused(tmp_path, cheap):
    """By random candidates, seven of ten would be refused: about 20 beside nine trained ones."""
    assert refused_after_the_start(tmp_path) <= 3


@pytest.mark.slow
def test_without_the_refused_they_are_not(tmp_path, cheap, monkeypatch):
    """The mutation: Optuna's own, which sees candidates that meet the limit and no others."""
    monkeypatch.delattr(GP, "_get_constraints_acqf_args")
    assert refused_after_the_start(tmp_path) > 3


def test_a_study_goes_on_under_other_limits(tmp_path, cheap):
    """Optuna's processes want the same limits of every trial; an added one is held by the gate alone."""
    world = World(tmp_path, workers=2)
    for trials, limits in ((11, {}), (12, LIMIT), (13, {})):
        assert world.run(trials=trials, sampler="gp", limits=limits).reason == f"{trials} candidates were trained"
