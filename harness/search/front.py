"""The Pareto front of values, each with its direction."""

from collections.abc import Sequence

import numpy as np

from harness.search.storage import Direction


def front_of(values: Sequence[tuple[float, ...]], directions: Sequence[Direction]) -> list[int]:
    """Places of those that no other beats: nowhere worse and somewhere better; the best of the first objective first.

    The lexicographically smallest that is left is beaten by nobody, and takes away all that it beats; of equals all
    stay. That costs the front's size times the number of values.
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
