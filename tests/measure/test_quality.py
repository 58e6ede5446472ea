"""Scores: against arithmetic, against published behaviour, with their conditions; and the claims broken on purpose."""

import math
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from harness.data.config import DigitsConfig
from harness.data.dataset import load_dataset
from harness.data.images import ArrayImages
from harness.measure import quality as quality_module
from harness.measure import quality_reference
from harness.measure.quality import quality, samples_for, wilson_interval
from harness.measure.quality_classifier import balanced_choice
from harness.measure.quality_config import QualityConfig
from harness.measure.quality_controls import CONTROLS, control_images
from harness.measure.quality_reference import load_reference
from harness.models.extractor_config import EfficientNetLite0Extractor, InceptionV3Extractor
from harness.records.errors import UserError
from harness.records.plain import from_plain
from harness.records.quantity import Measured, Unavailable

CONFIG = QualityConfig(samples=128, reference_samples=128, kid_subset_size=64, kid_subsets=10)


@pytest.fixture(scope="module")
def digits():
    return load_dataset(DigitsConfig())


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def reference(digits, cache):
    return load_reference(CONFIG, digits, cache=cache)


@pytest.fixture(scope="module")
def scores(digits, reference):
    return {name: quality(*control_images(name, digits, CONFIG, seed=0), reference) for name in CONTROLS}


def test_frechet_distance_is_its_formula(reference):
    """tr (S1 S2)^(1/2) is the nuclear norm of X1 X2^T for centred, scaled rows: an independent way to the same."""
    features = torch.randn(128, 1280, dtype=torch.float64).abs()
    fd = quality_module._fd(features, reference)
    first, second = ((x - x.mean(0)) / math.sqrt(len(x) - 1) for x in (features, reference.features))
    cross = torch.linalg.svdvals(first @ second.T).sum()
    mean = (features.mean(0) - reference.features.mean(0)).square().sum()
    expected = mean + first.square().sum() + second.square().sum() - 2 * cross
    assert fd.value == pytest.approx(expected.item(), rel=1e-4)


def test_kernel_distance_is_the_unbiased_estimate_over_all(reference):
    features = reference.features.flip(0) + 0.1
    x, y = features.numpy(), reference.features.numpy()
    n = len(x)
    kxx, kyy, kxy = ((a @ b.T / 1280 + 1) ** 3 for a, b in ((x, x), (y, y), (x, y)))
    off = ~np.eye(n, dtype=bool)
    expected = kxx[off].sum() / (n * (n - 1)) + kyy[off].sum() / (n * (n - 1)) - 2 * kxy.mean()
    kid = quality_module._kid(features, reference)
    assert kid.value == pytest.approx(expected, rel=1e-6)
    assert kid.low < kid.value < kid.high
    assert kid.spread == "standard deviation over 10 random subsets of 64"


def test_few_images_still_have_a_spread(reference):
    """Subsets of all images are one and the same: their deviation would be 0, as of a number known exactly."""
    kid = quality_module._kid(reference.features.flip(0)[:40] + 0.1, reference)
    assert kid.spread == "standard deviation over 10 random subsets of 20"
    assert kid.high - kid.low > 1e-3 * abs(kid.value)


def test_controls_rank_as_they_must(scores):
    for name in ("kid", "fd"):
        assert scores["floor"][name].value < scores["pixel_gaussian"][name].value < scores["noise"][name].value
    assert abs(scores["floor"]["kid"].value) < 0.2 < scores["pixel_gaussian"]["kid"].value
    assert scores["floor"]["class_agreement"].value > 0.9
    assert scores["noise"]["class_agreement"].low < 0.1 < scores["noise"]["class_agreement"].high


def test_shuffled_labels_are_recognised_at_chance(digits, reference):
    images, labels = control_images("floor", digits, CONFIG, seed=0)
    shuffled = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))]
    agreement = quality(images, shuffled, reference)["class_agreement"]
    assert agreement.low < 0.1 < agreement.high


def test_a_score_says_what_it_was_obtained_under(scores, digits):
    kid, fd, agreement = (scores["floor"][name] for name in ("kid", "fd", "class_agreement"))
    assert (kid.conditions["label"], fd.conditions["label"]) == ("KID-EffLite0@64, N=128", "FD-EffLite0@64, N=128")
    for score in (kid, fd):
        assert score.conditions["samples"] == score.conditions["reference_samples"] == 128
        assert score.conditions["reference"] == "held-out part"
        assert score.conditions["data_fingerprint"] == digits.fingerprint
        assert score.conditions["extractor"]["weights"] == "57934424"
    assert agreement.conditions["classifier_heldout_accuracy"] > 0.94
    assert agreement.conditions["chance"] == 0.1


def test_only_the_original_inception_is_called_fid(reference):
    inception = replace(reference, config=replace(CONFIG, extractor=InceptionV3Extractor()))
    assert quality_module._fd(reference.features, inception).conditions["label"] == "FID, N=128"
    at_96 = replace(reference, config=replace(CONFIG, extractor=EfficientNetLite0Extractor(resolution=96)))
    assert quality_module._fd(reference.features, at_96).conditions["label"] == "FD-EffLite0@96, N=128"


def test_scores_repeat_to_the_bit(digits, reference):
    images, labels = control_images("pixel_gaussian", digits, CONFIG, seed=3)
    assert quality(images, labels, reference) == quality(images, labels, reference)


def test_wrong_batches_are_refused(reference):
    labels = torch.zeros(4, dtype=torch.long)
    for images in (torch.rand(4, 1, 8, 8), torch.zeros(4, 3, 8, 8, dtype=torch.uint8)):
        with pytest.raises(ValueError, match="uint8 images"):
            quality(images, labels, reference)


