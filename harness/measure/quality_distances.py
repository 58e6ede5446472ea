"""KID and FD of features, each with the sampling noise of the generated images. Pure functions of arrays and moments.

    KID     unbiased squared maximum mean discrepancy with the kernel k(x, y) = (x.y / D + 1)^3 (Binkowski et al. 2018,
            arXiv 1801.01401; Gretton et al. 2012, eq. 3, for m and n samples):
            sum_{i != j} k(x_i, x_j) / (m (m - 1)) + sum_{i != j} k(y_i, y_j) / (n (n - 1)) - 2 sum k(x_i, y_j) / (m n)
    FD      |mu_x - mu_y|^2 + tr S_x + tr S_y - 2 tr (S_x S_y)^(1/2) (Heusel et al. 2017, arXiv 1706.08500)
    FD_inf  the intercept of FD_N over 1/N (Chong and Forsyth 2020, arXiv 1911.07023, section 4): FD is too high by
            about a constant times 1/N, and the constant is the network's own, so an order at equal N may be wrong

Replicates: the same distance without group g of the generated images, for each g; `statistics.jackknife_interval` makes
an interval of them (delete-a-group jackknife). What it covers is which m images were drawn; the reference images are
held fixed, since all candidates meet the same ones. Deleting keeps every image different; a bootstrap draws images
twice, and pairs of equal images raise both distances.

x generated (m, D), y reference (n, D), G groups; float64.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.measure.quality_moments import Moments, merged

Groups: TypeAlias = NDArray[np.int64]
"""(m,) the group of each generated image, 0..G-1."""

GROUPS = range(12, 25)  # more give a steadier interval, and cost a spectrum each
FEWEST = 5  # images: fewer say nothing of their own noise
ROWS = 4096  # of a kernel matrix at a time: 128 MiB


@dataclass(frozen=True, slots=True)
class Estimate:
    value: float
    replicates: tuple[float, ...] = ()  # G; none for fewer than `FEWEST` images


def jackknife_groups(labels: Tensor) -> Groups:
    """(m,) group numbers, a function of the labels alone: each class, then all images, dealt out in turn, so that
    groups differ by at most one image in size and in each class.

    Which classes were asked for is no sampling noise, but groups of unequal classes differ by it. With r_k images of
    class k left over when dealt to G groups, it adds a share of sum_k r_k (G - r_k) / (G m) of the variance between
    classes to that within: the G with the smallest is taken, of equal ones the largest.
    """
    numbers = labels.numpy()
    order, sizes = np.argsort(numbers, kind="stable"), np.unique(numbers, return_counts=True)[1]

    def unequal(count: int) -> float:
        return float(np.sum(sizes % count * (count - sizes % count))) / count

    most = min(min(reversed(GROUPS), key=unequal), len(order))
    groups = np.empty(len(order), dtype=np.int64)
    groups[order] = np.arange(len(order)) % most
    return groups


# KID


def kernel_distance(x: Tensor, y: Tensor, groups: Groups) -> Estimate:
    """Over all m and n images at once; memory beside the features does not grow with either."""
    return _kernel_distance(x, y, _membership(groups, int(groups.max()) + 1))


def kernel_distance_over_subsets(
    x: Tensor, y: Tensor, groups: Groups, *, subsets: int, size: int, seed: int
) -> Estimate:
    """The mean over random subsets: `size` of the m generated images and, drawn apart, `size` of the n reference
    images, each without replacement; torch-fidelity's draws for this seed. A replicate has the same subsets without
    the images of its group."""
    member, random = _membership(groups, int(groups.max()) + 1), np.random.RandomState(seed)
    estimates = []
    for _ in range(subsets):
        ours, theirs = (random.choice(len(images), size, replace=False) for images in (x, y))
        estimates.append(_kernel_distance(x[ours], y[theirs], member[ours]))
    value = float(np.mean([subset.value for subset in estimates]))
    if not all(subset.replicates for subset in estimates):
        return Estimate(value)
    return Estimate(value, tuple(np.mean([subset.replicates for subset in estimates], axis=0).tolist()))


def _kernel_distance(x: Tensor, y: Tensor, member: Tensor) -> Estimate:
    m, n, ones = len(x), len(y), torch.ones(len(y), 1, dtype=y.dtype)
    pairs = member.T @ _kernel_sums(x, x, member) - torch.diag(member.T @ _kernel_diagonal(x))  # G G, without i = j
    across = (member.T @ _kernel_sums(x, y, ones))[:, 0]  # G
    reference = float(_kernel_sums(y, y, ones).sum() - _kernel_diagonal(y).sum()) / (n * (n - 1))

    def distance(within: Tensor, between: Tensor, images: Tensor) -> Tensor:
        return within / (images * (images - 1)) + reference - 2 * between / (images * n)

    images = m - member.sum(0)  # G; images without each group
    value = float(distance(pairs.sum(), across.sum(), torch.full((), m, dtype=x.dtype)))
    if m < FEWEST or images.min() < 2:
        return Estimate(value)
    within = pairs.sum() - 2 * pairs.sum(1) + pairs.diagonal()
    return Estimate(value, tuple(distance(within, across.sum() - across, images).tolist()))


def _membership(groups: Groups, count: int) -> Tensor:
    """(m, G) 1 where the image is of the group."""
    return torch.eye(count, dtype=torch.float64)[torch.from_numpy(groups)]


def _kernel_sums(x: Tensor, y: Tensor, weights: Tensor) -> Tensor:
    """sum_j k(x_i, y_j) weights_j: (m, W) of weights (n, W); ROWS x ROWS kernel values at a time."""
    sums = torch.zeros(len(x), weights.shape[1], dtype=x.dtype)
    for row in range(0, len(x), ROWS):
        for column in range(0, len(y), ROWS):
            kernel = (x[row : row + ROWS] @ y[column : column + ROWS].T / x.shape[1] + 1) ** 3
            sums[row : row + ROWS] += kernel @ weights[column : column + ROWS]
    return sums


def _kernel_diagonal(x: Tensor) -> Tensor:
    """(m,) k(x_i, x_i)."""
    return torch.pow((x * x).sum(1) / x.shape[1] + 1, 3)


# FD


@dataclass(frozen=True, slots=True, eq=False)
class Gaussian:
    """The reference's mean and covariance S, as a root: S = root root^T."""

    mean: Tensor  # (D,)
    root: Tensor  # (D, R), R = min(n, D)

    @classmethod
    def of(cls, y: Tensor) -> "Gaussian":
        mean = y.mean(0)
        centred = (y - mean) / math.sqrt(len(y) - 1)
        if len(y) <= y.shape[1]:
            return cls(mean, centred.T)
        return cls.of_statistics(mean, centred.T @ centred)

    @classmethod
    def of_statistics(cls, mean: Tensor, covariance: Tensor) -> "Gaussian":
        values, vectors = torch.linalg.eigh(covariance)
        return cls(mean, vectors * values.clamp(min=0).sqrt())


