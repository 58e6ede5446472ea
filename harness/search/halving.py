"""Asynchronous successive halving with several objectives: who goes on to the next budget, and who never will.

After MO-ASHA (Schmucker et al., arXiv 2106.12639): results of one budget are sorted into non-dominated fronts, and
within a front an epsilon-net spreads the promotions over it. Three things differ, on purpose:

- a floor: what is no better than a trivial generator is never promoted. Parameters, multiply-adds and predicted
  latency do not change with the budget, so an untrained network that is small enough is on every front;
- a quota: at most n // reduction of the n results of a budget are promoted, however the fronts drift, so the steps
  that a sweep spends are known beforehand;
- when nothing more can come, the quota is rounded up: a small sweep, too, has a candidate at the top budget.

What is promoted depends on the results alone, and on their order only through the promotions already made.

Which checkpoints are kept follows from it: a candidate keeps its own while it is trained or may be promoted, and once
it is complete for as long as it is on the Pareto front of the top budget, since `harness train` goes on from there.
They go as soon as it is none of these: it was stopped, it failed, it is beaten, or a better result pushed it off the
front.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from scipy.spatial import KDTree

from harness.search.candidates import Candidate, checkpoints_key
from harness.search.pareto import Front, Fronts, Losses, dominates, losses_of


class Level:
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

    def never_promoted(self, expected: int) -> list[int]:
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


def places(results: int, reduction: int, *, drained: bool) -> int:
    """How many of so many results are promoted."""
    return -(-results // reduction) if drained else results // reduction


class Retention:
    """The front of the complete candidates, and whose checkpoints that leaves in place."""

    def __init__(self, directions: Sequence[str]) -> None:
        self._directions = tuple(directions)  # minimize or maximize, of each objective
        self._front = Front()
        self._keys: dict[int, str] = {}  # of the front's members

    def complete(self, candidate: Candidate) -> list[str]:
        """`candidate` has its result at the top budget; the keys whose checkpoints go now (its own, if beaten)."""
        if candidate.beaten:
            return [checkpoints_key(candidate)]
        values = candidate.levels[-1].values
        assert values is not None, f"{candidate.name} is not complete"
        self._keys[candidate.number] = checkpoints_key(candidate)
        off = self._front.add(candidate.number, losses_of(values, self._directions))
        return [self._keys.pop(number) for number in off]

    def kept(self, running: Iterable[Candidate]) -> set[str]:
        """The keys whose checkpoints stay: the front's, and those of the candidates that are trained or wait."""
        return {*self._keys.values(), *(checkpoints_key(candidate) for candidate in running)}


def retained(candidates: Iterable[Candidate], directions: Sequence[str]) -> set[str]:
    """The keys whose checkpoints stay, of a sweep that no driver runs."""
    retention, running = Retention(directions), []
    for candidate in candidates:
        if candidate.state == "complete":
            retention.complete(candidate)
        elif candidate.state == "running":
            running.append(candidate)
    return retention.kept(running)