# The cache of reference statistics


def altered(data, **changes):
    """The same data set with one pixel of one held-out image changed, and the fingerprint that it then has."""
    pixels = data.heldout.pixels.copy()
    pixels[:, :, 0, 0] ^= 255
    heldout = ArrayImages(pixels, data.heldout.labels)
    return replace(data, heldout=heldout, **{"fingerprint": "other", **changes})


def mean_of(config, data, cache):
    return load_reference(config, data, cache=cache).statistics["mu"]


@pytest.mark.parametrize("kind", ["references", "classifiers"])
def test_a_damaged_cache_is_one_sentence(digits, reference, cache, tmp_path, kind):
    shutil.copytree(cache, tmp_path / "cache")
    for path in (tmp_path / "cache" / kind).iterdir():
        path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(UserError, match=r"^the cache .*npz is damaged \(.*; remove it and run the same command again$"):
        load_reference(CONFIG, digits, cache=tmp_path / "cache")


def test_a_warm_cache_extracts_nothing_and_gives_the_same(digits, reference, cache, monkeypatch):
    monkeypatch.setattr(quality_reference, "part_features", lambda *_: pytest.fail("extracted again"))
    warm = load_reference(CONFIG, digits, cache=cache)
    assert warm.features.equal(reference.features)
    assert np.array_equal(warm.statistics["sigma"], reference.statistics["sigma"])


@pytest.mark.parametrize(
    "change",
    [
        {"reference": "train"},
        {"reference_samples": 100},
        {"extractor": EfficientNetLite0Extractor(resolution=32)},
    ],
)
def test_another_reference_is_never_the_cached_one(digits, reference, cache, tmp_path, change):
    config = replace(CONFIG, **change)
    shared, fresh = mean_of(config, digits, cache), mean_of(config, digits, tmp_path)
    assert np.array_equal(shared, fresh)
    assert not np.array_equal(shared, reference.statistics["mu"])


def test_other_content_is_never_the_cached_one(digits, reference, cache, tmp_path):
    assert np.array_equal(mean_of(CONFIG, altered(digits), cache), mean_of(CONFIG, altered(digits), tmp_path))


def test_with_the_key_broken_the_check_above_sees_the_stale_cache(digits, reference, cache, tmp_path, monkeypatch):
    monkeypatch.setattr(quality_reference, "reference_key", lambda *_: "constant")
    mean_of(CONFIG, digits, tmp_path / "shared")
    stale = mean_of(CONFIG, altered(digits), tmp_path / "shared")
    assert not np.array_equal(stale, mean_of(CONFIG, altered(digits), tmp_path / "fresh"))


# N, the classifier, settings


def test_n_shrinks_where_there_are_too_few_real_images_for_a_floor(digits):
    assert samples_for(QualityConfig(samples=512), digits) == 512
    assert samples_for(QualityConfig(samples=5000), digits) == 1285
    assert samples_for(QualityConfig(samples=5000, reference="train"), digits) == 512


def test_one_class_alone_cannot_be_told_apart(digits, cache):
    single = replace(digits, class_names=("digit",), fingerprint="single")
    reference = load_reference(CONFIG, single, cache=cache)
    images, labels = control_images("floor", digits, CONFIG, seed=0)
    assert isinstance(quality(images, labels, reference)["class_agreement"], Unavailable)


def two_classes(data, size: int):
    """Zeros and ones of the digits, resized by repetition."""

    def part(images):
        chosen = images.labels < 2
        pixels = images.pixels[chosen].repeat(size // 8, axis=2).repeat(size // 8, axis=3)
        return ArrayImages(np.repeat(pixels, 3, axis=1), images.labels[chosen])

    return replace(
        data, train=part(data.train), heldout=part(data.heldout), size=size, channels=3,
        class_names=("zero", "one"), fingerprint=f"two-{size}",
    )  # fmt: skip


@pytest.mark.parametrize(("size", "read_by"), [(16, "pixels"), (32, "extractor features")])
def test_two_classes_are_read_by_pixels_or_by_features(digits, cache, size, read_by):
    data = two_classes(digits, size)
    config = replace(CONFIG, samples=64, reference_samples=64, extractor=EfficientNetLite0Extractor(resolution=32))
    reference = load_reference(config, data, cache=cache)
    images, labels = control_images("floor", data, config, seed=0)
    agreement = quality(images, labels, reference)["class_agreement"]
    assert isinstance(agreement, Measured)
    assert read_by in agreement.conditions["classifier"]
    assert agreement.value > 0.95
    assert agreement.conditions["classifier_heldout_accuracy"] > 0.95


def test_a_balanced_choice_has_as_many_of_each_class():
    labels = np.array([0] * 50 + [1] * 30 + [2] * 5)
    assert np.bincount(labels[balanced_choice(labels, 30)]).tolist() == [10, 10, 5]
    assert np.array_equal(balanced_choice(labels, 30), balanced_choice(labels, 30))


def test_wilson_intervals_are_the_published_ones():
    """Newcombe 1998, Statistics in Medicine 17, Tab. I: 81 of 263, 15 of 148, 0 of 20, 1 of 29."""
    for successes, trials, low, high in (
        (81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718),
    ):  # fmt: skip
        assert wilson_interval(successes, trials) == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))


def test_settings_out_of_range_are_refused():
    with pytest.raises(UserError, match=r"quality\.samples"):
        from_plain(QualityConfig, {"samples": 1})
    with pytest.raises(UserError, match="efficientnet_lite0"):
        from_plain(QualityConfig, {"extractor": {"kind": "efficientnet"}})
