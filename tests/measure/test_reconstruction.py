"""Scores of reconstructions against arithmetic that is written out, window by window, and against themselves."""

import math

import numpy as np
import pytest
import torch

from harness.measure.reconstruction import ReconstructionScorer, colour_error, psnr, ssim
from harness.measure.reconstruction_controls import LinearDecoder, NearestPicture
from harness.models.extractor_config import EfficientNetLite0Extractor
from harness.models.perceptual_config import StLpips
from harness.records.quantity import Measured, Unavailable


def pictures(count=3, side=14, seed=0):
    random = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, side, side), generator=random, dtype=torch.uint8)


def near(originals, levels=20, seed=1):
    random = torch.Generator().manual_seed(seed)
    noise = torch.randint(-levels, levels + 1, originals.shape, generator=random)
    return (originals.int() + noise).clamp(0, 255).to(torch.uint8)


def test_psnr_is_of_each_pictures_squared_error():
    originals = pictures()
    made = near(originals)
    for value, one, other in zip(psnr(made, originals).tolist(), made.numpy(), originals.numpy(), strict=True):
        error = np.mean((one.astype(float) - other.astype(float)) ** 2)
        assert value == pytest.approx(20 * math.log10(255) - 10 * math.log10(error))
    one_off = originals.clone()
    one_off[0, 0, 0, 0] ^= 1
    assert psnr(originals, originals).tolist() == psnr(one_off, originals).tolist()  # no error counts as that


def ssim_by_windows(one, other):
    """Wang et al.'s eq. 13, a window at a time."""
    offsets = np.arange(11) - 5
    weights = np.exp(-(offsets[:, None] ** 2 + offsets[None] ** 2) / (2 * 1.5**2))
    weights /= weights.sum()
    c1, c2, found = (0.01 * 255) ** 2, (0.03 * 255) ** 2, []
    for x, y in zip(one.astype(float), other.astype(float), strict=True):
        for top in range(x.shape[0] - 10):
            for left in range(x.shape[1] - 10):
                a, b = (each[top : top + 11, left : left + 11] for each in (x, y))
                mean_a, mean_b = (weights * a).sum(), (weights * b).sum()
                var_a, var_b = (weights * (a - mean_a) ** 2).sum(), (weights * (b - mean_b) ** 2).sum()
                both = (weights * (a - mean_a) * (b - mean_b)).sum()
                above = (2 * mean_a * mean_b + c1) * (2 * both + c2)
                found.append(above / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2)))
    return np.mean(found)


def test_ssim_is_the_windows_written_out():
    originals = pictures()
    made = near(originals, 60)
    expected = [ssim_by_windows(*pair) for pair in zip(made.numpy(), originals.numpy(), strict=True)]
    assert ssim(made, originals).tolist() == pytest.approx(expected, rel=1e-9)
    assert ssim(originals, originals).tolist() == pytest.approx([1, 1, 1])


def test_the_colour_error_sees_a_shift_and_no_noise():
    originals = pictures(side=64) // 2 + 50
    shifted = originals + torch.tensor([3, 0, 6], dtype=torch.uint8)[:, None, None]
    assert colour_error(shifted, originals).tolist() == pytest.approx([3.0] * 3)
    assert float(colour_error(near(originals), originals).max()) < 1
    assert float(psnr(shifted, originals).min()) > float(psnr(near(originals), originals).max())


def scores(made, originals, parts=1, perceptual=None):
    labels = torch.arange(len(originals)) % 2
    scorer = ReconstructionScorer(labels, EfficientNetLite0Extractor(resolution=32), perceptual, torch.device("cpu"))
    for one, other in zip(made.chunk(parts), originals.chunk(parts), strict=True):
        scorer.add(one, other)
    return scorer.quantities({"rounding": "nearest"})


def test_scores_are_means_over_pictures_with_intervals_and_conditions():
    originals = pictures(12)
    made = near(originals)
    found = scores(made, originals, parts=3)
    for name, of in (("psnr", psnr), ("ssim", ssim), ("colour_error", colour_error)):
        values = of(made, originals).numpy()
        quantity = found[name]
        assert quantity.value == pytest.approx(values.mean())
        half = values.std(ddof=1) / math.sqrt(12) * 2.2  # 12 groups of one: the t interval of a mean
        assert quantity.high - quantity.value == pytest.approx(half, rel=0.01)
        assert quantity.conditions["samples"] == 12
        assert quantity.conditions["rounding"] == "nearest"
    distance = found["reconstruction_fd"]
    assert distance.conditions["label"] == "FD-EffLite0@32 of reconstructions, N=12"
    assert distance.value > scores(originals, originals)["reconstruction_fd"].value == pytest.approx(0, abs=1e-6)


def test_a_picture_smaller_than_the_window_has_no_ssim():
    originals = pictures(2, side=8)
    found = scores(near(originals), originals)
    assert found["ssim"] == Unavailable(reason="SSIM is of pictures from 11 px, and these have fewer")
    assert isinstance(found["psnr"], Measured)


def test_a_linear_decoder_finds_a_linear_one():
    """Pictures that are a convolution of their latents, cut in parts: found exactly, on latents not seen."""
    torch.manual_seed(0)
    kernel = torch.nn.ConvTranspose2d(4, 3, 2, stride=2).double()
    latents = torch.randn(30, 4, 6, 6)
    with torch.no_grad():
        made = kernel(latents.double()).float()
    linear = LinearDecoder(zip(latents[:20].chunk(3), made[:20].chunk(3), strict=True))
    torch.testing.assert_close(linear(latents[20:]).float(), made[20:], rtol=1e-4, atol=1e-4)


def test_the_nearest_picture_is_that_of_the_nearest_latent():
    latents, shown = torch.randn(10, 4, 2, 2), torch.randn(10, 3, 4, 4)
    nearest = NearestPicture([(latents[:6], shown[:6]), (latents[6:], shown[6:])])
    assert torch.equal(nearest(latents[[7, 2]] + 1e-3), shown[[7, 2]])


def test_how_unlike_they_look_is_named_as_what_it_is(monkeypatch):
    monkeypatch.setattr(
        "harness.measure.reconstruction.load_perceptual", lambda *_: lambda x, y: (x - y).abs().mean((1, 2, 3))
    )
    originals = pictures(12, side=18)
    made = near(originals)
    found = scores(made, originals, parts=2, perceptual=StLpips())["st_lpips"]
    assert found.value == pytest.approx(float((made.double() - originals.double()).abs().mean()) / 127.5, rel=1e-5)
    assert found.conditions["label"] == "ST-LPIPS-VGG, a mean over 12 pictures"
    assert found.conditions["network"]["kind"] == "st_lpips"
    small = pictures(2, side=16)
    assert scores(small, small, perceptual=StLpips())["st_lpips"] == Unavailable(
        reason="ST-LPIPS-VGG is of pictures from 18 px, and these have fewer"
    )
