"""KID and FD with their replicates: torch-fidelity's numbers, at any number of images, with intervals that cover."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, kid_features_to_metric

from harness.measure import quality_distances
from harness.measure.quality_distances import (
    GROUPS,
    Gaussian,
    frechet_distance,
    jackknife_groups,
    kernel_distance,
    kernel_distance_over_subsets,
)

from .score_coverage import World, bootstrap_bias, coverage, paired

SIZES = [(60, 60, 30), (60, 50, 200), (20, 300, 64), (300, 20, 64)]


def features(m: int, n: int, width: int):
    random = torch.Generator().manual_seed(m + n)
    x = torch.randn(m, width, generator=random, dtype=torch.float64).abs()
    y = torch.randn(n, width, generator=random, dtype=torch.float64) * 1.2
    return x, y, jackknife_groups(torch.randint(0, 3, (m,), generator=random))


def fidelity_kid(x, y, *, subsets: int, size: int, seed: int = 0) -> float:
    metrics = kid_features_to_metric(x, y, kid_subsets=subsets, kid_subset_size=size, rng_seed=seed, verbose=False)
    return metrics[KEY_METRIC_KID_MEAN]


def fidelity_fd(x, y) -> float:
    return fid_statistics_to_metric(*map(fid_features_to_statistics, (x, y)), verbose=False)[KEY_METRIC_FID]


@pytest.mark.parametrize(("m", "n", "width"), SIZES)
def test_distances_are_torch_fidelitys(m, n, width):
    x, y, groups = features(m, n, width)
    assert frechet_distance(x, Gaussian.of(y), groups).value == pytest.approx(fidelity_fd(x, y), rel=1e-6)
    least = min(m, n)
    alike = kernel_distance(x[:least], y[:least], groups[:least]).value
    assert alike == pytest.approx(fidelity_kid(x[:least], y[:least], subsets=1, size=least), rel=1e-12)
    subsets = kernel_distance_over_subsets(x, y, groups, subsets=7, size=15, seed=5).value
    assert subsets == pytest.approx(fidelity_kid(x, y, subsets=7, size=15, seed=5), rel=1e-12)


@pytest.mark.parametrize(("m", "n", "width"), SIZES)
def test_a_replicate_is_the_distance_without_its_group(m, n, width):
    x, y, groups = features(m, n, width)
    reference, kept = Gaussian.of(y), groups != 3
    for distance, against in ((kernel_distance, y), (frechet_distance, reference)):
        without = distance(x[kept], against, jackknife_groups(torch.zeros(int(kept.sum())))).value
        assert distance(x, against, groups).replicates[3] == pytest.approx(without, rel=1e-9)


def test_kid_of_unequal_numbers_uses_every_pair():
    x, y, groups = features(240, 89, 32)
    kxx, kyy, kxy = ((a @ b.T / 32 + 1) ** 3 for a, b in ((x, x), (y, y), (x, y)))
    expected = (kxx.sum() - kxx.trace()) / (240 * 239) + (kyy.sum() - kyy.trace()) / (89 * 88) - 2 * kxy.mean()
    assert kernel_distance(x, y, groups).value == pytest.approx(expected.item(), rel=1e-12)


def test_the_order_of_the_images_changes_nothing():
    """torch-fidelity's one subset of 89 of 240 changes with their order by as much as the number itself says."""
    x, y, groups = features(240, 89, 32)
    turned = torch.randperm(240, generator=torch.Generator().manual_seed(0))
    distances = [
        kernel_distance(x[at], y[back], groups).value
        for at, back in ((turned, slice(None)), (turned, range(88, -1, -1)))
    ]
    assert distances == pytest.approx([kernel_distance(x, y, groups).value] * 2, rel=1e-12)
    assert fidelity_kid(x[turned], y, subsets=1, size=89) != pytest.approx(
        fidelity_kid(x, y, subsets=1, size=89), rel=1e-3
    )


def test_blocks_of_any_size_give_the_same(monkeypatch):
    x, y, groups = features(60, 50, 20)
    whole = kernel_distance(x, y, groups)
    monkeypatch.setattr(quality_distances, "ROWS", 7)
    blocks = kernel_distance(x, y, groups)
    assert (blocks.value, *blocks.replicates) == pytest.approx((whole.value, *whole.replicates), rel=1e-12)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=600))
def test_groups_have_all_images_and_classes_alike(labels):
    groups = jackknife_groups(torch.tensor(labels))
    count = groups.max() + 1
    assert count == len(labels) or count in GROUPS
    for chosen in (np.ones(len(labels), bool), *(np.array(labels) == number for number in set(labels))):
        sizes = np.bincount(groups[chosen], minlength=count)
        assert sizes.max() - sizes.min() <= 1


def test_very_few_images_have_no_interval():
    x, y, groups = features(4, 30, 8)
    assert kernel_distance(x, y, groups).replicates == frechet_distance(x, Gaussian.of(y), groups).replicates == ()


def test_the_known_kid_is_that_of_many_images():
    world = World(images=200, reference=50, width=8, shift=0.5, scale=1.2)
    values = [estimate.value for estimate in world.estimates("KID", 1000)]
    assert world.true_kid() == pytest.approx(np.mean(values), abs=3 * np.std(values) / np.sqrt(1000))


WORLD = World(images=256, reference=256, width=16)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["KID", "FD"])
@pytest.mark.parametrize("world", [WORLD, replace(WORLD, shift=0.1), replace(WORLD, classes=10, apart=1.0)])
def test_intervals_cover(world, name):
    """FD is biased at any N: what its interval covers is the expectation at that N."""
    truth = world.true_kid() if name == "KID" and world.classes == 1 else None
    intervals = coverage(world.estimates(name, 500), truth)
    assert 0.93 <= intervals.covered <= 0.975
    assert intervals.error / intervals.deviation == pytest.approx(1.0, abs=0.15)


def test_groups_that_ignore_the_classes_make_an_interval_too_long():
    world = replace(WORLD, classes=10, apart=1.0)
    object.__setattr__(world, "groups", np.random.default_rng(0).permutation(256) % 16)
    intervals = coverage(world.estimates("FD", 200))
    assert intervals.error / intervals.deviation > 1.2


@pytest.mark.parametrize("name", ["KID", "FD"])
def test_a_bootstrap_would_be_biased_upwards(name):
    bias, deviation = bootstrap_bias(replace(WORLD, shift=0.0), name, 20)
    assert bias > 2 * deviation


@pytest.mark.slow
@pytest.mark.parametrize("name", ["KID", "FD"])
def test_what_two_networks_share_cancels_in_their_difference(name):
    pair = paired(WORLD, name, 400, 0.35)
    assert 0.92 <= pair.covered <= 0.975
    assert pair.length < 0.5 * pair.unpaired
