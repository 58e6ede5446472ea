"""Which of several results is better: the best of one quantity, the front of several. Which way each goes, its line in
`harness.records.quantities` says."""

from collections.abc import Sequence

import numpy as np

from harness.records.quantities import more_is_better
from harness.records.quantity import Measured, Quantity


def best_place(scores: Sequence[Quantity], name: str) -> int | None:
    """Place of the best measured one of several scores of that name, the first of equals; None where none is measured.

    Chosen from many by the scores that are compared, so its own score is flattered.
    """
    better = max if more_is_better(name) else min
    measured = {place: score.value for place, score in enumerate(scores) if isinstance(score, Measured)}
    return better(measured, key=measured.__getitem__, default=None)


def front_of(values: Sequence[tuple[float, ...]], directions: Sequence[str]) -> list[int]:
    """Places of those that no other beats: nowhere worse and somewhere better; the best of the first objective first.

    `directions` has `minimize` or `maximize` for each objective. The lexicographically smallest that is left is beaten
    by nobody, and takes away all that it beats; of equals all stay. That costs the front's size times the number of
    values.
    """
    if not values:
        return []
    losses = np.asarray(values, dtype=float) * np.where(np.asarray(directions) == "maximize", -1.0, 1.0)
    left, front = np.lexsort(losses.T[::-1]), []
    while len(left):
        first = losses[left[0]]
        equal = (losses[left] == first).all(axis=1)
        front += left[equal].tolist()
        left = left[(losses[left] < first).any(axis=1)]
    return front
