"""Number, mean and covariance of features that nobody keeps: float64, constant memory in the number of images.

    merge   n = n_a + n_b,  d = mean_b - mean_a,  mean = mean_a + d n_b / n,  S = S_a + S_b + d d^T n_a n_b / n
            (Chan, Golub and LeVeque 1983, eq. 2.1 for vectors); S is the sum of (x - mean)(x - mean)^T

Every part is centred on its own mean before it is squared, so nothing cancels however far the mean lies from 0: any cut
of the images into parts agrees with any other to about 1e-15 times the number of merges, and the tests hold them to
1e-12. Rows of a group wait until there are BLOCK of them, so the size of the batches that they come in
changes no bit.

D features, G groups of images (of the jackknife).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

BLOCK = 256  # rows of a group that are summed at once


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """Of `count` rows: what a Gaussian fitted to them needs."""

    count: int
    mean: Tensor  # (D,)
    scatter: Tensor  # (D, D)

    @classmethod
    def of(cls, rows: Tensor) -> "Moments":
        """Of (n, D), n from 1."""
        rows = rows.double()
        mean = rows.mean(0)
        centred = rows - mean
        return cls(len(rows), mean, centred.T @ centred)

    @property
    def covariance(self) -> Tensor:
        """(D, D), with count - 1."""
        return self.scatter / (self.count - 1)

    def merged(self, other: "Moments") -> "Moments":
        """Of the rows of both."""
        if not self.count or not other.count:
            return self if self.count else other
        count, apart = self.count + other.count, other.mean - self.mean
        scatter = self.scatter + other.scatter
        scatter.addr_(apart, apart, alpha=self.count * other.count / count)
        return Moments(count, self.mean + apart * (other.count / count), scatter)

    def without(self, part: "Moments") -> "Moments":
        """Of the rows that are not of `part`, which is one of those that were merged."""
        count = self.count - part.count
        mean = (self.count * self.mean - part.count * part.mean) / count
        apart = part.mean - mean
        scatter = self.scatter - part.scatter
        scatter.addr_(apart, apart, alpha=-part.count * count / self.count)
        return Moments(count, mean, scatter)


def merged(parts: Sequence[Moments]) -> Moments:
    """Of the rows of all."""
    return reduce(Moments.merged, parts)


class GroupedMoments:
    """The moments of each group of images, while the images come."""

    def __init__(self, groups: int, width: int) -> None:
        self.count = np.zeros(groups, dtype=np.int64)
        self.mean = torch.zeros(groups, width, dtype=torch.float64)
        self.scatter = torch.zeros(groups, width, width, dtype=torch.float64)
        self._waiting: list[list[Tensor]] = [[] for _ in range(groups)]

    def add(self, rows: Tensor, groups: NDArray[np.int64]) -> None:
        """(n, D) features of images of the groups (n,)."""
        for row, group in zip(rows, groups, strict=True):
            self._waiting[group].append(row.clone())  # a view would keep its whole batch
            if len(self._waiting[group]) == BLOCK:
                self._sum_up(int(group))

    def parts(self) -> list[Moments]:
        """Of each group that has images."""
        for group in range(len(self._waiting)):
            self._sum_up(group)
        return [self._part(int(group)) for group in np.flatnonzero(self.count)]

    def _part(self, group: int) -> Moments:
        return Moments(int(self.count[group]), self.mean[group], self.scatter[group])

    def _sum_up(self, group: int) -> None:
        rows, self._waiting[group] = self._waiting[group], []
        if rows:
            self._put(group, Moments.of(torch.stack(rows)))

    def _put(self, group: int, more: Moments) -> None:
        total = self._part(group).merged(more)
        self.count[group], self.mean[group], self.scatter[group] = total.count, total.mean, total.scatter
