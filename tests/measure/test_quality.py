"""Scores: against arithmetic, against published behaviour, with their conditions; and the claims broken on purpose."""

import math
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from whole_images import control_images

from harness.data.config import DigitsConfig, ImageFolderConfig
from harness.data.dataset import load_dataset
from harness.data.images import ArrayImages, balanced_choice
from harness.diffusion.config import SamplingConfig
from harness.diffusion.labels import sample_labels
from harness.measure import quality as quality_module
from harness.measure import quality_reference
from harness.measure.quality import quality, samples_for
from harness.measure.quality_config import QualityConfig
from harness.measure.quality_controls import CONTROLS
from harness.measure.quality_reference import load_reference
from harness.models.extractor_config import EfficientNetLite0Extractor, InceptionV3Extractor
from harness.records.errors import UserError
from harness.records.plain import from_plain, to_plain
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
    return {name: quality(*control_images(name, digits, CONFIG, SamplingConfig()), reference) for name in CONTROLS}


def fd_of(features, reference):
    return quality_module.distance("fd", features, torch.zeros(len(features), dtype=torch.long), reference)


def test_frechet_distance_is_its_formula(reference):
    """tr (S1 S2)^(1/2) is the nuclear norm of X1 X2^T for centred, scaled rows."""
    features = torch.randn(128, 1280, dtype=torch.float64).abs()
    first, second = ((x - x.mean(0)) / math.sqrt(len(x) - 1) for x in (features, reference.features))
    cross = torch.linalg.svdvals(first @ second.T).sum()
    mean = (features.mean(0) - reference.features.mean(0)).square().sum()
    expected = mean + first.square().sum() + second.square().sum() - 2 * cross
    assert fd_of(features, reference).value == pytest.approx(expected.item(), rel=1e-7)


def test_controls_rank_as_they_must(scores):
    for name in ("kid", "fd"):
        assert scores["floor"][name].value < scores["pixel_gaussian"][name].value < scores["noise"][name].value
    assert abs(scores["floor"]["kid"].value) < 0.2 < scores["pixel_gaussian"]["kid"].value
    assert scores["floor"]["class_agreement"].value > 0.9
    assert scores["noise"]["class_agreement"].low < 0.1 < scores["noise"]["class_agreement"].high


def test_shuffled_labels_are_recognised_at_chance(digits, reference):
    images, labels = control_images("floor", digits, CONFIG, SamplingConfig())
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
    assert agreement.conditions["chance"] == pytest.approx(0.1, abs=0.02)


def test_only_the_original_inception_is_called_fid(reference):
    inception = replace(reference, config=replace(CONFIG, extractor=InceptionV3Extractor()))
    assert fd_of(reference.features, inception).conditions["label"] == "FID, N=128"
    at_96 = replace(reference, config=replace(CONFIG, extractor=EfficientNetLite0Extractor(resolution=96)))
    assert fd_of(reference.features, at_96).conditions["label"] == "FD-EffLite0@96, N=128"


def test_scores_repeat_to_the_bit(digits, reference):
    images, labels = control_images("pixel_gaussian", digits, CONFIG, SamplingConfig(seed=3))
    assert quality(images, labels, reference) == quality(images, labels, reference)


def test_wrong_batches_are_refused(reference):
    labels = torch.zeros(4, dtype=torch.long)
    for images in (torch.rand(4, 1, 8, 8), torch.zeros(4, 3, 8, 8, dtype=torch.uint8)):
        with pytest.raises(ValueError, match="uint8 images"):
            quality(images, labels, reference)


# Unequal classes


