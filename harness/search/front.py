"""The Pareto front of values, each with its direction. Kept up as points come, it is `retention`'s and `halving`'s."""

from collections.abc import Sequence

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from harness.search.constraints import violations_of
from harness.search.storage import Direction, directions_of


def front_trials(study: optuna.Study) -> list[FrozenTrial]:
    """The complete trials within their limits that no other beats: `study.best_trials`, which copies every trial first,
    the best of the first objective first."""
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    found = [trial for trial in complete if all(each <= 0 for each in violations_of(trial.system_attrs).values())]
    front = front_of([tuple(trial.values) for trial in found], tuple(directions_of(study).values()))
    return [found[at] for at in front]


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
