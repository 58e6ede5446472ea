"""The search benchmark in small: the same arms and the same numbers, with trainings of seconds."""

from dataclasses import replace
from math import e

import numpy as np
import pytest
from optuna._hypervolume import compute_hypervolume

from ..benchmarks import search_arms
from ..benchmarks import test_bench_search as bench
from ..benchmarks.search_arms import (
    HALVING,
    LADDER,
    LADDER_ROUND,
    METHODS,
    WHOLE,
    dominated,
    dominated_area,
    hypervolume,
)

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
    fresh=1,
    settings={**bench.DESIGN.settings, **SMALL, "recipe.learning_rate": 0.001},
)


ARMS = ("gp_counts", "tpe_ladder", WHOLE, LADDER)  # each kind of arm, sampler and beginning


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_arms_spend_equal_steps_and_an_ended_benchmark_is_not_run_again(tmp_path, monkeypatch):
    """In this process: what another test has differentiated here, a forked one could not."""
    monkeypatch.setattr("harness.search.driver.floor_of", lambda *_: float("inf"))  # these trainings beat no Gaussian
    monkeypatch.setattr(
        bench, "reference_of", lambda _arm: (1000.0, 1e9)
    )  # and the floor is what computes the controls
    monkeypatch.setattr(search_arms, "COUNTED", 30)
    records = tmp_path / "records.jsonl"
    outcomes = bench.measure(tmp_path, DESIGN, ARMS, [10], workers=0, records=records)
    bench.check(outcomes, DESIGN)
    assert [each.arm for each in outcomes] == list(ARMS)
    assert [each.trained for each in outcomes] == [3, 3, 5, 5], "60 steps: nine of 4, three of 8 more; or five of 12"
    assert all(each.searched_volume > 0 < each.rescored_volume for each in outcomes)
    assert all(each.searched.keys() == each.rescored.keys() for each in outcomes)
    assert len(outcomes[-1].again) == 5, "every rung is trained again"
    assert any("rungs dominated by seed" in line for line in bench.domination(outcomes))
    logs = {path: path.read_text() for path in tmp_path.glob("*/*/attempts/*/steps.log")}
    elsewhere = tmp_path / "elsewhere"
    assert bench.measure(elsewhere, DESIGN, ARMS, [10], workers=0, records=records) == outcomes, (
        "taken from the records"
    )
    assert not elsewhere.exists()
    records.unlink()
    assert bench.measure(tmp_path, DESIGN, ARMS, [10], workers=0, records=records) == outcomes, "from what was trained"
    assert {path: path.read_text() for path in tmp_path.glob("*/*/attempts/*/steps.log")} == logs
    other = replace(DESIGN, fresh=2)
    assert not bench.recorded(records, other), "of another design"


def test_the_design_gives_every_arm_the_same_steps():
    assert bench.DESIGN.steps == 48 * 80 + 16 * 80 == 8 * 4 * 160
    assert bench.DESIGN.full_trainings == 32


def test_no_seed_is_used_twice():
    seeds = (*bench.DEVELOPMENT, *bench.CONFIRMATION)
    ladder = [seed + LADDER_ROUND * number for seed in bench.CONFIRMATION for number in range(4)]
    fresh = [bench.DESIGN.fresh_seed(seed, number) for seed in seeds for number in range(bench.DESIGN.fresh)]
    used = [*bench.DEVELOPMENT, *ladder, *fresh]
    assert len(set(used)) == len(used)


def outcome(arm, seed, kid, again=None):
    points = {"a": (kid, 10.0), "b": (2 * kid, 5.0)}
    return bench.Outcome(
        arm=arm,
        seed=seed,
        steps=1,
        trained=2,
        searched=points,
        rescored=points,
        again=again or points,
        reference=(100.0, 100.0),
    )


def test_the_choice_is_the_highest_mean_of_re_scored_volumes():
    kids = {name: 1.0 + number for number, name in enumerate(METHODS)} | {"gp": 0.5}
    assert bench.chosen([outcome(name, seed, kid) for name, kid in kids.items() for seed in (10, 11)]) == "gp"
    assert set(METHODS) == set(HALVING) - {"random"}


def test_a_clear_difference_is_told_and_none_is_not():
    wobble = {20: 1.0, 21: 1.1, 22: 0.9, 23: 1.05, 24: 0.95, 25: 1.0}
    shifted = dict(zip(wobble, reversed(wobble.values()), strict=True))
    found = [outcome("tpe", seed, 0.1 * each) for seed, each in wobble.items()]
    found += [outcome("random", seed, each) for seed, each in wobble.items()]
    found += [outcome(LADDER, seed, 0.1 * each) for seed, each in shifted.items()]
    told = {line.split(":")[0]: line for line in bench.concluded(found, "tpe")}
    assert float(told["tpe - random"].split("p ")[1].split(",")[0].split()[0]) < 0.001
    assert float(told["tpe - ladder"].split("p ")[1].split(",")[0].split()[0]) > 0.05


def test_domination_is_of_every_rung_at_once():
    rungs = {"first": (2.0, 10.0), "last": (4.0, 5.0)}
    assert dominated(rungs, [(1.0, 10.0)]) == 1
    assert dominated(rungs, [(1.0, 10.0), (4.0, 4.0)]) == 2
    assert dominated(rungs, [(2.0, 10.0), (4.0, 5.0)]) == 0, "equal to a rung is not better"
    ladder = [outcome(LADDER, seed, 1.0, rungs) for seed in (20, 21)]
    (line,) = bench.domination([outcome("gp", 20, 1.9), outcome("gp", 21, 2.1), *ladder])
    assert "in 1 of 2 seeds" in line
    assert line.endswith("rungs dominated by seed: 2, 0")


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
