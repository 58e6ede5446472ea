"""Asynchronous successive halving with several objectives: who goes on to the next budget, and who never will.

After MO-ASHA (Schmucker et al., arXiv 2106.12639): results of one budget are sorted into non-dominated fronts, and
within a front an epsilon-net spreads the promotions over it. Three things differ, on purpose:

- a floor: what is no better than a trivial generator is never promoted. Parameters, multiply-adds and predicted
  latency do not change with the budget, so an untrained network that is small enough is on every front;
- a quota: at most n // reduction of the n results of a budget are promoted, however the fronts drift, so the steps
  that a sweep spends are known beforehand;
- when nothing more can come, the quota is rounded up: a small sweep, too, has a candidate at the top budget.

No torch, no Optuna, no clock: what is returned depends on the results alone, and on their order only through the
promotions already made.
"""

from collections.abc import Iterator, Sequence
from typing import TypeAlias

import numpy as np
from scipy.spatial import KDTree

Losses: TypeAlias = tuple[float, ...]
"""One number an objective, lower is better: a maximised objective comes negated."""


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


class Rung:
    """All results at one budget."""

    def __init__(self, reduction: int) -> None:
        self.reduction = reduction
        self.results = 0  # how many there are, those below the floor included
        self.promoted: set[int] = set()
        self.waiting: set[int] = set()  # may still be promoted
        self._fronts = Fronts()
        self._ranked: list[int] = []  # all that wait or were promoted, in the order of their results
        self._losses = np.empty((0, 0))  # theirs, with room for more
        self._dominators = np.empty(0, dtype=int)  # how many of the ranked dominate each

    def add(self, number: int, losses: Losses, *, eligible: bool) -> None:
        """A candidate's result at this budget. One not eligible (below the floor, stopped) counts, and that is all."""
        self.results += 1
        if eligible:
            self._count_dominators(np.asarray(losses, dtype=float))
            self.waiting.add(number)
            self._ranked.append(number)
            self._fronts.add(number, losses)

    def promote(self, number: int) -> None:
        self.waiting.discard(number)
        self.promoted.add(number)

    def withdraw(self, number: int) -> None:
        """It was stopped, or failed: it is not promoted any more."""
        self.waiting.discard(number)

    def next(self, *, drained: bool = False) -> int | None:
        """The candidate to promote now, if the quota has room: of the best front that has one waiting, the one
        farthest from those promoted. `drained`: no more results will come to this budget."""
        if len(self.promoted) >= places(self.results, self.reduction, drained=drained):
            return None
        for numbers, losses in self._fronts:
            if any(number in self.waiting for number in numbers):
                return self._farthest(numbers, losses)
        return None

    def _farthest(self, numbers: list[int], losses: np.ndarray) -> int:
        """The next point of the epsilon-net; the first one is the best in the first objective."""
        waiting = [at for at, number in enumerate(numbers) if number in self.waiting]
        chosen = [at for at, number in enumerate(numbers) if number in self.promoted]
        if not chosen:
            return numbers[min(waiting, key=lambda at: tuple(losses[at]))]
        span = np.ptp(losses, axis=0)
        scaled = losses / np.where(span > 0, span, 1.0)
        gaps, _ = KDTree(scaled[chosen]).query(scaled[waiting])
        return numbers[waiting[int(gaps.argmax())]]

    def hopeless(self, expected: int) -> list[int]:
        """Those waiting that can never be promoted if `expected` results come in all: more of the others dominate them
        than there are places, and whoever dominates a candidate is promoted before it."""
        most = places(expected, self.reduction, drained=True)
        surpassed = np.flatnonzero(self._dominators[: len(self._ranked)] >= most).tolist()
        return [self._ranked[at] for at in surpassed if self._ranked[at] in self.waiting]

    def _count_dominators(self, losses: np.ndarray) -> None:
        count = len(self._ranked)
        if count >= len(self._losses):
            room = max(64, 2 * count)
            grown, counts = np.empty((room, len(losses))), np.zeros(room, dtype=int)
            if count:
                grown[:count], counts[:count] = self._losses[:count], self._dominators[:count]
            self._losses, self._dominators = grown, counts
        others = self._losses[:count]
        self._dominators[:count] += dominates(losses[None], others)
        self._dominators[count] = int(dominates(others, losses[None]).sum())
        self._losses[count] = losses


def losses_of(values: Sequence[float], directions: Sequence[str]) -> Losses:
    """Lower is better, for every objective."""
    signs = (-1.0 if direction == "maximize" else 1.0 for direction in directions)
    return tuple(sign * value for sign, value in zip(signs, values, strict=True))


def places(results: int, reduction: int, *, drained: bool) -> int:
    """How many of so many results are promoted."""
    return -(-results // reduction) if drained else results // reduction


def dominates(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Whether each point of `one` is nowhere worse than `other` and somewhere better; the last axis is objectives."""
    return np.asarray((one <= other).all(axis=-1) & (one < other).any(axis=-1))
