"""The correction of p for all tests of a page, so that at most one page in twenty states something false.

Step down (Holm 1979; Westfall and Young 1993): the tests are taken by increasing p. The corrected p of one is the
chance that the least p of all tests not yet stated, this one among them, is as small as its own where none is true.

Differences     Under one noise they are jointly multivariate t: they share groups and an estimated variance, and so the
                chance is less than the sum of their p (Hothorn, Bretz and Westfall 2008, section 3). It is averaged
                over the crossovers as p is. Heavy tails of the scores make those of t heavier: its degrees of freedom
                here are `Noise.effective_freedom`, what a variance has at the kurtosis of the residuals (Box 1953).
Margins         That one pair is "within" a margin and that it is "beyond" it cannot both be stated falsely, nor both be
                stated. The two have one share of the 5%, and none once either is stated.
Several kinds   The differences of each noise (a quantity), and the pairs with a margin, add up (Boole).

So no corrected p is below its p, nor above Holm's. A multivariate t vector in a given direction has a length whose
square is F, so that a few hundred directions, always the same ones, give the chance to some percent of itself.
"""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias, TypeVar

import numpy as np
from scipy import special, stats

from harness.measure.statistics import Noise, Vector

K = TypeVar("K", bound=Hashable)

DIRECTIONS = 256  # M
LOG_RATIOS, STEP = np.linspace(-5, 12, 800, retstep=True)  # the grid on which the tail of F is tabulated
RARE = 1e-4  # a crossover that is less likely than this is left out


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """The test of "no difference" between two groups, two-sided."""

    noise: Noise
    one: str
    other: str

    @property
    def p(self) -> float:
        return self.noise.p(self.one, self.other)


@dataclass(frozen=True, kw_only=True, slots=True)
class Margin:
    """A test of "within" a margin or of "beyond" it; tests of one `pair` share it, and contradict each other."""

    p: float
    pair: Hashable


Test: TypeAlias = Difference | Margin


def corrected(tests: Mapping[K, Test]) -> dict[K, float]:
    """Corrected p values. Of several statements of a page, all of that page's belong in here."""
    p = {key: test.p for key, test in tests.items()}
    order = sorted(tests, key=lambda key: p[key])
    noises = {id(test.noise): test.noise for test in tests.values() if isinstance(test, Difference)}
    joints = {at: _Joint.of(noise, [tests[key] for key in order]) for at, noise in noises.items()}
    adjusted, least, stated = {}, 0.0, set[Hashable]()
    for at, key in enumerate(order):
        test = tests[key]
        pairs = {other.pair for other in (tests[key] for key in order[at:]) if isinstance(other, Margin)} - stated
        if isinstance(test, Margin):
            pairs |= {test.pair}
            stated.add(test.pair)
        chance = len(pairs) * p[key] + sum(joint.chance(at, p[key]) for joint in joints.values())
        least = max(least, p[key], min(1.0, chance))
        adjusted[key] = least
    return {key: adjusted[key] for key in tests}


@dataclass(frozen=True, kw_only=True, eq=False)
class _Joint:
    """The differences of one noise, in the page's order. C crossovers, K differences, M directions."""

    noise: Noise
    places: tuple[int, ...]  # K; where they stand among the page's tests
    weights: Vector  # C
    log_largest: Vector  # C K M; how far each direction goes along this difference or any after it, at most
    log_tail: Vector  # of F, on `LOG_RATIOS`

    @classmethod
    def of(cls, noise: Noise, tests: Sequence[Test]) -> "_Joint":
        differences = {
            at: test for at, test in enumerate(tests) if isinstance(test, Difference) and test.noise is noise
        }
        likely = noise.weights > RARE
        axes = noise.axes([(test.one, test.other) for test in differences.values()])[likely]
        dimensions = axes.shape[-1]
        lengths = np.abs(axes @ _directions(dimensions).T)
        largest = np.maximum.accumulate(lengths[:, ::-1], 1)[:, ::-1]
        tail = special.fdtrc(dimensions, noise.effective_freedom, np.exp(2 * LOG_RATIOS) / dimensions)
        return cls(
            noise=noise,
            places=tuple(differences),
            weights=noise.weights[likely] / noise.weights[likely].sum(),
            log_largest=np.log(np.maximum(largest, 1e-300)),
            log_tail=np.log(np.maximum(tail, 1e-300)),
        )

    def chance(self, at: int, p: float) -> float:
        """That a difference at the page's place `at` or after it has a p as small as this, where there is none."""
        first = sum(place < at for place in self.places)
        remaining = len(self.places) - first
        if remaining < 2 or not 0 < p < 1:
            return remaining * p
        log_quantile = math.log(max(-special.stdtrit(self.noise.freedom, p / 2), 1e-300))
        chances = np.exp(_on_grid(self.log_tail, log_quantile - self.log_largest[:, first])).mean(-1)
        return min(remaining * p, float(self.weights @ chances))


def _on_grid(values: Vector, at: Vector) -> Vector:
    """What stands at these log ratios, between the grid's points on a line: np.interp looks for its place each time."""
    place = np.clip((at - LOG_RATIOS[0]) / STEP, 0, len(values) - 1)
    below = np.minimum(place.astype(np.int64), len(values) - 2)
    share = place - below
    return np.asarray(values[below] * (1 - share) + values[below + 1] * share)


@lru_cache(maxsize=32)
def _directions(dimensions: int) -> Vector:
    """M points spread evenly over the unit sphere."""
    even = stats.qmc.Sobol(dimensions, rng=np.random.default_rng(0)).random(DIRECTIONS)
    normal = stats.norm.ppf(even)
    return np.asarray(normal / np.linalg.norm(normal, axis=1, keepdims=True))
