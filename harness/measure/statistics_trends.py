"""Whether curves still fall at their end."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from harness.measure.statistics import LEVEL, ratio


@dataclass(frozen=True, kw_only=True, slots=True)
class Fall:
    """How far the lines of one group's curves fall from x = 0 to 1, relative to where they end; mean over its seeds."""

    value: float
    low: float  # of the two-sided interval at `LEVEL`; nan where the jitter is not known
    p: float  # one-sided, of "it does not fall"; 1 where the jitter is not known
    freedom: int  # degrees of freedom of the jitter

    @property
    def proved(self) -> bool:
        return self.p < 1 - LEVEL


def falls(curves: Mapping[str, Mapping[int, Sequence[tuple[float, float]]]]) -> dict[str, Fall]:
    """Whether curves still fall: group -> seed -> points (x, y > 0), x = 0 and 1 the ends of the piece in question.

    A straight line through each curve, by least squares of y / y_end, y_end the line's value at x = 1. The jitter is
    the standard deviation of all points around their lines, pooled over all curves: a bend of the curves counts as
    jitter, which is careful. Three points give one degree of freedom; a curve of a single point is left out."""
    lines = {
        (group, seed): _line(points)
        for group, by_seed in curves.items()
        for seed, points in by_seed.items()
        if len({x for x, _ in points}) > 1
    }
    freedom = sum(line.freedom for line in lines.values())
    variance = sum(line.squares for line in lines.values()) / freedom if freedom else math.nan
    by_group = {}
    for group in dict.fromkeys(group for group, _ in lines):
        chosen = [line for (name, _), line in lines.items() if name == group]
        value = float(np.mean([line.fall for line in chosen]))
        error = math.sqrt(variance * sum(line.unit_variance for line in chosen)) / len(chosen)
        t = float(ratio(np.array([value]), np.array([error]))[0]) if freedom else 0.0
        by_group[group] = Fall(
            value=value,
            low=value - float(stats.t.ppf((1 + LEVEL) / 2, freedom)) * error if freedom else math.nan,
            p=float(stats.t.sf(t, freedom)) if freedom else 1.0,
            freedom=freedom,
        )
    return by_group


@dataclass(frozen=True, kw_only=True, slots=True)
class _Line:
    fall: float  # from x = 0 to 1, relative to the value at 1
    squares: float  # of the residuals, in the same units
    freedom: int
    unit_variance: float  # of the fall, in units of the variance of a point


def _line(points: Sequence[tuple[float, float]]) -> _Line:
    x, y = np.array(points, float).T
    slope, start = np.polyfit(x, y, 1)
    residuals = (y - start - slope * x) / (start + slope)
    return _Line(
        fall=float(-slope / (start + slope)),
        squares=float(residuals @ residuals),
        freedom=len(points) - 2,
        unit_variance=float(1 / ((x - x.mean()) ** 2).sum()),
    )