@pytest.fixture(scope="module")
def ten_to_one(digits):
    """Digits 0 to 4 against 8 and 9, 1000 to 100 in training; the held-out part is the reference, 270 to 27."""
    pixels, numbers = (np.concatenate([getattr(part, name) for part in (digits.train, digits.heldout)])
                       for name in ("pixels", "labels"))  # fmt: skip
    shuffled = np.random.RandomState(0).permutation(len(numbers))
    often, seldom = shuffled[numbers[shuffled] < 5], shuffled[numbers[shuffled] > 7]
    heldout = np.concatenate([often[:270], seldom[:27]])
    unseen = often[270:550], seldom[27:180]
    train = np.zeros((1100, 1, 8, 8), np.uint8)
    data = replace(
        digits, class_names=("often", "seldom"), fingerprint="ten to one",
        train=ArrayImages(train, np.repeat([0, 1], [1000, 100])),
        heldout=ArrayImages(pixels[heldout], np.repeat([0, 1], [270, 27])),
    )  # fmt: skip
    return data, [pixels[chosen] for chosen in unseen]


def drawn_by(rule, ten_to_one, cache, count=300):
    """KID of real pictures that no reference has, a perfect generator's, of the classes that the rule asks for."""
    data, unseen = ten_to_one
    reference = load_reference(replace(CONFIG, reference_samples=None, classifier_images=100), data, cache=cache)
    labels = rule(count, data.class_sizes)
    rows = [unseen[label][sum(labels[:at] == label)] for at, label in enumerate(labels)]
    features = reference.extractor.features(torch.from_numpy(np.stack(rows))).double()
    return quality_module.distance("kid", features, labels, reference)


def by_config(count, sizes):
    return sample_labels(count, sizes, SamplingConfig())


@pytest.mark.parametrize("count", [300, 64])  # 64: the proxy score of the first samples
def test_a_perfect_generator_of_unequal_classes_reaches_the_floor(ten_to_one, cache, count):
    kid = drawn_by(by_config, ten_to_one, cache, count)
    assert kid.low < 0 < kid.high
    assert kid.value < 0.1


def test_labels_that_go_round_punish_a_perfect_generator(ten_to_one, cache):
    kid = drawn_by(lambda count, sizes: torch.arange(count) % len(sizes), ten_to_one, cache)
    print(f"labelled i mod 2: KID {kid.value:.2f} ({kid.low:.2f} to {kid.high:.2f})")
    assert kid.low > 0.2


def test_chance_is_that_of_the_classes_asked_for(digits, reference):
    images, _ = control_images("floor", digits, CONFIG, SamplingConfig())
    classes = torch.zeros(len(images), dtype=torch.long)
    classes[:12] = 1
    agreement = quality(images, classes, reference)["class_agreement"].conditions
    assert agreement["chance_at_most"] == 116 / 128
    shuffled = [
        quality(images, classes[torch.randperm(128, generator=torch.Generator().manual_seed(seed))], reference)
        for seed in range(3)
    ]
    mean = np.mean([quantities["class_agreement"].value for quantities in shuffled])
    assert agreement["chance"] == pytest.approx(mean, abs=0.05)


def test_unequal_numbers_are_both_in_the_label(digits, reference):
    images, labels = control_images("floor", digits, replace(CONFIG, samples=240), SamplingConfig())
    quantities = quality(images, labels, reference)
    assert quantities["kid"].conditions["label"] == "KID-EffLite0@64, N=240 against 128"
    assert quantities["fd"].conditions["label"] == "FD-EffLite0@64, N=240 against 128"
    assert quantities["kid"].conditions["estimator"] == "unbiased, all 240 images with all 128 of the reference"


def test_a_score_says_what_its_interval_is_and_keeps_the_replicates(scores):
    for name in ("kid", "fd"):
        score = scores["floor"][name]
        count = len(score.replicates)
        assert 12 <= count <= 24
        assert score.spread == f"95%, sampling noise of 128 images (jackknife, {count} groups)"
        assert score.low < score.value < score.high
        assert from_plain(Measured, to_plain(score)) == score


def test_subsets_say_how_they_are_drawn(digits, reference):
    images, labels = control_images("floor", digits, replace(CONFIG, samples=240), SamplingConfig())
    over_subsets = replace(reference, config=replace(CONFIG, kid_full=False))
    kid = quality(images, labels, over_subsets)["kid"]
    assert kid.conditions["estimator"] == "unbiased, mean over 10 random subsets of 64 of 240 images and 64 of 128"
    whole = quality(images, labels, reference)["kid"]
    assert kid.value == pytest.approx(whole.value, abs=(whole.high - whole.low) / 2)
    assert kid.high - kid.low > whole.high - whole.low  # 10 subsets of 64 know less than all 240