def frechet_distance(x: Tensor, reference: Gaussian, groups: Groups) -> Estimate:
    """tr (S_x S_y)^(1/2) is the nuclear norm of Z / sqrt(m - 1), Z the centred features times the reference's root: the
    square roots of the eigenvalues of Z^T Z or Z Z^T, the smaller of the two. A replicate costs one such spectrum."""
    centre = x.mean(0)
    centred = x - centre
    along = centred @ reference.root  # m R
    spectra = _RowSpectra(along) if len(x) <= along.shape[1] else _ColumnSpectra(along)

    def distance(chosen: Tensor) -> float:
        rows = centred[chosen]
        m, mean = len(rows), rows.mean(0)
        trace = (rows.square().sum() - m * mean.square().sum()) / (m - 1)
        cross = spectra.nuclear_norm(chosen) / math.sqrt(m - 1)
        return float(
            (centre + mean - reference.mean).square().sum() + trace + reference.root.square().sum() - 2 * cross
        )

    number = torch.from_numpy(groups)
    value = distance(torch.ones(len(x), dtype=torch.bool))
    if len(x) < FEWEST:
        return Estimate(value)
    return Estimate(value, tuple(distance(number != group) for group in range(int(groups.max()) + 1)))


class _RowSpectra:
    """Few rows: their inner products are computed once, and a choice of rows is a part of them."""

    def __init__(self, rows: Tensor) -> None:
        self.products = rows @ rows.T

    def nuclear_norm(self, chosen: Tensor) -> Tensor:
        """Of the chosen rows, centred on their mean."""
        products = self.products[chosen][:, chosen]
        return _root_sum(products - products.mean(0) - products.mean(1, keepdim=True) + products.mean())


