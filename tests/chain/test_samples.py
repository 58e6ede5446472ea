"""Where a network of few steps and the one before are scored: one grid, of the commands and of the plan."""

import pytest
from tiny_chain import STAGES, chain, lay_out

from harness.chain.definition import chain_study
from harness.chain.plan import Plan
from harness.chain.samples import score_grid
from harness.chain.stages import Chain
from harness.chain.step import Looked
from harness.diffusion.config import SamplingConfig
from harness.trials.scored_at import ScoredAt
from harness.trials.settings import settings_of


@pytest.fixture
def made(tmp_path, monkeypatch, cache):
    """A chain of two seeds whose trainings are known by their keys."""
    monkeypatch.chdir(tmp_path)
    few = {"settings": STAGES["few_steps"]["settings"]}
    lay_out(tmp_path, cache, chain("train", "few_steps", train={"architecture": "tiny_base.yaml"}, few_steps=few))
    known = Chain(*chain_study("tiny", ["seeds=[0,1]"]))
    keys = {"train": {0: "a" * 16, 1: "b" * 16}, "few_steps": {0: "c" * 16, 1: "d" * 16}}

    def trained(stage: str) -> Looked:
        settings = settings_of((), known.settings_of(stage))
        known.looked[stage] = Looked(steps=(), keys=keys[stage], settings=settings)
        return known.looked[stage]

    monkeypatch.setattr(known, "_trained", trained)
    for stage in keys:
        known.look(stage)
    return known


def test_every_seed_is_scored_in_the_few_steps(made):
    scored = [step.words[1] for step in made.looked["few_steps"].steps if step.words[0] == "evaluate"]
    assert scored == ["a" * 16, "b" * 16, "c" * 16, "d" * 16]


def test_the_plan_counts_the_passes_that_the_commands_make(made, monkeypatch):
    grid = score_grid(None, *(made.looked[stage].settings.sampling for stage in ("few_steps", "train")))
    (step, *_) = (step for step in made.looked["few_steps"].steps if step.words[0] == "evaluate")
    assert list(step.words[2 : 2 + len(grid.words)]) == grid.words
    own = made.looked["few_steps"].settings
    passes = sum(point.evaluations for point in grid.points)
    assert Plan(made)._scores("few_steps", own, 10) == 4 * 2 * 10 * passes * own.quality.samples


def test_a_grid_is_what_is_asked_or_both_networks_own_steps():
    own, before = SamplingConfig(steps=4), SamplingConfig(steps=10, guidance_scale=2.0)
    grid = score_grid(None, own, before)
    assert (grid.steps, grid.guidance) == ((4, 10), (1.0, 2.0))
    asked = score_grid(ScoredAt(steps=(1, 2), solvers=("heun",)), own, before)
    assert [(point.solver, point.steps) for point in asked.points] == [("heun", 1), ("heun", 2)]
