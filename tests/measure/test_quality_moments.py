"""Means and covariances that stream: equal to those of all rows at once, however the rows are cut."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.measure import quality_moments
from harness.measure.quality_distances import (
    Gaussian,
    frechet_distance,
    frechet_distance_at_infinity,
    frechet_distance_of_gaussians,
    frechet_distance_of_moments,
    jackknife_groups,
)
from harness.measure.quality_moments import GroupedMoments, Moments, merged

WIDTH = 12


def rows(count: int, *, mean: float = 0.0, seed: int = 0) -> torch.Tensor:
    random = torch.Generator().manual_seed(seed)
    mixing = torch.randn(WIDTH, WIDTH, generator=random, dtype=torch.float64)
    return mean + torch.randn(count, WIDTH, generator=random, dtype=torch.float64) @ mixing


def same(one: Moments, other: Moments, rel: float = 1e-12) -> bool:
    """Relative to the largest entry."""
    scale = other.scatter.abs().max()
    apart = max(
        float((one.scatter - other.scatter).abs().max() / scale),
        float((one.mean - other.mean).abs().max() / other.mean.abs().max()),
    )
    return one.count == other.count and apart < rel


@given(st.lists(st.integers(1, 40), min_size=1, max_size=9), st.sampled_from([0.0, 1e3, 1e6]))
@settings(max_examples=30, deadline=None)
def test_any_cut_gives_numpys_mean_and_covariance(sizes, mean):
    x = rows(sum(sizes) + 1, mean=mean)
    total = merged([Moments.of(part) for part in torch.split(x, [*sizes, 1])])
    expected = np.cov(x.numpy(), rowvar=False)
    assert np.abs(total.covariance.numpy() - expected).max() < 1e-12 * np.abs(expected).max() * max(1, mean)
    assert np.allclose(total.mean.numpy(), x.numpy().mean(0), rtol=1e-14, atol=1e-14)


def test_sums_of_squares_would_lose_a_covariance_far_from_0():
    """What one would write first, E x x^T - mean mean^T: the check above sees it."""
    x = rows(1000, mean=1e6)
    plain = (x.T @ x - len(x) * torch.outer(x.mean(0), x.mean(0))) / (len(x) - 1)
    expected = torch.from_numpy(np.cov(x.numpy(), rowvar=False))
    assert (plain - expected).abs().max() > 1e-5 * expected.abs().max()
    assert (Moments.of(x).covariance - expected).abs().max() < 1e-9 * expected.abs().max()


def test_a_part_can_be_taken_out_again():
    parts = [Moments.of(part) for part in torch.split(rows(90, mean=50.0), [20, 40, 30])]
    assert same(merged(parts).without(parts[1]), merged([parts[0], parts[2]]))


def streamed(x: torch.Tensor, groups: np.ndarray, batch: int) -> list[Moments]:
    sums = GroupedMoments(int(groups.max()) + 1, WIDTH)
    for start in range(0, len(x), batch):
        at = slice(start, start + batch)
        sums.add(x[at], groups[at])
    return sums.parts()


def test_batches_change_nothing(monkeypatch):
    monkeypatch.setattr(quality_moments, "BLOCK", 32)
    x = rows(1000, mean=3.0)
    groups = jackknife_groups(torch.arange(1000) % 10)
    expected = [Moments.of(x[torch.from_numpy(groups == group)]) for group in range(groups.max() + 1)]
    results = [streamed(x, groups, batch) for batch in (1, 64, 999)]
    for parts in results:
        assert all(same(part, of) for part, of in zip(parts, expected, strict=True))
    for part, other in zip(results[0], results[1], strict=True):
        assert part.scatter.equal(other.scatter)  # the batches' size changes no bit
    gaussian = Gaussian.of(rows(500, seed=1))
    distances = [frechet_distance_of_moments(parts, gaussian).value for parts in [expected, *results]]
    assert distances == pytest.approx([distances[0]] * 4, rel=1e-12)


@pytest.mark.parametrize("reference", [400, 8])  # 8: fewer than features
def test_the_distance_of_moments_is_that_of_features_with_its_replicates(reference):
    x, groups = rows(300, mean=0.5), jackknife_groups(torch.arange(300) % 3)
    rounding = 1e-9 if reference > WIDTH else 1e-7  # the root of an eigenvalue of 1e-16
    gaussian = Gaussian.of(rows(reference, seed=1))
    one, two = frechet_distance(x, gaussian, groups), frechet_distance_of_moments(streamed(x, groups, 64), gaussian)
    assert (two.value, *two.replicates) == pytest.approx((one.value, *one.replicates), rel=rounding)


@given(st.floats(-3, 3), st.floats(0.2, 4), st.floats(0.2, 4))
@settings(max_examples=20, deadline=None)
def test_two_gaussians_meet_the_closed_form(apart, one, two):
    """Of covariances that commute: |d|^2 + sum (sigma_x - sigma_y)^2."""
    turn = torch.linalg.qr(torch.randn(WIDTH, WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))[
        0
    ]
    spectra = [
        scale * torch.arange(1, WIDTH + 1, dtype=torch.float64) ** power for scale, power in ((one, -1), (two, 0.5))
    ]
    covariances = [turn @ torch.diag(spectrum.square()) @ turn.T for spectrum in spectra]
    mean = torch.full((WIDTH,), apart, dtype=torch.float64)
    reference = Gaussian.of_statistics(torch.zeros(WIDTH, dtype=torch.float64), covariances[1])
    expected = WIDTH * apart**2 + float((spectra[0] - spectra[1]).square().sum())
    assert frechet_distance_of_gaussians(mean, covariances[0], reference) == pytest.approx(expected, rel=1e-9)
    same_twice = frechet_distance_of_gaussians(mean, covariances[0], Gaussian.of_statistics(mean, covariances[0]))
    assert same_twice == pytest.approx(0, abs=1e-9 * expected)


def test_the_extrapolation_has_less_bias_than_its_largest_sample():
    """Two equal Gaussians have FD 0; FD of N samples is above it, the intercept about on it (the paper's fig. 1)."""
    reference = Gaussian.of_statistics(torch.zeros(WIDTH, dtype=torch.float64), torch.eye(WIDTH, dtype=torch.float64))
    of_samples, extrapolated = [], []
    for seed in range(20):
        x = torch.randn(600, WIDTH, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        parts = streamed(x, jackknife_groups(torch.zeros(600)), 64)
        line = frechet_distance_at_infinity(parts, reference)
        assert line.sizes[-1] == 600
        assert line.distances[-1] == pytest.approx(frechet_distance_of_moments(parts, reference).value)
        of_samples.append(line.distances[-1])
        extrapolated.append(line.value)
    infinite, deviation = np.mean(extrapolated), np.std(extrapolated)
    print(f"FD of 600: {np.mean(of_samples):.4f}; at infinity: {infinite:.4f}, standard deviation {deviation:.4f}")
    assert min(of_samples) > 0.05
    assert abs(infinite) < 0.25 * np.mean(of_samples)


def test_an_exact_line_is_met():
    """A spread that vanishes leaves FD = |d|^2 at any N: the intercept is that."""
    x = torch.full((600, WIDTH), 2.0, dtype=torch.float64)
    reference = Gaussian.of_statistics(
        torch.zeros(WIDTH, dtype=torch.float64), torch.zeros(WIDTH, WIDTH, dtype=torch.float64)
    )
    line = frechet_distance_at_infinity(streamed(x, jackknife_groups(torch.zeros(600)), 64), reference)
    assert line.value == pytest.approx(4.0 * WIDTH)


def test_too_few_images_are_not_extrapolated():
    x = rows(4 * WIDTH - 10)
    assert frechet_distance_at_infinity(streamed(x, jackknife_groups(torch.zeros(len(x))), 64), Gaussian.of(x)) is None
