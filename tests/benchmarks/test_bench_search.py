"""Is the search worth more than the published ladder, and more than chance, for the same training steps?

    pytest tests/benchmarks/test_bench_search.py -m benchmark -s                     # what is left of all of it
    pytest tests/benchmarks/test_bench_search.py -m benchmark -s -k "development and gp_ladder"   # one method
    pytest tests/benchmarks/test_bench_search.py -m benchmark -s -k choice            # the development's table
    pytest tests/benchmarks/test_bench_search.py -m benchmark -s -k "confirmation and random"     # one arm
    pytest tests/benchmarks/test_bench_search.py -m benchmark -s -k conclusion        # the confirmation's table

Fixed before the first run of any of these arms. On the embedded digits, in the laptop's space of 1,008 architectures
around a network of 0.27 M parameters; 5,120 training steps an arm, counted in the trainings' own logs; two objectives,
KID and multiply-adds; KID at N = 256, five Euler steps.

Development. Six methods, all with asynchronous halving: 48 candidates to 80 steps, a third of them on to 160. Two
samplers, `tpe` and `gp`, times three ways to begin:

    tpe, gp           ten candidates at random, then the model
    ..._ladder        the eight rungs of sweeps/fig3.yaml first
    ..._counts        the base first, and of 100 architectures the eight whose multiply-adds lie most evenly in their
                      logarithm; what has more than twice those of the ladder's first rung, where nothing counts, is
                      refused untrained

Each with seeds 10, 11 and 12, of the sampler and of the trainings. Chosen is the method with the highest mean re-scored
hypervolume. All six are told, whatever comes out.

Confirmation. Once, with seeds 20 to 25, which nobody has seen:

    search            the chosen method
    random            the same halving of candidates drawn at random
    random_whole      32 candidates drawn at random, all to 160 steps
    ladder            the eight rungs alone, all to 160 steps with four seeds each; a rung's score is its mean

Every arm's front (by its own scores) is trained again to 160 steps with three fresh seeds, and scored with fresh
samples; the mean of those scores tells what the front is worth. The hypervolume of the search's own scores stands
beside it: it is flattered by the luck that made them the front (the winner's curse). All of the ladder's rungs are
trained again, with the same fresh seeds.

The statement: search against each of the three others, difference of the mean re-scored hypervolumes, by the noise
model of measure/statistics.py over the six seeds, p corrected for the three (when this was fixed, by Holm; now by their
joint distribution, which is less strict). And in how many of the six seeds an arm's re-scored front dominates every
re-scored rung of the ladder at once (each rung by some point that is no worse in both and better in one), with Wilson's
interval. A method that begins with the ladder's rungs has them among its own candidates: against the ladder that is no
test of the sampler, against random it is.

Hypervolume: in log KID and log multiply-adds, since both are told as ratios, so an area of 1 is a factor of e in both.
The reference point is the KID of a Gaussian fitted to the pixels, which halving has as its floor too, and twice the
multiply-adds of the ladder's first rung. A KID below 0.05 counts as 0.05, which N = 256 does not tell from 0.

Cost. An evaluation (80 to 160 steps, samples, scores) takes about 10 s of a core; an arm with one seed has about 80, so
14 core-minutes: 4 core-hours for the development, 5.5 for the confirmation. Arms run in processes of one thread, as
many at once as there are cores (BENCH_SEARCH_WORKERS), each trial in its arm's own process. What was done is kept
(BENCH_SEARCH_WORK, default runs/bench_search): killed, the same command goes on. What an arm and seed came to also
stands in docs/evidence/records/search.jsonl, beside its design, and is taken from there on another machine.
"""

import contextlib
import json
import multiprocessing
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev

import pytest
import torch

from harness.measure.statistics import noise_of, wilson
from harness.measure.statistics_joint import Difference, corrected
from harness.records.plain import canonical_json, fingerprint, from_plain, to_plain

from .search_arms import (
    BASE,
    LADDER,
    METHODS,
    WHOLE,
    Arm,
    Design,
    Point,
    dominated,
    hypervolume,
    lay_out,
    mean_points,
    reference_of,
    working_in,
)

