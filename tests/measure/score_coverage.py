"""Do the intervals of KID and FD cover? Generated features are Gaussian, so their KID against given reference images is
known in closed form, and FD's expectation at N is the mean over all repeats.

`python tests/measure/score_coverage.py` prints the tables of docs/evidence/scores.md (3 minutes of an idle core).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np
import torch
from torch import Tensor

from harness.measure.quality_distances import (
    Estimate,
    Gaussian,
    Groups,
    frechet_distance,
    jackknife_groups,
    kernel_distance,
)
from harness.measure.statistics import jackknife_difference, jackknife_error, jackknife_interval

Distance = Callable[[Tensor, Groups], Estimate]


@dataclass(frozen=True, kw_only=True)
class World:
    """x = centre of its class + shift l + scale l e, e ~ N(0, I), against y = centre + l e; l_i^2 falls as 1 / i."""

    images: int  # m
    reference: int  # n
    width: int = 32  # D
    shift: float = 0.3
    scale: float = 1.0
    classes: int = 1
    apart: float = 0.0  # the classes' centres, in units of l
    seed: int = 0

    @cached_property
    def random(self) -> torch.Generator:
        return torch.Generator().manual_seed(self.seed)

    @cached_property
    def deviation(self) -> Tensor:
        falling = torch.arange(1, self.width + 1, dtype=torch.float64) ** -0.5
        return falling * (self.width / falling.square().sum()).sqrt()

    @cached_property
    def centres(self) -> Tensor:
        return self.normal(self.classes) * self.deviation * self.apart

    @cached_property
    def labels(self) -> Tensor:
        return torch.arange(self.images) % self.classes

    @cached_property
    def groups(self) -> Groups:
        return jackknife_groups(self.labels)

    @cached_property
    def y(self) -> Tensor:
        return self.centres[torch.arange(self.reference) % self.classes] + self.normal(self.reference) * self.deviation

    @cached_property
    def distances(self) -> dict[str, Distance]:
        return {
            "KID": lambda x, groups: kernel_distance(x, self.y, groups),
            "FD": partial(_frechet, Gaussian.of(self.y)),
        }

    def normal(self, count: int) -> Tensor:
        return torch.randn(count, self.width, generator=self.random, dtype=torch.float64)

    def made_from(self, noise: Tensor, shift: float | None = None) -> Tensor:
        shift = self.shift if shift is None else shift
        return self.centres[self.labels] + (shift + self.scale * noise) * self.deviation

    def estimates(self, name: str, repeats: int) -> list[Estimate]:
        return [self.distances[name](self.made_from(self.normal(self.images)), self.groups) for _ in range(repeats)]

    def true_kid(self) -> float:
        """E KID over the generated images, for these reference images and one class.

        For fixed y, x.y / D is normal with mean a and variance b: E (1 + x.y / D)^3 = (1 + a)^3 + 3 (1 + a) b.
        """
        assert self.classes == 1
        d, n = self.width, self.reference
        mean, variance = self.centres[0] + self.shift * self.deviation, (self.scale * self.deviation) ** 2

        def cubed(a: Tensor, b: Tensor) -> Tensor:
            return (1 + a) ** 3 + 3 * (1 + a) * b

        between = cubed(self.y @ mean / d, self.y.square() @ variance / d**2).mean()
        a, b = mean @ mean / d, variance @ mean.square() / d**2
        spread = variance.square().sum() / d**2
        # over x' of cubed(mean.x' / D, x'.S x' / D^2), by the moments of a normal vector
        within = cubed(a, b) + 3 * ((1 + a) * (b + spread) + 2 * (variance.square() @ mean.square()) / d**3)
        kernel = (self.y @ self.y.T / d + 1) ** 3
        return float(within - 2 * between + (kernel.sum() - kernel.diagonal().sum()) / (n * (n - 1)))


def _frechet(gaussian: Gaussian, x: Tensor, groups: Groups) -> Estimate:
    return frechet_distance(x, gaussian, groups)


@dataclass(frozen=True, kw_only=True)
class Coverage:
    truth: float
    deviation: float  # of the estimates: the sampling noise that there is
    error: float  # root mean square of the jackknife's
    covered: float  # share of the intervals with the truth in it


def coverage(estimates: list[Estimate], truth: float | None = None) -> Coverage:
    """Without a `truth`, the mean of the estimates stands for their expectation."""
    values = np.array([estimate.value for estimate in estimates])
    truth = float(values.mean()) if truth is None else truth
    intervals = [jackknife_interval(estimate.value, estimate.replicates) for estimate in estimates]
    return Coverage(
        truth=truth,
        deviation=float(values.std(ddof=1)),
        error=float(np.sqrt(np.mean([jackknife_error(estimate.replicates) ** 2 for estimate in estimates]))),
        covered=float(np.mean([interval.low <= truth <= interval.high for interval in intervals])),
    )


def bootstrap_bias(world: World, name: str, repeats: int, resamples: int = 20) -> tuple[float, float]:
    """How far the mean of bootstrap resamples (with replacement) lies above the estimate, and the sampling noise."""
    picks, values, excess = np.random.default_rng(world.seed), [], []
    for _ in range(repeats):
        x = world.made_from(world.normal(world.images))
        values.append(world.distances[name](x, world.groups).value)
        drawn = (picks.integers(0, len(x), len(x)) for _ in range(resamples))
        excess.append(np.mean([world.distances[name](x[at], world.groups).value for at in drawn]) - values[-1])
    return float(np.mean(excess)), float(np.std(values, ddof=1))


@dataclass(frozen=True, kw_only=True)
class Paired:
    covered: float  # share of the intervals of the difference with the true difference in it
    length: float  # of these, on average
    unpaired: float  # length of intervals that ignore what is shared


def paired(world: World, name: str, repeats: int, other_shift: float) -> Paired:
    """Two networks from the same noise and labels; the second shifts by `other_shift`."""
    differences, intervals, unpaired = [], [], []
    for _ in range(repeats):
        noise = world.normal(world.images)
        one, other = (
            world.distances[name](world.made_from(noise, shift), world.groups) for shift in (world.shift, other_shift)
        )
        differences.append(one.value - other.value)
        intervals.append(jackknife_difference((one.value, one.replicates), (other.value, other.replicates)))
        alone = [jackknife_interval(each.value, each.replicates) for each in (one, other)]
        unpaired.append(np.hypot(*(each.high - each.low for each in alone)))
    truth = np.mean(differences)
    return Paired(
        covered=float(np.mean([each.low <= truth <= each.high for each in intervals])),
        length=float(np.mean([each.high - each.low for each in intervals])),
        unpaired=float(np.mean(unpaired)),
    )


AT_512 = World(images=512, reference=512)
WORLDS = {
    "at the floor": replace(AT_512, shift=0.0),
    "near the floor": replace(AT_512, shift=0.1),
    "in between": AT_512,
    "far away": replace(AT_512, shift=1.0),
    "N = 128": replace(AT_512, images=128, reference=128),
    "N = 240 against 89": replace(AT_512, images=240, reference=89),
    "10 classes apart": replace(AT_512, classes=10, apart=1.0),
    "10 classes, N = 128": replace(AT_512, images=128, reference=128, classes=10, apart=1.0),
    "D = 1280": replace(AT_512, width=1280),
}


def coverage_table() -> Iterator[str]:
    yield "| | score | truth | sampling noise (sd) | jackknife's, to it | covered | repeats |"
    yield "|---|---|---|---|---|---|---|"
    for name, world in WORLDS.items():
        for score in ("KID", "FD"):
            repeats = 60 if score == "FD" and world.width > 100 else 400
            truth = world.true_kid() if score == "KID" and world.classes == 1 else None
            result = coverage(world.estimates(score, repeats), truth)
            yield (
                f"| {name} | {score} | {result.truth:.4f} | {result.deviation:.4f} "
                f"| {result.error / result.deviation:.2f} | {result.covered:.1%} | {repeats} |"
            )


def bootstrap_table() -> Iterator[str]:
    yield "| | score | bootstrap's mean above the estimate | sampling noise (sd) | in units of it |"
    yield "|---|---|---|---|---|"
    for name in ("at the floor", "in between", "far away"):
        for score in ("KID", "FD"):
            bias, deviation = bootstrap_bias(WORLDS[name], score, 20, resamples=10)
            yield f"| {name} | {score} | {bias:.4f} | {deviation:.4f} | {bias / deviation:.1f} |"


def paired_table() -> Iterator[str]:
    yield "| shifts | score | covered | length | length, not paired |"
    yield "|---|---|---|---|---|"
    for shift in (0.31, 0.6):
        for score in ("KID", "FD"):
            pair = paired(AT_512, score, 300, shift)
            yield f"| 0.3, {shift} | {score} | {pair.covered:.1%} | {pair.length:.4f} | {pair.unpaired:.4f} |"


if __name__ == "__main__":
    torch.set_num_threads(1)
    for table in (coverage_table, bootstrap_table, paired_table):
        for line in table():
            print(line, flush=True)
        print()