class _ColumnSpectra:
    """Many rows: what is taken out is subtracted from the columns' inner products."""

    def __init__(self, rows: Tensor) -> None:
        self.rows, self.products = rows, rows.T @ rows

    def nuclear_norm(self, chosen: Tensor) -> Tensor:
        out, mean = self.rows[~chosen], self.rows[chosen].mean(0)
        return _root_sum(self.products - out.T @ out - int(chosen.sum()) * torch.outer(mean, mean))


def _root_sum(gram: Tensor) -> Tensor:
    total: Tensor = torch.linalg.eigvalsh(gram).clamp(min=0).sqrt().sum()
    return total


# FD of moments, where there are too many images to keep their features


def frechet_distance_of_moments(parts: Sequence[Moments], reference: Gaussian) -> Estimate:
    """FD of the images whose groups have these moments; a replicate is it without one group."""
    total = merged(parts)
    value = _frechet(total, reference)
    if total.count < FEWEST or len(parts) < 2:
        return Estimate(value)
    return Estimate(value, tuple(_frechet(total.without(part), reference) for part in parts))


SIZES = 15  # the paper's
SMALLEST = 0.1  # of the images: the paper's 5,000 of 50,000
PER_FEATURE = 2  # images at least: with fewer the covariance has no full rank, and FD is no line in 1/N


@dataclass(frozen=True, slots=True)
class Extrapolation:
    value: float
    sizes: tuple[int, ...]  # images that the line was fitted through
    distances: tuple[float, ...]  # FD at each


def frechet_distance_at_infinity(parts: Sequence[Moments], reference: Gaussian) -> Extrapolation | None:
    """FD of infinitely many generated images, against the reference as it is; None for too few images to say.

    The sizes are numbers of whole groups; each takes up where the last ended, as the paper draws anew for each.
    """
    total, width = sum(part.count for part in parts), len(reference.mean)
    fewest = max(total * SMALLEST, PER_FEATURE * width) / (total / len(parts))  # groups
    chosen = sorted({round(each) for each in np.linspace(math.ceil(fewest), len(parts), SIZES)})
    if len(chosen) < 3 or fewest > len(parts) / 2:
        return None
    start, sizes, distances = 0, [], []
    for count in chosen:
        taken = merged([parts[(start + step) % len(parts)] for step in range(count)])
        start += count
        sizes.append(taken.count)
        distances.append(_frechet(taken, reference))
    intercept = np.polyfit(1 / np.array(sizes), distances, 1)[1]
    return Extrapolation(float(intercept), tuple(sizes), tuple(distances))


def _frechet(moments: Moments, reference: Gaussian) -> float:
    return frechet_distance_of_gaussians(moments.mean, moments.covariance, reference)


def frechet_distance_of_gaussians(mean: Tensor, covariance: Tensor, reference: Gaussian) -> float:
    """tr (S_x S_y)^(1/2) is the sum of the square roots of the eigenvalues of root^T S_x root.

    Eigenvalues that are rounding are 0: the root of 1e-16 is 1e-8, and a thousand of them would be seen.
    """
    spectrum = torch.linalg.eigvalsh(reference.root.T @ covariance @ reference.root)
    rounding = len(spectrum) * torch.finfo(spectrum.dtype).eps * spectrum.max()
    cross = spectrum[spectrum > rounding].sqrt().sum()
    apart = (mean - reference.mean).square().sum()
    return float(apart + covariance.trace() + reference.root.square().sum() - 2 * cross)
