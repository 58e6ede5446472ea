"""Intervals and tests. Arrays and SciPy; no torch. Correction for several tests: statistics_joint; curves that fall:
statistics_trends; ranks: statistics_ranks.

Scores of groups (rungs, finalists) over seeds are compared under one noise model, for all designs and quantities:

    y[g, s] = mu_g + w_g (b_s + e[g, s]),     w_g^2 = c^2 + m_g^2

m_g is the mean of group g, e normal noise of one variance, b_s what seed s does to all groups alike. So the spread is
constant below the crossover c and proportional to the mean above it: rungs at KID 0.1 and 1.4 do not share one absolute
spread, and a KID about or below 0 has the constant part (the two components of Rocke and Lorenzato 1995).

The weights w are scaled to a geometric mean of 1 (by degrees of freedom); then, as in Box and Cox (1964), a crossover
is as likely as it makes the standardised residuals small: restricted likelihood Q(c)^(-nu/2), Q their sum of squares on
nu degrees of freedom. Given c, an estimated contrast over its standard error is Student's t with nu degrees; with fewer
where residuals have heavy tails: as many as a variance has at their kurtosis (Box 1953). Nobody knows c, so
probabilities are averaged over a grid of crossovers with these likelihoods as weights. Where the scores tell nothing of
c, noise that is constant and noise that is proportional have half the weight each.

A test of "no difference" may take from its hypothesis that both groups have one mean, and so one spread, whatever c is:
it takes (w_i + w_j) / 2 for both. Of proportional noise, ((m_i + m_j) / 2)^2 exceeds mu^2 by half as much as the mean
of m_i^2 and m_j^2 does; and it is less led by a c that is not the true one, since of two groups far apart that mean is
nearly half of the larger square. An interval takes each group's own spread.

Blocks: where groups share their seeds, b_s is estimated, and costs one degree of freedom a seed beyond the first. That
is decided by the design alone (`_is_crossed`), never by the scores. docs/evidence/statistics.md has the error rates and
the power of all this, simulated.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special, stats

from harness.records.errors import UserError
from harness.records.quantity import Measured

Vector: TypeAlias = NDArray[np.float64]
Scores: TypeAlias = Mapping[str, Mapping[int, float]]
"""Group -> seed -> score."""

LEVEL = 0.95
SHARED = (
    "label",
    "samples",
    "data_fingerprint",
    "reference",
    "reference_samples",
    "extractor",
    "sampling_seed",
    "labels",
)
"""Conditions of scores whose samples, one by one, begin with the same noise and are asked for the same class."""
CROSSOVERS = 4.0 ** np.arange(-8, 9)
"""The grid of c, relative to the root mean square of the means: from proportional to constant noise everywhere."""
EXACT = 1e-12  # a difference or spread so small beside the scores is rounding, and counts as none


@dataclass(frozen=True, kw_only=True, slots=True)
class Interval:
    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """The difference of two groups' means, one - other."""

    difference: float
    low: float  # of the interval at `LEVEL`, for this comparison alone
    high: float
    p: float  # two-sided, of "no difference", not yet corrected for other comparisons
    freedom: int  # degrees of freedom of the noise
    paired: bool  # by seed
    noise: str  # a sentence


