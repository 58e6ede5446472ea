"""The search benchmark in small: the same arms and the same numbers, with trainings of seconds."""

from dataclasses import replace
from math import e

import numpy as np
import pytest
from optuna._hypervolume import compute_hypervolume

from ..benchmarks import test_bench_search as bench
from ..benchmarks.search_arms import ARMS, Arm, dominated_area, hypervolume

SMALL = {
    "recipe.batch_size": 8,
    "recipe.validate_every": 4,
    "recipe.validation_images": 8,
    "recipe.checkpoint_every": 4,
    "sampling.steps": 2,
    "quality.samples": 16,
    "quality.reference_samples": 64,
    "quality.kid_subsets": 3,
    "quality.extractor.resolution": 32,
}
DESIGN = replace(
    bench.DESIGN,
    trials=9,
    budgets=(4, 12),
    repeats=1,
    fresh=1,
    settings={**bench.DESIGN.settings, **SMALL, "recipe.learning_rate": 0.001},
)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_arms_spend_equal_steps_and_an_ended_benchmark_is_not_run_again(tmp_path, monkeypatch):
    monkeypatch.setattr("harness.search.driver.floor_of", lambda *_: float("inf"))  # these trainings beat no Gaussian
    monkeypatch.setattr(
        bench, "reference_of", lambda _arm: (1000.0, 1e9)
    )  # and the floor is what computes the controls
    outcomes = bench.measure(tmp_path, DESIGN, 1)
    bench.check(outcomes, DESIGN)
    assert [each.arm for each in outcomes] == list(ARMS)
    assert [each.trained for each in outcomes] == [3, 3, 5], "60 steps: nine of 4, three of them of 8 more; five of 12"
    assert all(each.searched_volume > 0 < each.rescored_volume for each in outcomes)
    told = "\n".join(bench.told(outcomes))
    assert all(f"search - {other}: " in told for other in ("random", "ladder"))
    logs = {path: path.read_text() for path in tmp_path.glob("*/*/attempts/*/steps.log")}
    assert bench.measure(tmp_path, DESIGN, 1) == outcomes
    assert {path: path.read_text() for path in tmp_path.glob("*/*/attempts/*/steps.log")} == logs


def test_the_design_gives_every_arm_the_same_steps():
    assert bench.DESIGN.steps == 24 * 80 + 8 * 80 == 8 * 2 * 160
    assert bench.DESIGN.full_trainings == 16


def test_no_arm_was_trained_or_scored_with_a_seed_that_scores_its_front_again(tmp_path):
    design = bench.DESIGN
    fresh = {design.fresh_seed(repeat, n) for repeat in range(design.repeats) for n in range(design.fresh)}
    assert len(fresh) == design.repeats * design.fresh
    assert not fresh & set(range(100))
    assert {Arm(name="search", repeat=r, work=tmp_path, design=design).design.seed(r) for r in range(3)} == {0, 1, 2}


def test_a_factor_of_e_in_both_is_an_area_of_1():
    assert hypervolume([(10 / e, 100 / e)], (10, 100), 1e-9) == pytest.approx(1)


def test_a_kid_below_the_least_counts_as_the_least_and_what_is_beyond_the_reference_for_nothing():
    assert hypervolume([(-0.3, 100 / e)], (10, 100), 10 / e) == pytest.approx(1)
    assert hypervolume([(11, 1), (1, 100), (1, 200)], (10, 100), 1e-9) == 0


@pytest.mark.parametrize("count", [1, 2, 5, 40])
def test_the_area_is_that_of_optunas_hypervolume(count):
    points = np.random.default_rng(count).uniform(-2, 0.3, (count, 2))
    inside = points[(points < 0).all(axis=1)]
    expected = compute_hypervolume(inside, np.zeros(2)) if len(inside) else 0.0
    assert dominated_area([tuple(point) for point in points]) == pytest.approx(expected)
