"""Which checkpoints of a sweep are kept: those that a training may still go on from.

A candidate keeps its checkpoints while it is trained or may be promoted, and once it is complete for as long as it is
on the Pareto front of the top budget: `harness train` goes on from there. They go as soon as it is none of these: it
was stopped, it failed, or a better result pushed it off the front.

No disk: what is kept depends on the candidates alone, and a result costs one look at the front, however many
candidates there are.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from harness.search.candidates import Candidate
from harness.search.halving import Losses, dominates, losses_of


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


class Retention:
    """The front of the complete candidates, and whose checkpoints that leaves in place."""

    def __init__(self, directions: Sequence[str]) -> None:
        self._directions = tuple(directions)  # minimize or maximize, of each objective
        self._front = Front()
        self._keys: dict[int, str] = {}  # of the front's members

    def complete(self, candidate: Candidate) -> list[str]:
        """`candidate` has its result at the top budget; the keys whose checkpoints go now."""
        values = candidate.rungs[-1].values
        assert values is not None, f"{candidate.name} is not complete"
        self._keys[candidate.number] = checkpoints_key(candidate)
        off = self._front.add(candidate.number, losses_of(values, self._directions))
        return [self._keys.pop(number) for number in off]

    def kept(self, running: Iterable[Candidate]) -> set[str]:
        """The keys whose checkpoints stay: the front's, and those of the candidates that are trained or wait."""
        return {*self._keys.values(), *(checkpoints_key(candidate) for candidate in running)}


def checkpoints_key(candidate: Candidate) -> str:
    """What its folder of checkpoints is named by: the key of its trial at the lowest budget."""
    return candidate.rungs[0].key


def retained(candidates: Iterable[Candidate], directions: Sequence[str]) -> set[str]:
    """The keys whose checkpoints stay, of a sweep that no driver runs."""
    retention, running = Retention(directions), []
    for candidate in candidates:
        if candidate.state == "complete":
            retention.complete(candidate)
        elif candidate.state == "running":
            running.append(candidate)
    return retention.kept(running)
