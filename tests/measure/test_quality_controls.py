"""Control batches: what they are made of, and that they repeat."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from whole_images import control_images

from harness.data.config import DigitsConfig
from harness.data.dataset import load_dataset
from harness.data.images import ArrayImages
from harness.diffusion.config import SamplingConfig
from harness.measure import quality_controls
from harness.measure.quality_config import QualityConfig
from harness.measure.quality_controls import CONTROLS, control_parts
from harness.records.errors import UserError

CONFIG = QualityConfig(samples=1000)


@pytest.fixture(scope="module")
def digits():
    return load_dataset(DigitsConfig())


@pytest.mark.parametrize("name", CONTROLS)
def test_a_control_is_a_function_of_its_seed(digits, name):
    images, labels = control_images(name, digits, CONFIG, SamplingConfig())
    assert images.shape == (1000, 1, 8, 8)
    assert labels.shape == (1000,)
    again, labels_again = control_images(name, digits, CONFIG, SamplingConfig())
    assert images.equal(again)
    assert labels.equal(labels_again)
    assert not images.equal(control_images(name, digits, CONFIG, SamplingConfig(seed=1))[0])


@pytest.mark.parametrize(("reference", "part"), [("heldout", "train"), ("train", "heldout")])
def test_the_floor_is_real_and_never_of_the_reference(digits, reference, part):
    config = QualityConfig(samples=300, reference=reference)
    images, labels = control_images("floor", digits, config, SamplingConfig())
    real = {(image.numpy().tobytes(), label) for image, label in getattr(digits, part)}
    drawn = [(image.numpy().tobytes(), int(label)) for image, label in zip(images, labels, strict=True)]
    assert set(drawn) <= real
    assert len(set(drawn)) == 300


def test_noise_is_uniform(digits):
    images, labels = control_images("noise", digits, CONFIG, SamplingConfig())
    counts = np.bincount(images.flatten().numpy(), minlength=256)
    expected = images.numel() / 256
    assert ((counts - expected) ** 2 / expected).sum() < 330  # chi-squared of 255 degrees: 99.9% are below 330
    share = 1000 * np.array(digits.class_sizes) / len(digits.train)
    assert np.abs(np.bincount(labels.numpy()) - share).max() < 1


@pytest.mark.parametrize("name", CONTROLS)
def test_a_control_comes_in_parts_where_pictures_are_many_or_large(digits, name, monkeypatch):
    """Of multiples of the extractor's batch; the same pictures, but for the Gaussian's sums, which round otherwise."""
    whole, labels = control_images(name, digits, CONFIG, SamplingConfig())
    (only,) = control_parts(name, digits, CONFIG, SamplingConfig())[1]
    assert only[0] == range(len(whole)), "few and small: one part"
    monkeypatch.setattr(quality_controls, "DRAWN_VALUES", 64 * 300)
    labels_of_parts, parts = control_parts(name, digits, CONFIG, SamplingConfig())
    numbers, images = zip(*parts, strict=True)
    assert numbers == tuple(range(start, min(start + 256, len(whole))) for start in range(0, len(whole), 256))
    assert labels.equal(labels_of_parts)
    off = (whole.int() - torch.cat(images).int()).abs()
    assert off.max() <= (1 if name == "pixel_gaussian" else 0)
    assert (off > 0).double().mean() < 1e-3


def test_the_gaussian_has_the_training_pixels_mean_and_covariance(digits):
    """On images in the middle of the range, where clipping to 0..255 changes nothing."""
    random = np.random.default_rng(0)
    mixing = random.normal(0, 3, (64, 64))
    pixels = np.rint(128 + random.normal(0, 1, (2000, 64)) @ mixing).clip(0, 255).astype(np.uint8)
    gaussian = ArrayImages(pixels.reshape(-1, 1, 8, 8), np.zeros(2000, np.int64))
    data = replace(digits, train=gaussian)
    images, _ = control_images("pixel_gaussian", data, QualityConfig(samples=2000), SamplingConfig())
    drawn, real = images.flatten(1).numpy().astype(float), pixels.astype(float)
    error = real.std(0) / np.sqrt(2000)
    assert np.all(np.abs(drawn.mean(0) - real.mean(0)) < 5 * error)
    assert np.all(np.abs(drawn.std(0) - real.std(0)) < 5 * error)
    assert np.abs(np.corrcoef(drawn.T) - np.corrcoef(real.T)).max() < 5 / np.sqrt(2000)


def test_a_wrong_name_lists_the_right_ones(digits):
    with pytest.raises(UserError, match="floor, noise, pixel_gaussian"):
        control_images("xyz", digits, CONFIG, SamplingConfig())