pytestmark = [pytest.mark.benchmark(group="search"), pytest.mark.timeout(12 * 3600)]
DEVELOPMENT = (10, 11, 12)
CONFIRMATION = (20, 21, 22, 23, 24, 25)
OTHERS = ("random", WHOLE, LADDER)
WORK = Path(os.environ.get("BENCH_SEARCH_WORK", "runs/bench_search")).absolute()
WORKERS = int(os.environ.get("BENCH_SEARCH_WORKERS", os.cpu_count() or 1))
RECORDS = Path(__file__).parents[2] / "docs" / "evidence" / "records" / "search.jsonl"
LEAST_KID = 0.05
DESIGN = Design(
    trials=48,
    budgets=(80, 160),
    reduction=3,
    fresh=3,
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
    """Of one arm and seed."""

    arm: str
    seed: int
    steps: int
    trained: int  # architectures to the top budget
    searched: Mapping[str, Point]  # the front, by the arm's own scores
    rescored: Mapping[str, Point]  # the same architectures, by fresh scores
    again: Mapping[str, Point]  # all that were trained again: of the ladder, every rung
    reference: Point

    @property
    def searched_volume(self) -> float:
        return hypervolume(list(self.searched.values()), self.reference, LEAST_KID)

    @property
    def rescored_volume(self) -> float:
        return hypervolume(list(self.rescored.values()), self.reference, LEAST_KID)


@pytest.mark.parametrize("method", METHODS)
def test_development(method):
    outcomes = measure(WORK, DESIGN, [method], DEVELOPMENT)
    print("\n" + "\n".join(report_lines(outcomes)))
    check(outcomes, DESIGN)


def test_choice():
    outcomes = measure(WORK, DESIGN, METHODS, DEVELOPMENT)
    print("\n" + "\n".join([*report_lines(outcomes), f"chosen: {chosen(outcomes)}"]))


@pytest.mark.parametrize("arm", ["search", *OTHERS])
def test_confirmation(arm):
    outcomes = measure(WORK, DESIGN, [method() if arm == "search" else arm], CONFIRMATION)
    print("\n" + "\n".join(report_lines(outcomes)))
    check(outcomes, DESIGN)


def test_conclusion():
    """Fails if the arms' steps are not equal, never for what the fronts are worth."""
    search = method()
    outcomes = measure(WORK, DESIGN, [search, *OTHERS], CONFIRMATION)
    print("\n" + "\n".join([*report_lines(outcomes), *concluded(outcomes, search), *domination(outcomes)]))
    check(outcomes, DESIGN)


def method() -> str:
    """The chosen one; runs what is left of the development."""
    return chosen(measure(WORK, DESIGN, METHODS, DEVELOPMENT))


def measure(
    work: Path,
    design: Design,
    names: Sequence[str],
    seeds: Sequence[int],
    *,
    workers: int = WORKERS,
    records: Path = RECORDS,
) -> list[Outcome]:
    """Run what is left, a seed after the other; in this process for 0 workers. Each outcome is kept at once."""
    outcomes = recorded(records, design)
    arms = [Arm(name=name, seed=seed, work=work, design=design) for seed in seeds for name in names]
    left = [arm for arm in arms if (arm.name, arm.seed) not in outcomes]
    if left:
        lay_out(work, design)
    with contextlib.ExitStack() as stack:
        run = map
        if workers:
            context = multiprocessing.get_context("fork")
            run = stack.enter_context(ProcessPoolExecutor(workers, mp_context=context)).map
        for outcome in run(measure_arm, left):
            outcomes[outcome.arm, outcome.seed] = outcome
            record(records, design, outcome)
    return [outcomes[arm.name, arm.seed] for arm in arms]


def recorded(records: Path, design: Design) -> dict[tuple[str, int], Outcome]:
    """(arm, seed) -> what it came to, of those of this design."""
    lines = map(json.loads, records.read_text().splitlines() if records.exists() else ())
    outcomes = [from_plain(Outcome, line["outcome"]) for line in lines if line["design"] == name_of(design)]
    return {(each.arm, each.seed): each for each in outcomes}


def record(records: Path, design: Design, outcome: Outcome) -> None:
    records.parent.mkdir(parents=True, exist_ok=True)
    with records.open("a") as file:
        file.write(canonical_json({"design": name_of(design), "outcome": to_plain(outcome)}) + "\n")


def name_of(design: Design) -> str:
    return fingerprint(design, schema="bench_search")


def measure_arm(arm: Arm) -> Outcome:
    """Run it, then train its front again."""
    torch.set_num_threads(1)
    with working_in(arm.work):
        arm.run()
        own, again = mean_points(arm.trained()), mean_points(arm.rescore())
        front = [config.fingerprint for config in arm.front()]
        return Outcome(
            arm=arm.name,
            seed=arm.seed,
            steps=arm.steps(),
            trained=len(own),
            searched={each: own[each] for each in front},
            rescored={each: again[each] for each in front},
            again=again,
            reference=reference_of(arm),
        )


def check(outcomes: Sequence[Outcome], design: Design) -> None:
    assert {each.steps for each in outcomes} == {design.steps}
    assert len({each.reference for each in outcomes}) == 1


def chosen(outcomes: Sequence[Outcome]) -> str:
    """The method with the highest mean re-scored hypervolume."""
    return max(dict.fromkeys(each.arm for each in outcomes), key=lambda arm: fmean(volumes(outcomes, arm)))


def report_lines(outcomes: Sequence[Outcome]) -> list[str]:
    """The table: every arm and seed, and the means with their spread over seeds."""
    kid, macs = outcomes[0].reference
    lines = [f"hypervolume in log KID x log multiply-adds, reference KID {kid:.3g} and {macs:,.0f} multiply-adds"]
    lines += [
        f"{each.arm:12} seed {each.seed}: {each.steps} steps, {each.trained} architectures to the top budget, "
        f"{len(each.searched)} on the front, {each.searched_volume:.3f} by its own scores, "
        f"{each.rescored_volume:.3f} re-scored, best KID {best(each.searched):.3f} and {best(each.rescored):.3f}"
        for each in outcomes
    ]
    for arm in dict.fromkeys(each.arm for each in outcomes):
        own = [each.searched_volume for each in outcomes if each.arm == arm]
        fresh = spread(volumes(outcomes, arm))
        lines.append(f"{arm:12} {spread(own)} by its own scores, {fresh} re-scored (mean, standard deviation)")
    return lines


def concluded(outcomes: Sequence[Outcome], search: str) -> list[str]:
    """The search against each other arm, by re-scored hypervolumes."""
    arms = dict.fromkeys(each.arm for each in outcomes)
    noise = noise_of({arm: {each.seed: each.rescored_volume for each in outcomes if each.arm == arm} for arm in arms})
    assert noise is not None, "one seed has no spread"
    comparisons = {other: noise.compare(search, other) for other in arms if other != search}
    p = corrected({other: Difference(noise=noise, one=search, other=other) for other in comparisons})
    lines = [
        f"{search} - {other}: {each.difference:+.3f}, 95% interval {each.low:+.3f} to {each.high:+.3f}, "
        f"p {p[other]:.2g}, corrected"
        for other, each in comparisons.items()
    ]
    means = {arm: noise.contrast({arm: 1.0}) for arm in arms}
    alone = [f"{arm}: {each.value:.3f}, 95% interval {each.low:.3f} to {each.high:.3f}" for arm, each in means.items()]
    return [*alone, *lines, f"re-scored hypervolumes, {noise.sentence}; each interval for itself"]


def domination(outcomes: Sequence[Outcome]) -> list[str]:
    """How often an arm's re-scored front dominates every re-scored rung of the ladder at once."""
    rungs = {each.seed: each.again for each in outcomes if each.arm == LADDER}
    lines = []
    for arm in dict.fromkeys(each.arm for each in outcomes if each.arm != LADDER):
        fronts = {each.seed: list(each.rescored.values()) for each in outcomes if each.arm == arm}
        counts = [dominated(rungs[seed], front) for seed, front in fronts.items()]
        all_of = sum(count == len(rungs[seed]) for count, seed in zip(counts, fronts, strict=True))
        low, high = wilson(all_of, len(counts))
        lines.append(
            f"{arm}: every rung of the ladder dominated at once in {all_of} of {len(counts)} seeds (95% interval "
            f"{low:.0%} to {high:.0%}); rungs dominated by seed: {', '.join(map(str, counts))}"
        )
    return lines


def volumes(outcomes: Sequence[Outcome], arm: str) -> list[float]:
    return [each.rescored_volume for each in outcomes if each.arm == arm]


def spread(values: Sequence[float]) -> str:
    return f"{fmean(values):.3f} +- {stdev(values):.3f}" if len(values) > 1 else f"{values[0]:.3f}"


def best(points: Mapping[str, Point]) -> float:
    return min(kid for kid, _ in points.values())
