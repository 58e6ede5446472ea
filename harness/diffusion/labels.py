"""Which class or caption each sample is asked to show: one rule for samples, controls, grids and proxy scores.

    proportional   the training frequencies: among the first n samples, class k has n p_k, rounded up or down
    balanced       the same with all classes equal
    random         independent draws from the training frequencies
    heldout        as proportional, by the frequencies of the held-out images: of captions, which are asked for that no
                   training image has

A score compares all samples with all reference images, so other class frequencies than the data's are punished as if
the images were bad. Captions of training images would ask for what was seen, and the reference's are held out: data
with captions has `heldout` unless another rule is chosen. The label of sample i depends on the rule, the frequencies,
the seed (random) and i alone: not on how many are drawn, nor on who draws them.

p_k is class k's share of the training images, or of the held-out ones.
"""

import heapq
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.diffusion.config import SamplingConfig
from harness.records.errors import UserError

Labels = NDArray[np.int64]
ORDER_SEED = 0  # of the order among equal classes: fixed, for N below K samples must not mean the first N classes
LABEL_STREAM = 1  # of Philox's counter; the noise of the same sample has 0


def sample_labels(
    count: int, train: Sequence[int], config: SamplingConfig, *, heldout: Sequence[int] | None = None
) -> Tensor:
    """(count,) class numbers; `train` has the number of training images of each class, `heldout` of held-out ones.

    Raises UserError where no class has an image, and for a rule that asks for held-out images of which none are known.
    """
    if config.labels == "heldout" and heldout is None:
        raise UserError(
            "sampling.labels=heldout asks for what held-out images show, and no data is named; give "
            "sampling.labels=balanced, or the data, data=..."
        )
    images = heldout if config.labels == "heldout" and heldout is not None else train
    if min(images, default=0) < 0 or sum(images) == 0:
        raise UserError(f"labels follow the classes of the training images, and there are none: {list(images)}")
    return torch.from_numpy(LABELS[config.labels](count, tuple(images), config.seed).copy())


def _proportional(count: int, images: tuple[int, ...], _seed: int) -> Labels:
    return _apportioned(count, images)


def _balanced(count: int, images: tuple[int, ...], _seed: int) -> Labels:
    return _apportioned(count, (1,) * len(images))


def _random(count: int, images: tuple[int, ...], seed: int) -> Labels:
    """Inversion of the distribution function; the uniform number of sample i is a function of (seed, i)."""
    ends = np.cumsum(images)
    uniform = np.empty(count)
    for index in range(count):
        key = np.array([seed, index], dtype=np.uint64)
        uniform[index] = np.random.Generator(np.random.Philox(key=key, counter=[0, 0, 0, LABEL_STREAM])).random()
    labels: Labels = np.searchsorted(ends, uniform * ends[-1], side="right").astype(np.int64)
    return labels


@lru_cache(maxsize=16)
def _apportioned(count: int, images: tuple[int, ...]) -> Labels:
    """Every prefix within 1 of its share n p_k, by Tijdeman's rule (1980, "The chairman assignment problem").

    With d = 1 - 1 / (2 K - 2) for K classes: of those whose share after this sample is at least 1 - d above their
    count, the one whose count would first fall d behind is next. Then |count - n p_k| <= d for all n and k.
    Largest remainders at each n would not do: there a class can have fewer of n + 1 samples than of n.
    """
    total = sum(images)
    present = [number for number in range(len(images)) if images[number] > 0]
    if len(present) == 1:
        return np.full(count, present[0], dtype=np.int64)
    slack = 2 * len(present) - 2  # d = (slack - 1) / slack; whole numbers, for ties are frequent and must stay ties
    rank = {number: place for place, number in enumerate(np.random.RandomState(ORDER_SEED).permutation(len(images)))}

    def release(number: int, had: int) -> int:
        """The first n, counted from 1, at which the share is 1 - d above the count: n p_k >= had + 1 / slack."""
        return -(-(had * slack + 1) * total // (slack * images[number]))

    def deadline(number: int, had: int) -> int:
        """The first n at which it must have been chosen once more: n p_k - had > d."""
        return ((had + 1) * slack - 1) * total // (slack * images[number]) + 1

    waiting = [(release(number, 0), rank[number], number, 0) for number in present]
    heapq.heapify(waiting)
    ready: list[tuple[int, int, int, int]] = []
    labels = np.empty(count, dtype=np.int64)
    for place in range(count):
        while waiting and waiting[0][0] <= place + 1:
            _, order, number, had = heapq.heappop(waiting)
            heapq.heappush(ready, (deadline(number, had), order, number, had))
        _, order, number, had = heapq.heappop(ready)
        labels[place] = number
        heapq.heappush(waiting, (release(number, had + 1), order, number, had + 1))
    labels.flags.writeable = False
    return labels


LABELS: dict[str, Callable[[int, tuple[int, ...], int], Labels]] = {
    "proportional": _proportional,
    "balanced": _balanced,
    "random": _random,
    "heldout": _proportional,
}
