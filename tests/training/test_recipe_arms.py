"""The recipe's benchmark at a size of seconds: arms train what they say, once, and the choice is by their losses."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from harness.trials.settings import settings_of

from ..benchmarks import test_bench_recipe as bench
from ..benchmarks.recipe_arms import STANDING, Arm, architectures, median_loss, of_kernel, ranking, run_arm, table

DEBUG = {"launcher": "debug"}
TINY: dict[str, Any] = {
    "recipe.batch_size": 2,
    "recipe.validate_every": 2,
    "recipe.validation_images": 4,
    "sampling.steps": 1,
    "quality.samples": 16,
    "quality.kid_subset_size": 4,
    "quality.kid_subsets": 2,
}
ARM = Arm(name="tiny", kernels=(5, 3), rungs=bench.PAIR, steps=3, seeds=(1,), recipe={"cooldown": 0.4}, settings=TINY)


def test_every_arm_can_be_prepared(tmp_path: Path) -> None:
    for arm in [bench.STEPS, *bench.SCREEN]:
        recipe = settings_of((), arm.overrides(tmp_path, bench.LAUNCHER)).recipe
        assert recipe.steps == arm.steps
        assert {name: getattr(recipe, name) for name in STANDING} == {**STANDING, **arm.recipe}
        assert {bench.SHORT, bench.DECIDING} <= set(range(0, 1001, recipe.validate_every)), "the tables have both"


def test_a_rung_without_separable_convolutions_is_trained_once() -> None:
    rows = [(rung, kernel) for rung, kernel, _ in architectures(dataclasses.replace(ARM, rungs=None))]
    assert [kernel for rung, kernel in rows if rung in ("thin_sdxl", "no_high_res_sa")] == [None, None]
    assert len(rows) == 2 + 2 * 6
    assert all(config.convolution.kernel_size == (kernel or 3) for _, kernel, config in architectures(ARM))


@pytest.mark.slow
def test_an_arm_trains_and_then_reads(tmp_path: Path) -> None:
    rows = run_arm(ARM, tmp_path, DEBUG)
    assert [(row.rung, row.kernel) for row in rows] == [
        ("no_high_res_sa", None),
        ("expanded_sepconv", 5),
        ("expanded_sepconv", 3),
    ]
    assert [len(of_kernel(rows, kernel)) for kernel in (5, 3)] == [2, 2]
    assert all(sorted(row.losses) == [2, 3] and row.kid is not None for row in rows)
    assert rows[1].losses[3] != rows[2].losses[3]
    assert median_loss(of_kernel(rows, 5), 3) == pytest.approx((rows[0].losses[3] + rows[1].losses[3]) / 2)
    assert len(table(ARM, rows)) == 4 + 3 + 2
    again = run_arm(ARM, tmp_path, DEBUG)
    assert [row.record for row in again] == [row.record for row in rows]


def test_a_score_ranks_by_rungs_against_seeds() -> None:
    """Two rungs' losses differ by ten times what seeds do, KID only by noise, in the reverse order."""

    @dataclasses.dataclass
    class Made:
        rung: str
        losses: dict[int, float]
        kid: float | None

    rows = [
        Made(rung, {1: 9.0, 2: 1.0 + 0.1 * at + 0.01 * seed}, 2.0 - 0.01 * at + 0.1 * seed)
        for at, rung in enumerate("abc")
        for seed in (-1, 1)
    ]
    ranks = ranking(rows)  # type: ignore[arg-type]
    assert ranks is not None
    between, within = 2 * 0.1**2, 2 * 0.01**2  # variances of the rungs' means times the seeds, and of the seeds
    assert ranks.loss_f == pytest.approx(between / within)
    assert ranks.kid_f < 0.1
    assert ranks.agreement == pytest.approx(-1)
    assert ranking(rows[::2]) is None, "one seed"  # type: ignore[arg-type]


def test_the_combined_recipe_takes_the_best_of_each_factor(monkeypatch: pytest.MonkeyPatch) -> None:
    """By losses that are made up: the double rate with a cool-down is best, the shorter average, nothing else."""
    losses = dict.fromkeys(bench.SCREENED, 0.4) | {"cooldown_double": 0.3, "ema_short": 0.39}
    monkeypatch.setattr(bench, "run_arm", lambda arm, *_: arm.name.removeprefix("screen_"))
    monkeypatch.setattr(bench, "of_kernel", lambda name, _kernel: name)
    monkeypatch.setattr(bench, "median_loss", lambda name, _step: losses[name])
    assert bench.combined() == {"cooldown": 0.3, "learning_rate": 0.008, "ema_warmup": 18.0}
