"""Simulated pages: eight rungs, the seven comparisons of the paper's ladder, many seeds; error rates and power.

R pages, G = 8 rungs, n seeds, K = 7 comparisons at the ends of lines.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import stats

from harness.measure.statistics import Noise, noise_of
from harness.measure.statistics_joint import Difference, corrected

SEEDS = (2, 3, 5, 10, 20)
PAIRS = ((1, 0), (2, 1), (3, 1), (4, 3), (5, 4), (6, 5), (7, 6))
"""Which rung is compared to which: as in sweeps/fig3.yaml."""
ALPHA = 0.05


@dataclass(frozen=True)
class World:
    """Where the scores come from."""

    name: str
    means: tuple[float, ...]
    constant: float  # the part of a score's standard deviation that does not depend on its mean
    proportional: float  # the part that is so much of its mean
    seed_share: float = 0.0  # of the variance: what a seed does to all rungs alike

    @property
    def deviations(self):
        return np.hypot(self.constant, self.proportional * np.array(self.means))

    @property
    def equal(self) -> list[int]:
        """The comparisons between rungs of one true mean."""
        return [at for at, (i, j) in enumerate(PAIRS) if self.means[i] == self.means[j]]

    @property
    def apart(self) -> list[int]:
        """The comparisons of a true difference of about 2 standard deviations; larger ones say nothing of power."""
        gaps = [abs(self.means[i] - self.means[j]) / self.deviations[[i, j]].max() for i, j in PAIRS]
        return [at for at, gap in enumerate(gaps) if 0 < gap < 2.5]

    def draw(self, random: np.random.Generator, pages: int, seeds: int, noise: str = "normal"):
        own = NOISES[noise](random, (pages, len(self.means), seeds))
        shared = random.standard_normal((pages, 1, seeds))
        both = np.sqrt(1 - self.seed_share) * own + np.sqrt(self.seed_share) * shared
        return np.array(self.means)[:, None] + self.deviations[:, None] * both  # R G n


def _lognormal(random, shape, sigma=0.8):
    draws = np.exp(sigma * random.standard_normal(shape))
    return (draws - np.exp(sigma**2 / 2)) / np.sqrt(np.expm1(sigma**2) * np.exp(sigma**2))


NOISES: dict[str, Callable] = {  # of mean 0 and variance 1
    "normal": lambda random, shape: random.standard_normal(shape),
    "gamma": lambda random, shape: random.gamma(1, size=shape) - 1,  # skewness 2
    "lognormal": _lognormal,  # skewness 3.7
    "left gamma": lambda random, shape: 1 - random.gamma(1, size=shape),  # skewness -2
}

EQUAL, SPAN, ZERO = (1.0,) * 8, (1.4, 1.4, 0.5, 0.5, 0.5, 0.07, 0.07, 0.07), (1.4, 1.4, 0.5, 0.5, 0.5, 0.0, 0.0, 0.0)
NULLS = (
    World("all equal, constant", EQUAL, 0.1, 0),
    World("all equal, seeds matter", EQUAL, 0.1, 0, 0.5),
    World("means 0.07 to 1.4, constant", SPAN, 0.05, 0),
    World("means 0.07 to 1.4, proportional 15%", SPAN, 0, 0.15),
    World("means 0.07 to 1.4, proportional 30%", SPAN, 0, 0.3),
    World("all equal, proportional 30%", EQUAL, 0, 0.3),
    World("one pair lower, proportional 25%", (0.5, 0.5, 1, 1, 1, 1, 1, 1), 0, 0.25),
    World("means 0 to 1.4, constant", ZERO, 0.05, 0),
    World("means 0 to 1.4, both", ZERO, 0.005, 0.15),
)
CONSTANT = World("constant 10%", (1, 1.2, 1.2, 1, 1, 1.2, 1.2, 1), 0.1, 0)
PROPORTIONAL = World("proportional 15%, means 0.07 to 1.4", (1.4, 1.82, 0.5, 0.65, 0.5, 0.07, 0.091, 0.07), 0, 0.15)
POWERS = (
    CONSTANT,
    World("constant 10%, seeds matter", CONSTANT.means, 0.1, 0, 0.5),
    World("constant 10%, one rung worse", (1, 1, 1.2, 1, 1, 1, 1, 1), 0.1, 0),
    World("constant 0.05, means 0.07 to 1.4", (1.4, 1.3, 0.5, 0.6, 0.5, 0.07, 0.17, 0.07), 0.05, 0),
    PROPORTIONAL,
    World("proportional 15%, seeds matter", PROPORTIONAL.means, 0, 0.15, 0.5),
    World("proportional 10%, one rung better", (1, 1, 0.8, 1, 1, 1, 1, 1), 0, 0.1),
    World("constant 15%, one rung worse", (1, 1, 1.3, 1, 1, 1, 1, 1), 0.15, 0),
    World("proportional 15%, one rung better", (1, 1, 0.7, 1, 1, 1, 1, 1), 0, 0.15),
    World("constant 25%, one rung worse", (1, 1, 1.5, 1, 1, 1, 1, 1), 0.25, 0),
    World("proportional 25%, one rung better", (1, 1, 0.5, 1, 1, 1, 1, 1), 0, 0.25),
)


def fitted(scores) -> list[Noise]:
    """The noise of each page: what `noise_of` says. R G n."""
    return [noise_of({str(g): dict(enumerate(map(float, row))) for g, row in enumerate(page)}) for page in scores]


def alone(noises):
    """p of each comparison, not corrected. R K."""
    return np.array([[noise.p(str(i), str(j)) for i, j in PAIRS] for noise in noises])


def ours(scores):
    """p of each comparison, corrected page by page. A corrected p lies between p and Holm's: where no 5% lies
    between these two, the page is decided, and has Holm's. R K."""
    noises = fitted(scores)
    p = alone(noises)
    adjusted = holm(p)
    for page in np.flatnonzero(((p < ALPHA) & (adjusted >= ALPHA)).any(1)):
        tests = {(i, j): Difference(noise=noises[page], one=str(i), other=str(j)) for i, j in PAIRS}
        adjusted[page] = list(corrected(tests).values())
    return adjusted


