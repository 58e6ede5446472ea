"""The correction of p for all tests of a page, so that at most one page in twenty states something false.

Step down (Holm 1979; Westfall and Young 1993): the tests are taken by increasing p. The corrected p of one is the
chance that the least p of all tests not yet stated, this one among them, is as small as its own where none is true.

Differences     Under one noise they are jointly multivariate t: they share groups and an estimated variance, and so the
                chance is less than the sum of their p (Hothorn, Bretz and Westfall 2008, section 3). It is averaged
                over the crossovers as p is, with as many degrees of freedom (`Noise.effective_freedom`).
Single tests    Known by their p alone: that one pair lies within a margin, or beyond it; a difference of samples. Tests
                of one `pair` contradict each other: not both can be stated falsely, nor both be stated. They have one
                share of the 5%, and none once either is stated.
Both            Where a pair is tested for a difference and for lying within a margin, only one of the two statements
                can be false: equal means lie within it. The two have one share.
Several kinds   The differences of each noise (a quantity), and the pairs of single tests, add up (Boole).

So no corrected p is below its p, nor above Holm's of as many pairs. A multivariate t vector in a given direction has a
length whose square is F, so that a few hundred directions, always the same ones, give the chance to some percent of
itself.
"""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Generic, TypeAlias, TypeVar

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
    pair: Hashable = None  # that of the `Single` test whether the two lie within a margin, where there is one

    @property
    def p(self) -> float:
        return self.noise.p(self.one, self.other)


@dataclass(frozen=True, kw_only=True, slots=True)
class Single:
    """A test that has only its p. Tests of one `pair` ("within" a margin and "beyond" it) contradict each other."""

    p: float
    pair: Hashable = field(default_factory=object)  # by default one of its own


Test: TypeAlias = Difference | Single


def corrected(tests: Mapping[K, Test]) -> dict[K, float]:
    """Corrected p values. Of several statements of a page, all of that page's belong in here."""
    p = {key: test.p for key, test in tests.items()}
    order = sorted(tests, key=lambda key: p[key])
    joints = _joints(tests)
    adjusted, least, stated = {}, 0.0, set[Hashable]()
    for at, key in enumerate(order):
        left = {other: tests[other] for other in order[at:]}
        pairs = {test.pair for test in left.values() if isinstance(test, Single)} - stated
        if isinstance(own := tests[key], Single):
            pairs |= {own.pair}
            stated.add(own.pair)
        apart = [other for other, test in left.items() if isinstance(test, Difference) and test.pair not in pairs]
        chance = len(pairs) * p[key] + sum(joint.chance(apart, p[key]) for joint in joints)
        least = max(least, p[key], min(1.0, chance))
        adjusted[key] = least
    return {key: adjusted[key] for key in tests}


def _joints(tests: Mapping[K, Test]) -> list["_Joint[K]"]:
    """One a noise."""
    of_noise: dict[int, dict[K, Difference]] = {}
    for key, test in tests.items():
        if isinstance(test, Difference):
            of_noise.setdefault(id(test.noise), {})[key] = test
    return [_Joint.of(differences) for differences in of_noise.values()]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Joint(Generic[K]):
    """The differences of one noise. C crossovers, K differences, M directions."""

    noise: Noise
    places: Mapping[K, int]
    weights: Vector  # C
    lengths: Vector  # C K M; how far each direction goes along each difference
    log_tail: Vector  # of F, on `LOG_RATIOS`

    @classmethod
    def of(cls, differences: Mapping[K, Difference]) -> "_Joint[K]":
        noise = next(iter(differences.values())).noise
        likely = noise.weights > RARE
        axes = noise.axes([(test.one, test.other) for test in differences.values()])[likely]
        dimensions = axes.shape[-1]
        tail = special.fdtrc(dimensions, noise.effective_freedom, np.exp(2 * LOG_RATIOS) / dimensions)
        return cls(
            noise=noise,
            places={key: at for at, key in enumerate(differences)},
            weights=noise.weights[likely] / noise.weights[likely].sum(),
            lengths=np.abs(axes @ _directions(dimensions).T),
            log_tail=np.log(np.maximum(tail, 1e-300)),
        )

    def chance(self, keys: Sequence[K], p: float) -> float:
        """That one of these differences, as far as they are of this noise, has a p as small as this, where there is
        none."""
        places = [self.places[key] for key in keys if key in self.places]
        if len(places) < 2 or not 0 < p < 1:
            return len(places) * p
        log_quantile = math.log(max(-special.stdtrit(self.noise.effective_freedom, p / 2), 1e-300))
        log_largest = np.log(np.maximum(self.lengths[:, places].max(1), 1e-300))
        chances = np.exp(_on_grid(self.log_tail, log_quantile - log_largest)).mean(-1)
        return min(len(places) * p, float(self.weights @ chances))


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
