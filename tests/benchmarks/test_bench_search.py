"""Is the search worth more than the published ladder, and more than chance, for the same training steps?

    pytest tests/benchmarks/test_bench_search.py -m benchmark -s

Arms, each on the embedded digits, in the laptop's space of 1,008 architectures around a network of 0.27 M parameters:

    search    TPE and asynchronous halving: 24 candidates to 80 steps, a third of them on to 160
    random    the same halving of candidates drawn at random; TPE draws its first ten so too, the same ten in a repeat
    ladder    the eight rungs of sweeps/fig3.yaml alone, all to 160 steps: each with one seed, then from the first rung
              on with a second one, until the steps are spent, which is after the last. A rung's score is its mean

Fixed before the first run of any arm, and not changed since: all of the above; 2,560 training steps an arm, counted in
the trainings' own logs; two objectives, KID and multiply-adds; three repeats, each with its own seed of the sampler and
of the trainings; KID at N = 256, five Euler steps. 80 steps is where the ladder's base is below halving's floor.

Every arm's front (by its own scores) is then trained again to 160 steps with two fresh seeds, and scored with fresh
samples; the mean of those scores tells what the front is worth. The hypervolume of the search's own scores stands
beside it: it is flattered by the luck that made them the front (the winner's curse).

Hypervolume: in log KID and log multiply-adds, since both are told as ratios, so an area of 1 is a factor of e in both.
The reference point is the KID of a Gaussian fitted to the pixels, which halving has as its floor too, and twice the
multiply-adds of the ladder's first rung. A KID below 0.05 counts as 0.05, which N = 256 does not tell from 0.

Arms run in processes of one thread, as many at once as there are cores, each trial in its arm's own process. What was
done is kept (BENCH_SEARCH_WORK, default runs/bench_search): killed, the same command goes on.
"""

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev

import pytest
import torch
from scipy import stats

from .search_arms import ARMS, BASE, Arm, Design, Point, hypervolume, lay_out, mean_points, reference_of, working_in

pytestmark = [pytest.mark.benchmark(group="search"), pytest.mark.timeout(6 * 3600)]
LEAST_KID = 0.05
DESIGN = Design(
    trials=24,
    budgets=(80, 160),
    reduction=3,
    repeats=3,
    fresh=2,
    base=BASE,
    settings={
        "data": "digits",
        "recipe": "laptop",
        "recipe.learning_rate": 0.008,
        "recipe.warmup_steps": 10,
        "recipe.validate_every": 80,
        "recipe.validation_images": 64,
        "recipe.checkpoint_every": 80,
        "sampling.steps": 5,
        "quality": "laptop",
        "quality.samples": 256,
        "latency": "none",
        "coreml": "none",
        "tracker": "none",
        "launcher": "debug",
    },
)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Of one arm and repeat."""

    arm: str
    repeat: int
    steps: int
    trained: int  # architectures to the top budget
    searched: dict[str, Point]  # the front, by the arm's own scores
    rescored: dict[str, Point]  # the same architectures, by fresh scores
    reference: Point

    @property
    def searched_volume(self) -> float:
        return hypervolume(list(self.searched.values()), self.reference, LEAST_KID)

    @property
    def rescored_volume(self) -> float:
        return hypervolume(list(self.rescored.values()), self.reference, LEAST_KID)


def test_search_against_random_and_the_ladder():
    """Fails if the arms' steps are not equal, never for what the fronts are worth."""
    work = Path(os.environ.get("BENCH_SEARCH_WORK", "runs/bench_search")).absolute()
    outcomes = measure(work, DESIGN, workers=os.cpu_count() or 1)
    print("\n" + "\n".join(told(outcomes)))
    check(outcomes, DESIGN)


def measure(work: Path, design: Design, workers: int) -> list[Outcome]:
    """Run what is left: first all arms, a repeat after the other, then the fronts again."""
    lay_out(work, design)
    arms = [
        Arm(name=name, repeat=repeat, work=work, design=design) for repeat in range(design.repeats) for name in ARMS
    ]
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        list(pool.map(run_arm, arms))
        return list(pool.map(score_arm, arms))


def run_arm(arm: Arm) -> None:
    torch.set_num_threads(1)
    with working_in(arm.work):
        arm.run()


def score_arm(arm: Arm) -> Outcome:
    torch.set_num_threads(1)
    with working_in(arm.work):
        own, fresh = mean_points(arm.trained()), mean_points(arm.rescore())
        front = [made.fingerprint for made in arm.front()]
        return Outcome(
            arm=arm.name,
            repeat=arm.repeat,
            steps=arm.steps(),
            trained=len(own),
            searched={each: own[each] for each in front},
            rescored=fresh,
            reference=reference_of(arm),
        )


def check(outcomes: list[Outcome], design: Design) -> None:
    assert {each.steps for each in outcomes} == {design.steps}
    assert len({each.reference for each in outcomes}) == 1
    assert all(each.searched.keys() == each.rescored.keys() for each in outcomes)


def told(outcomes: list[Outcome]) -> list[str]:
    """The table: every repeat, the means with their spread, and the differences with their intervals."""
    kid, macs = outcomes[0].reference
    lines = [f"hypervolume in log KID x log multiply-adds, reference KID {kid:.3g} and {macs:,.0f} multiply-adds"]
    lines += [
        f"{each.arm:7} repeat {each.repeat}: {each.steps} steps, {each.trained} architectures to the top budget, "
        f"{len(each.searched)} on the front, {each.searched_volume:.3f} by its own scores, "
        f"{each.rescored_volume:.3f} re-scored, best KID {best(each.searched):.3f} and {best(each.rescored):.3f}"
        for each in outcomes
    ]
    for arm in ARMS:
        own, fresh = (volumes(outcomes, arm, kind) for kind in KINDS)
        lines.append(f"{arm:7} {spread(own)} by its own scores, {spread(fresh)} re-scored (mean, standard deviation)")
    for other in ARMS[1:]:
        for kind in KINDS:
            lines.append(f"search - {other}: {difference(outcomes, other, kind)} {kind.replace('_volume', '')}")
    return lines


KINDS = ("searched_volume", "rescored_volume")


def volumes(outcomes: list[Outcome], arm: str, kind: str) -> list[float]:
    return [getattr(each, kind) for each in outcomes if each.arm == arm]


def spread(values: list[float]) -> str:
    return f"{fmean(values):.3f} +- {stdev(values):.3f}" if len(values) > 1 else f"{values[0]:.3f}"


def difference(outcomes: list[Outcome], other: str, kind: str) -> str:
    """The difference of the means, with Welch's 95% interval where there are repeats."""
    one, two = volumes(outcomes, "search", kind), volumes(outcomes, other, kind)
    shown = f"{fmean(one) - fmean(two):+.3f}"
    if len(one) < 2:
        return shown
    interval = stats.ttest_ind(one, two, equal_var=False).confidence_interval(0.95)
    return f"{shown}, 95% interval {interval.low:+.3f} to {interval.high:+.3f},"


def best(points: dict[str, Point]) -> float:
    return min(kid for kid, _ in points.values())
