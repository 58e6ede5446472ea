"""Points of several objectives: dominance, fronts kept up as points come, and the scale of distances. The front of
points that are all there is `harness.records.better`.

On that scale 0.1 against 0.2 is as much as 1 against 2:

    glog(v, s) = asinh(v / 2s)          about ln(v / s) far above s; linear about 0, and odd

A logarithm that goes on through 0 (the generalised log of Durbin et al., Bioinformatics 18, 2002): what is smaller than
the noise s is no ratio. An unbiased KID may be 0 or below, and there it keeps its order and its differences in units of
s. The map rises strictly, so no front changes; an epsilon-net and a hypervolume do, and they are why it is there. It is
for distances alone: what is stored, shown and concluded from are the plain values.
"""

from collections.abc import Iterator, Mapping, Sequence
from math import asinh
from typing import Literal, TypeAlias

import numpy as np

from harness.records.errors import UserError
from harness.records.quantities import Scale, scale_of

Losses: TypeAlias = tuple[float, ...]
"""One number an objective, lower is better: a maximised objective comes negated."""


Direction: TypeAlias = Literal["minimize", "maximize"]


KERNEL = 10.0
"""Times 1 / N: about what the KID of N real pictures differs from 0 (-0.02 at N = 512 for the digits). Chosen."""

ABOVE_ZERO = 1e-6
"""The s of what is above 0 by its nature (counts, times, losses, Fréchet distances): a plain logarithm."""


def noise_of(objective: str, samples: int) -> float:
    """The s of an objective that is scored on so many samples."""
    if samples < 1:
        raise UserError(f"a score is of at least 1 sample, not {samples}")
    noise: Mapping[Scale, float] = {
        "ratio": ABOVE_ZERO,
        "fraction": 1 / samples,  # judged by what is missing to 1: 1% of errors against 2% is as 10% against 20%
        "kernel_distance": KERNEL / samples,
        "few": 0.5,  # 0 against 1 is no more than a few apart: linear up to about 1, a logarithm beyond
    }
    return noise[scale_of(objective)]


def scaled(objective: str, value: float, samples: int) -> float:
    """The value on its scale; rises strictly with the value."""
    noise = noise_of(objective, samples)
    return -glog(1 - value, noise) if scale_of(objective) == "fraction" else glog(value, noise)


def all_scaled(values: Mapping[str, float], samples: int) -> tuple[float, ...]:
    """Objective -> value, each on its own scale, in their order."""
    return tuple(scaled(name, value, samples) for name, value in values.items())


def glog(value: float, noise: float) -> float:
    return asinh(value / (2 * noise))


class Front:
    """The points that no other dominates, kept up as points come. Equal points stand beside each other."""

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self._points = np.empty((0, 0))

    def add(self, number: int, losses: Losses) -> list[int]:
        """Those that are not on it: whom the new point pushes off, or the new point itself where it is dominated."""
        point = np.asarray([losses], dtype=float)
        if not self.numbers:
            self.numbers, self._points = [number], point
            return []
        if dominates(self._points, point).any():
            return [number]
        beaten = dominates(point, self._points)
        off = [self.numbers[at] for at in np.flatnonzero(beaten).tolist()]
        self.numbers = [*(self.numbers[at] for at in np.flatnonzero(~beaten).tolist()), number]
        self._points = np.concatenate([self._points[~beaten], point])
        return off


def losses_of(values: Sequence[float], directions: Sequence[str]) -> Losses:
    """Lower is better, for every objective."""
    signs = (-1.0 if direction == "maximize" else 1.0 for direction in directions)
    return tuple(sign * value for sign, value in zip(signs, values, strict=True))


def dominates(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Whether each point of `one` is nowhere worse than `other` and somewhere better; the last axis is objectives."""
    return np.asarray((one <= other).all(axis=-1) & (one < other).any(axis=-1))


class Fronts:
    """Non-dominated sorting, kept up as points come.

    A new point pushes those it dominates one front down, and they theirs (Li et al., "Efficient non-domination level
    update", IEEE Trans. Cybernetics 47(9), 2017): inserting one of n costs about sqrt(n) small array operations.
    """

    def __init__(self) -> None:
        self._fronts: list[tuple[list[int], np.ndarray]] = []  # the points' numbers, and their losses (n, objectives)

    def __iter__(self) -> Iterator[tuple[list[int], np.ndarray]]:
        return iter(self._fronts)

    def add(self, number: int, losses: Losses) -> None:
        numbers, points = [number], np.asarray([losses], dtype=float)
        level = self._level(points[0])
        while numbers and level < len(self._fronts):
            members, matrix = self._fronts[level]
            pushed = dominates(points[:, None], matrix[None]).any(axis=0)
            stay = np.flatnonzero(~pushed).tolist()
            self._fronts[level] = ([members[at] for at in stay] + numbers, np.concatenate([matrix[stay], points]))
            numbers, points = [members[at] for at in np.flatnonzero(pushed).tolist()], matrix[pushed]
            level += 1
        if numbers:
            self._fronts.append((numbers, points))

    def _level(self, point: np.ndarray) -> int:
        """The first front without a point that dominates this one. If a front has none, no later one has."""
        low, high = 0, len(self._fronts)
        while low < high:
            middle = (low + high) // 2
            if dominates(self._fronts[middle][1], point).any():
                low = middle + 1
            else:
                high = middle
        return low