def written(root, pictures, name_of):
    """A folder of two classes, whose files are called by their number: `name_of(number)`."""
    for number, pixels in enumerate(pictures):
        path = root / ("low" if number % 2 else "high") / f"{name_of(number):04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[0]).save(path)
    return load_dataset(ImageFolderConfig(path=root, size=8))


@pytest.mark.parametrize("kid_full", [True, False])
def test_renamed_files_have_the_same_scores_where_more_are_held_out_than_the_reference_takes(
    digits, cache, tmp_path, kid_full
):
    """Chosen by place in the names' order the same 64 pictures have KIDs that differ from the second digit on."""
    names = np.random.RandomState(3).permutation(320)
    data = [
        written(tmp_path / str(way), digits.train.pixels[:320], name_of)
        for way, name_of in enumerate((int, lambda number: int(names[number])))
    ]
    config = replace(CONFIG, metrics=("kid", "fd"), reference_samples=24, kid_full=kid_full, kid_subset_size=12)
    assert len(data[0].heldout) > 24
    images, labels = torch.from_numpy(digits.heldout.pixels[:64]), torch.arange(64) % 2
    one, other = (quality(images, labels, load_reference(config, each, cache=cache)) for each in data)
    assert data[0].identity == data[1].identity
    assert one == other
    gaussian = [control_images("pixel_gaussian", each, config, SamplingConfig())[0] for each in data]
    assert torch.equal(*gaussian)


# The cache of reference statistics


def altered(data, **changes):
    """The same data set with one pixel of one held-out image changed, and the fingerprint that it then has."""
    pixels = data.heldout.pixels.copy()
    pixels[:, :, 0, 0] ^= 255
    heldout = ArrayImages(pixels, data.heldout.labels)
    return replace(data, heldout=heldout, **{"fingerprint": "other", **changes})


def mean_of(config, data, cache):
    return load_reference(config, data, cache=cache).gaussian.mean


@pytest.mark.parametrize("kind", ["references", "classifiers"])
def test_a_damaged_cache_is_one_sentence(digits, reference, cache, tmp_path, kind):
    shutil.copytree(cache, tmp_path / "cache")
    for path in (tmp_path / "cache" / kind).iterdir():
        path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(UserError, match=r"^the cache .*npz is damaged \(.*; remove it and run the same command again$"):
        load_reference(CONFIG, digits, cache=tmp_path / "cache")


def test_a_warm_cache_extracts_nothing_and_gives_the_same(digits, reference, cache, monkeypatch):
    monkeypatch.setattr(quality_reference, "extracted", lambda *_: pytest.fail("extracted again"))
    warm = load_reference(CONFIG, digits, cache=cache)
    assert warm.features.equal(reference.features)
    assert warm.gaussian.root.equal(reference.gaussian.root)


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
    assert not np.array_equal(shared, reference.gaussian.mean)


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
    images, labels = control_images("floor", digits, CONFIG, SamplingConfig())
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
    images, labels = control_images("floor", data, config, SamplingConfig())
    agreement = quality(images, labels, reference)["class_agreement"]
    assert isinstance(agreement, Measured)
    assert read_by in agreement.conditions["classifier"]
    assert agreement.value > 0.95
    assert agreement.conditions["classifier_heldout_accuracy"] > 0.95


def test_a_balanced_choice_has_as_many_of_each_class():
    labels = np.array([0] * 50 + [1] * 30 + [2] * 5)
    assert np.bincount(labels[balanced_choice(labels, 30)]).tolist() == [10, 10, 5]
    assert np.array_equal(balanced_choice(labels, 30), balanced_choice(labels, 30))


def test_settings_out_of_range_are_refused():
    with pytest.raises(UserError, match=r"quality\.samples"):
        from_plain(QualityConfig, {"samples": 1})
    with pytest.raises(UserError, match="efficientnet_lite0"):
        from_plain(QualityConfig, {"extractor": {"kind": "efficientnet"}})