def oracle(scores, world: World, paired: bool | None = None):
    """Knows that noise is constant, or that it is proportional, and whether seeds matter: only then it pairs by seed,
    unless it is told to; estimates its size as we do, from all rungs. Corrected by Holm. R K."""
    return holm(oracle_alone(scores, bool(world.proportional), world.seed_share > 0 if paired is None else paired))


def oracle_alone(scores, proportional: bool, paired: bool):
    means, (groups, seeds) = scores.mean(2), scores.shape[1:]
    weight = np.abs(means) if proportional else np.ones_like(means)
    standard = scores / weight[:, :, None]
    left = standard - standard.mean(2, keepdims=True)
    freedom = groups * (seeds - 1)
    if paired:
        left, freedom = left - left.mean(1, keepdims=True), (groups - 1) * (seeds - 1)
    variance = (left**2).sum((1, 2)) / freedom
    return _p(means, lambda i, j: variance * (weight[:, i] ** 2 + weight[:, j] ** 2) / seeds, freedom)


def spread_known(scores, world: World):
    """Knows the standard deviations themselves, and what a seed does. Corrected by Holm. R K."""
    own = world.deviations**2 * (1 - world.seed_share)
    return holm(_p(scores.mean(2), lambda i, j: (own[i] + own[j]) / scores.shape[2], np.inf))


def absolute(scores):
    """One absolute spread, pooled over all rungs, seeds not paired. Not corrected. R K."""
    return oracle_alone(scores, proportional=False, paired=False)


def overlap_rule(scores):
    """`absolute`, but rungs whose seeds overlap are never told apart. Not corrected. R K."""
    low, high = scores.min(2), scores.max(2)
    overlap = [np.maximum(low[:, i], low[:, j]) <= np.minimum(high[:, i], high[:, j]) for i, j in PAIRS]
    return np.where(np.stack(overlap, 1), 1.0, absolute(scores))


def _p(means, variance, freedom):
    t = [np.abs(means[:, i] - means[:, j]) / np.sqrt(variance(i, j)) for i, j in PAIRS]
    return 2 * stats.t.sf(np.stack(t, 1), freedom)


def holm(p):
    """Corrected page by page (Holm 1979). R K."""
    order = np.argsort(p, 1)
    steps = np.take_along_axis(p, order, 1) * np.arange(p.shape[1], 0, -1)
    adjusted = np.empty_like(p)
    np.put_along_axis(adjusted, order, np.minimum(1, np.maximum.accumulate(steps, 1)), 1)
    return adjusted


def error_rate(adjusted, world: World) -> float:
    """The share of pages with a false statement."""
    return float((adjusted[:, world.equal] < ALPHA).any(1).mean())


def power(adjusted, world: World) -> float:
    """The share of true differences that are stated."""
    return float((adjusted[:, world.apart] < ALPHA).mean())


def equivalence(random: np.random.Generator, pages: int, seeds: int, apart: float, noise: str, margin: float = 0.1):
    """The share of pages that call rung 1 equivalent to rung 0, whose means are `apart` (relative); noise of 3%."""
    world = World("", (1.0, 1 + apart, 1.3, 0.7, 0.4, 1.2, 0.9, 1.1), 0, 0.03)
    p_values = [noise.equivalent("1", "0", margin) for noise in fitted(world.draw(random, pages, seeds, noise))]
    return float(np.mean(np.array(p_values) < ALPHA))