@dataclass(frozen=True, kw_only=True, eq=False)
class Noise:
    """The noise of a set of groups, and what it says of their means. Shapes: C crossovers, G groups."""

    groups: tuple[str, ...]
    weights: Vector  # C; how likely each crossover is, sum 1
    scale: Vector  # C G; w_g
    means: Vector  # C G; mu_g / w_g
    covariance: Vector  # C G G; of these
    variance: Vector  # C; of one standardised score around its group and seed
    freedom: int
    effective_freedom: float  # degrees of freedom of a variance at the kurtosis of the residuals; at most `freedom`
    paired: bool

    def compare(self, one: str, other: str) -> Comparison:
        values, errors = self._contrast(one, other, 1.0)
        low, high = (self._quantile(values, errors, q) for q in ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
        return Comparison(
            difference=float(self.weights @ values),
            low=low,
            high=high,
            p=self.p(one, other),
            freedom=self.freedom,
            paired=self.paired,
            noise=self.sentence,
        )

    def contrast(self, coefficients: Mapping[str, float], level: float = LEVEL) -> Interval:
        """The sum of coefficient x mean over groups, with its interval for this contrast alone."""
        values, errors = self._combination(coefficients)
        low, high = (self._quantile(values, errors, q) for q in ((1 - level) / 2, (1 + level) / 2))
        return Interval(value=float(self.weights @ values), low=low, high=high)

    def p(self, one: str, other: str) -> float:
        """Of "no difference", two-sided, not yet corrected for other comparisons; both groups have one spread there."""
        i, j = self.groups.index(one), self.groups.index(other)
        values, _ = self._contrast(one, other, 1.0)
        terms = self.covariance[:, i, i], self.covariance[:, j, j], -2 * self.covariance[:, i, j]
        squares = ((self.scale[:, i] + self.scale[:, j]) / 2) ** 2 * sum(terms)
        ratios = ratio(values, np.sqrt(np.where(sum(terms) > EXACT * np.abs(terms).sum(0), squares, 0.0)))
        return 2 * float((special.stdtr(self.effective_freedom, np.stack([-ratios, ratios])) @ self.weights).min())

    def relative(self, one: str, other: str) -> Interval | None:
        """one / other - 1 with its interval (Fieller 1954: all ratios r for which one - r other may be 0); None where
        `other` is not clearly above 0, because then the interval has no end."""
        ends = np.array([self._fieller(at, one, other) for at in range(len(self.weights))])
        if not np.isfinite(ends[self.weights > 1e-6]).all():
            return None
        ends = ends[self.weights > 1e-6]
        bracket = float(ends.min()) - 1e-9, float(ends.max()) + 1e-9

        def end(quantile: float) -> float:
            def excess(ratio: float) -> float:
                values, errors = self._contrast(one, other, ratio)
                return self._above(-values, errors) - quantile

            low, high = (excess(ratio) for ratio in bracket)
            return bracket[0] if low == high else float(optimize.brentq(excess, *bracket))

        below, above = end((1 + LEVEL) / 2), end((1 - LEVEL) / 2)
        ratio = float(self.weights @ (self._mean(one) / self._mean(other)))
        return Interval(value=ratio - 1, low=below - 1, high=above - 1)

    def equivalent(self, one: str, other: str, margin: float) -> float:
        """p of two one-sided tests (Schuirmann 1987) that `one` lies within +-margin of `other`, relative to other's
        mean: the larger p of "one >= (1 + margin) other" and "one <= (1 - margin) other". The margin has to be fixed
        before the scores are seen. Where `other` is not clearly above 0, no p is small."""
        if not 0 < margin < 1:
            raise UserError(f"a margin of equivalence is between 0 and 1, not {margin}")
        above, above_errors = self._contrast(one, other, 1 + margin)
        below, below_errors = self._contrast(one, other, 1 - margin)
        return max(self._above(-above, above_errors), self._above(below, below_errors))

    def beyond(self, one: str, other: str, margin: float) -> float:
        """p, two-sided, that `one` lies outside +-margin of `other`, relative to other's mean: what contradicts a
        statement of equivalence. It is 1 where neither side is likelier than not."""
        if not 0 <= margin < 1:
            raise UserError(f"a margin of equivalence is between 0 and 1, not {margin}")
        above, above_errors = self._contrast(one, other, 1 + margin)
        below, below_errors = self._contrast(one, other, 1 - margin)
        return min(1.0, 2 * self._above(above, above_errors), 2 * self._above(-below, below_errors))

    def axes(self, pairs: Sequence[tuple[str, str]]) -> Vector:
        """How the estimated differences of K pairs vary together where there are none. C K G: each, over its standard
        error, varies as its axis (of length 1; 0 where nothing varies) times G independent normal numbers of variance
        1."""
        one, other = ([self.groups.index(group) for group in column] for column in zip(*pairs, strict=True))
        along = np.zeros((len(pairs), len(self.groups)))
        rows = np.arange(len(pairs))
        along[rows, one] += 1
        along[rows, other] -= 1
        values, vectors = np.linalg.eigh(self.covariance)
        axes = along @ (vectors * np.sqrt(np.maximum(values, 0))[:, None, :])
        lengths = np.linalg.norm(axes, axis=-1, keepdims=True)
        return np.asarray(np.divide(axes, lengths, out=np.zeros_like(axes), where=lengths > 0))

    def deviation(self, group: str) -> float:
        """The standard deviation of one score of this group, beside what its seed does to all groups."""
        at = self.groups.index(group)
        return math.sqrt(float(self.weights @ (self.scale[:, at] ** 2 * self.variance)))

    @property
    def sentence(self) -> str:
        how = "paired by seed" if self.paired else "seeds not paired"
        return f"spread pooled over {len(self.groups)} groups, {self.freedom} degrees of freedom, {how}"

    def _mean(self, group: str) -> Vector:
        at = self.groups.index(group)
        return self.scale[:, at] * self.means[:, at]

    def _contrast(self, one: str, other: str, ratio: float) -> tuple[Vector, Vector]:
        """one - ratio * other and its standard error, at each crossover."""
        return self._combination({one: 1.0, other: -ratio})

    def _combination(self, coefficients: Mapping[str, float]) -> tuple[Vector, Vector]:
        """The sum of coefficient * mean and its standard error, at each crossover; rounding counts as none."""
        along = np.array([coefficients.get(group, 0.0) for group in self.groups]) * self.scale
        parts = along * self.means
        values = np.where(np.abs(parts.sum(-1)) > EXACT * np.abs(parts).sum(-1), parts.sum(-1), 0.0)
        products = along[:, :, None] * self.covariance * along[:, None, :]
        squares = products.sum((1, 2))
        return values, np.sqrt(np.where(squares > EXACT * np.abs(products).sum((1, 2)), squares, 0.0))

    def _above(self, values: Vector, errors: Vector) -> float:
        """One-sided p of "the contrast is at most 0"."""
        return float(self.weights @ special.stdtr(self.effective_freedom, -ratio(values, errors)))

    def _quantile(self, values: Vector, errors: Vector, quantile: float) -> float:
        ends = values + stats.t.ppf(quantile, self.effective_freedom) * errors
        low, high = float(ends.min()), float(ends.max())
        if high - low <= 1e-12 * max(abs(low), abs(high)):
            return low
        return float(optimize.brentq(lambda x: self._above(values - x, errors) - quantile, low, high))

    def _fieller(self, at: int, one: str, other: str) -> tuple[float, float]:
        """The two ends at one crossover; infinite where other's mean is not apart from 0 or below it."""
        i, j = self.groups.index(one), self.groups.index(other)
        x, y = self.scale[at, i] * self.means[at, i], self.scale[at, j] * self.means[at, j]
        covariance = self.covariance[at] * np.outer(self.scale[at], self.scale[at])
        square = stats.t.ppf((1 + LEVEL) / 2, self.effective_freedom) ** 2
        a = y**2 - square * covariance[j, j]
        b = x * y - square * covariance[i, j]
        c = x**2 - square * covariance[i, i]
        if y <= 0 or a <= 0:
            return -math.inf, math.inf
        half = math.sqrt(max(b**2 - a * c, 0.0))
        return (b - half) / a, (b + half) / a


def noise_of(scores: Scores) -> Noise | None:
    """The noise of these groups; None where it cannot be known: no group has two scores."""
    scores = {group: by_seed for group, by_seed in scores.items() if by_seed}
    if not scores:
        return None
    for group, by_seed in scores.items():
        for seed, score in by_seed.items():
            if not math.isfinite(score):
                raise UserError(f"a score is a finite number, but '{group}' has {score} at seed {seed}")
    design = tuple((at, seed) for at, by_seed in enumerate(scores.values()) for seed in by_seed)
    blocked = _design(design)
    if blocked.freedom == 0:
        return None
    values = np.array([scores_ for by_seed in scores.values() for scores_ in by_seed.values()])
    return _fit(tuple(scores), values, blocked)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Design:
    """What does not depend on the scores. N scores, G groups."""

    group: NDArray[np.int64]  # N
    solve: Vector  # G N; standardised scores -> standardised group means, averaged over the seeds
    residual: Vector  # N N; projection onto what groups and seeds leave
    within: Vector  # N N; onto what groups leave
    covariance: Vector  # G G; of the standardised means, in units of the variance of e
    seeds: int
    squared_leverage: float  # sum over the diagonal of `residual`, squared
    fourth_powers: float  # sum over all of `residual`, to the fourth power
    seed_trace: float  # what the variance of b adds to the sum of squares within groups, in units of it
    freedom: int
    freedom_within: NDArray[np.int64]  # G; scores - 1
    paired: bool


@lru_cache(maxsize=64)
def _design(cells: tuple[tuple[int, int], ...]) -> _Design:
    group = np.array([at for at, _ in cells], dtype=np.int64)
    seeds = sorted({seed for _, seed in cells})
    of_group = np.eye(group.max() + 1)[group]
    of_seed = np.array([[seed == each for each in seeds] for _, seed in cells], dtype=float)
    within = np.eye(len(cells)) - of_group @ np.linalg.pinv(of_group)
    effects = of_seed[:, 1:] - of_seed[:, :1]  # they add up to 0 over the seeds
    both = np.hstack([of_group, effects])
    free = len(cells) - of_group.shape[1]
    freedom_paired = len(cells) - int(np.linalg.matrix_rank(both))
    paired = _is_crossed(both, freedom_paired, free)
    regressors = both if paired else of_group
    inverse = np.linalg.pinv(regressors)
    residual = np.eye(len(cells)) - regressors @ inverse
    groups = of_group.shape[1]
    return _Design(
        group=group,
        solve=inverse[:groups],
        residual=residual,
        within=within,
        covariance=inverse[:groups] @ inverse[:groups].T,
        seeds=len(seeds),
        squared_leverage=float((np.diag(residual) ** 2).sum()),
        fourth_powers=float((residual**4).sum()),
        seed_trace=float(np.trace(of_seed.T @ within @ of_seed)),
        freedom=freedom_paired if paired else free,
        freedom_within=of_group.sum(0).astype(np.int64) - 1,
        paired=paired,
    )


def _is_crossed(regressors: Vector, freedom_paired: int, free: int) -> bool:
    """Blocks pay where groups share their seeds: every contrast is estimable, and seeds take at most two thirds of the
    degrees of freedom (two groups that share all give one half)."""
    return (
        freedom_paired > 0
        and 3 * freedom_paired >= free
        and int(np.linalg.matrix_rank(regressors)) == regressors.shape[1]
    )


def _fit(groups: tuple[str, ...], values: Vector, design: _Design) -> Noise:
    means = np.array([values[design.group == at].mean() for at in range(len(groups))])
    typical = float(np.sqrt(np.mean(means**2))) or 1.0
    scale = np.sqrt((CROSSOVERS[:, None] * typical) ** 2 + means**2)  # C G
    share = design.freedom_within / design.freedom_within.sum()
    scale = scale / np.exp(np.log(scale) @ share)[:, None]
    standard = values / scale[:, design.group]  # C N
    residuals = standard @ design.residual  # C N
    squares = (residuals**2).sum(-1)  # C
    squares = np.where(squares > EXACT**2 * (standard**2).sum(-1), squares, 0.0)
    variance = squares / design.freedom
    covariance = variance[:, None, None] * design.covariance
    if design.paired:
        explained = ((standard @ design.within) ** 2).sum(-1) - squares
        of_seed = np.maximum(0, (explained - (design.seeds - 1) * variance) / design.seed_trace)
        covariance = covariance + (of_seed / design.seeds)[:, None, None]  # moves all standardised means alike
    weights = _likelihoods(squares, design.freedom)
    return Noise(
        groups=groups,
        weights=weights,
        scale=scale,
        means=standard @ design.solve.T,
        covariance=covariance,
        variance=variance,
        freedom=design.freedom,
        effective_freedom=_effective_freedom(float(weights @ _kurtosis(residuals, squares, design)), design),
        paired=design.paired,
    )


def _kurtosis(residuals: Vector, squares: Vector, design: _Design) -> Vector:
    """C; the excess kurtosis of e by the fourth powers of its residuals, on average 0 for normal noise; 0 without any
    noise. E sum r^4 = sigma^4 (3 sum P_ii^2 + kurtosis sum P_ij^4), P the projection onto the residuals."""
    nu = design.freedom
    fourth = np.divide((residuals**4).sum(-1), squares**2, out=np.zeros_like(squares), where=squares > 0)
    excess = (nu * (nu + 2) * fourth - 3 * design.squared_leverage) / design.fourth_powers
    return np.where(squares > 0, excess, 0.0)


def _effective_freedom(kurtosis: float, design: _Design) -> float:
    """The degrees of freedom of chi-square noise whose variance estimate varies as much: its variance is
    sigma^4 (2 / nu + kurtosis sum P_ii^2 / nu^2) (Box 1953)."""
    return design.freedom / (1 + max(0.0, kurtosis) * design.squared_leverage / (2 * design.freedom))


def _likelihoods(squares: Vector, freedom: int) -> Vector:
    """Q^(-nu/2), scaled to a sum of 1; all alike where a Q is 0."""
    if not (squares > 0).all():
        return np.full(len(squares), 1 / len(squares))
    logs = -freedom / 2 * np.log(squares)
    relative = np.exp(logs - logs.max())
    return np.asarray(relative / relative.sum())


def ratio(values: Vector, errors: Vector) -> Vector:
    """values / errors; a difference without any spread is infinitely clear, none is none."""
    without_spread = np.where(values == 0, 0.0, np.copysign(math.inf, values))
    return np.asarray(np.divide(values, errors, out=without_spread, where=errors > 0))


def standard_error(values: Sequence[float]) -> float | None:
    """s / sqrt(k), s with k - 1 in its denominator; one value has none."""
    return float(stats.sem(values)) if len(values) > 1 else None


def jackknife_error(replicates: ArrayLike) -> float:
    """The standard error of an estimate from its G values without one group each (delete-a-group jackknife, Efron and
    Stein 1981): sqrt((G - 1) / G * sum (theta_(-g) - their mean)^2)."""
    values = np.asarray(replicates, float)
    if values.ndim != 1 or len(values) < 2:
        raise UserError(f"a jackknife needs at least two groups in one row, not an array of shape {values.shape}")
    return math.sqrt((len(values) - 1) ** 2 / len(values) * float(values.var(ddof=1)))


def jackknife_interval(estimate: float, replicates: ArrayLike, level: float = LEVEL) -> Interval:
    """estimate +- t * its jackknife error, with one degree of freedom fewer than groups."""
    half = float(stats.t.ppf((1 + level) / 2, len(np.asarray(replicates)) - 1)) * jackknife_error(replicates)
    return Interval(value=estimate, low=estimate - half, high=estimate + half)


def jackknife_difference(
    one: tuple[float, ArrayLike], other: tuple[float, ArrayLike], level: float = LEVEL
) -> Interval:
    """The difference of two estimates, each with its replicates, whose group g left out the same noise and labels:
    what both share cancels."""
    left, right = np.asarray(one[1], float), np.asarray(other[1], float)
    if left.shape != right.shape:
        raise UserError(
            f"paired jackknife replicates come from the same groups, not from {left.shape} and {right.shape}"
        )
    return jackknife_interval(one[0] - other[0], left - right, level)


def sampling_difference(one: Measured, other: Measured, level: float = LEVEL) -> Interval:
    """one - other of two scores whose samples share noise and labels, with the interval of the sampling noise alone.

    UserError where they do not share them, or have no replicates: then a difference needs each one's own interval.
    """
    _refuse_unshared(one, other)
    return jackknife_difference((one.value, one.replicates), (other.value, other.replicates), level)


def sampling_p(one: Measured, other: Measured) -> float:
    """p, two-sided, of "no difference" by the sampling noise alone: below 5% where the interval of
    `sampling_difference` leaves out 0, with its errors. Not yet corrected for other tests."""
    _refuse_unshared(one, other)
    error = jackknife_error(np.subtract(one.replicates, other.replicates))
    t = ratio(np.array([one.value - other.value]), np.array([error]))
    return 2 * float(stats.t.sf(abs(t[0]), len(one.replicates) - 1))


def _refuse_unshared(one: Measured, other: Measured) -> None:
    apart = [
        name for name in SHARED if name not in one.conditions or one.conditions[name] != other.conditions.get(name)
    ]
    if apart or not one.replicates or not other.replicates:
        why = f"another {', '.join(apart)}" if apart else "no replicates"
        raise UserError(f"scores are paired only where their samples share noise and labels; one has {why}")


def wilson(successes: int, trials: int, level: float = LEVEL) -> tuple[float, float]:
    """A binomial proportion's interval (Wilson 1927): within [0, 1], sensible at 0 and at all."""
    interval = stats.binomtest(successes, trials).proportion_ci(level, method="wilson")
    return float(interval.low), float(interval.high)
