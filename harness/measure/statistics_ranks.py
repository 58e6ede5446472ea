"""How alike two columns order the same things, Kendall's tau with an interval; and the interval of a median."""

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from harness.measure.statistics import LEVEL

Vector: TypeAlias = NDArray[np.float64]

RESAMPLES = 2000
SEED = 0  # of the resampling
BATCH = 2**22  # pairs compared at a time


@dataclass(frozen=True, kw_only=True, slots=True)
class Tau:
    """Kendall's tau-b with its percentile bootstrap interval; NaN where a column has one value only."""

    value: float
    low: float
    high: float
    count: int  # of what is ordered


def tau(one: Vector, other: Vector, *, resamples: int = RESAMPLES, seed: int = SEED) -> Tau:
    """Kendall's tau-b of two columns; pairs of numbers are resampled together."""
    value, count = float(tau_b(one, other)), len(one)
    if np.isnan(value):
        return Tau(value=value, low=value, high=value, count=count)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)  # equal numbers: no interval, and it says so
        interval = stats.bootstrap(
            (one, other),
            tau_b,
            paired=True,
            vectorized=True,
            n_resamples=resamples,
            batch=max(1, BATCH // count**2),
            confidence_level=LEVEL,
            method="percentile",
            rng=np.random.default_rng(seed),
        ).confidence_interval
    return Tau(value=value, low=float(interval.low), high=float(interval.high), count=count)


def tau_b(one: Vector, other: Vector, axis: int = -1) -> Vector:
    """(C - D) / sqrt((C + D + T1) (C + D + T2)) along the last axis (Kendall 1945): C pairs are ordered alike, D
    contrarily, T1 are tied in `other` alone, T2 in `one` alone. scipy.stats.kendalltau of many columns at a time."""
    assert axis == -1
    a, b = (np.sign(column[..., :, None] - column[..., None, :]) for column in (one, other))
    pairs = np.sqrt((a**2).sum((-2, -1)) * (b**2).sum((-2, -1)))
    with np.errstate(invalid="ignore"):
        return np.asarray((a * b).sum((-2, -1)) / pairs)


def agreements(predicted: Sequence[float], true: Sequence[float]) -> Iterable[float]:
    """1 for every two things that are predicted in the right order, -1 in the wrong one, 0 where they are predicted
    equal; those that truly are equal say nothing. Their mean is tau where nothing is tied (Somers' D where predictions
    are), also over several lists together, whose things are compared within their list only."""
    for at, (guess, truth) in enumerate(zip(predicted, true, strict=True)):
        for other_guess, other_truth in zip(predicted[:at], true[:at], strict=True):
            if truth != other_truth:
                yield float(np.sign(guess - other_guess) * np.sign(truth - other_truth))


def median_interval(values: Vector, level: float = LEVEL) -> tuple[float, float] | None:
    """Two of the values, as many places from each end, between which the median of what they were drawn from lies with
    at least that probability, whatever its distribution; None for fewer values than that takes.

    How many of n values lie below the median is binomial, n and 1/2: outside of the k-th from each end it lies with
    2 P(B < k).
    """
    below = int(stats.binom.ppf((1 - level) / 2, len(values), 0.5))  # the first count that is not too few
    if below == 0:
        return None
    ordered = np.sort(values)
    return float(ordered[below - 1]), float(ordered[-below])
