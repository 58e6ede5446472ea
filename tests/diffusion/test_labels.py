"""Labels: as often as in the data, in every prefix, for any number of samples; i mod K, their old rule, is refuted."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.diffusion import config
from harness.diffusion.config import SamplingConfig
from harness.diffusion.labels import LABELS, sample_labels
from harness.diffusion.sampling import sample_noise
from harness.records.errors import UserError

IMAGENET_LIKE = (1300,) * 895 + tuple(range(732, 1257, 5))


def labels(count: int, images: Sequence[int], rule: str = "proportional", seed: int = 0) -> np.ndarray:
    config = SamplingConfig(labels=rule, seed=seed)  # type: ignore[arg-type]
    return sample_labels(count, images, config, heldout=images).numpy()


def test_every_rule_that_settings_allow_is_there() -> None:
    assert set(LABELS) == set(config.LABELS)


def furthest_from_share(drawn: np.ndarray, images: Sequence[int]) -> float:
    """The largest |count - n p_k| over all prefixes n and classes k."""
    counts = np.cumsum(np.eye(len(images))[drawn], axis=0)
    return float(np.abs(counts - np.outer(np.arange(1, len(drawn) + 1), images) / sum(images)).max())


@given(st.lists(st.integers(0, 40), min_size=1, max_size=12).filter(sum))
def test_every_prefix_has_each_class_within_one_of_its_share(images: list[int]) -> None:
    assert furthest_from_share(labels(3 * sum(images), images), images) < 1


def test_the_rule_before_is_far_from_the_share() -> None:
    assert furthest_from_share(np.arange(300) % 2, (900, 100)) > 100


def test_all_of_the_training_images_have_the_training_frequencies() -> None:
    images = (900, 100, 0, 7)
    assert tuple(np.bincount(labels(sum(images), images), minlength=4)) == images


@given(st.lists(st.integers(1, 40), min_size=1, max_size=12))
def test_a_prefix_holds_every_class_as_soon_as_each_has_a_share_of_one(images: list[int]) -> None:
    prefix = -(-sum(images) // min(images))
    assert set(labels(prefix, images)) == set(range(len(images)))


def test_a_prefix_of_ten_to_one_classes_holds_both() -> None:
    for count in range(10, 200):
        assert np.bincount(labels(count, (1000, 100)), minlength=2)[1] in (count // 11, count // 11 + 1)


def test_fewer_samples_than_classes_are_spread_over_all_of_them() -> None:
    drawn = labels(512, (50,) * 1000)
    assert len(set(drawn)) == 512
    assert np.bincount(drawn // 250).min() > 100  # i mod K has 250, 250, 12 and none of the four quarters


def test_labels_do_not_depend_on_how_many_are_drawn() -> None:
    for rule in LABELS:
        assert np.array_equal(labels(512, (30, 20, 5), rule)[:64], labels(64, (30, 20, 5), rule))


def test_fifty_thousand_of_a_thousand_classes_are_quick_and_within_one_of_the_share() -> None:
    drawn = labels(50_000, IMAGENET_LIKE)
    share = np.array(IMAGENET_LIKE) / sum(IMAGENET_LIKE) * 50_000
    assert np.abs(np.bincount(drawn) - share).max() < 1


def test_balanced_has_all_classes_alike_whatever_the_data() -> None:
    for count in (7, 64, 512):
        counts = np.bincount(labels(count, (900, 90, 9), "balanced"), minlength=3)
        assert counts.max() - counts.min() <= 1


def test_random_labels_are_a_function_of_seed_and_index_with_the_frequencies_of_the_data() -> None:
    drawn = labels(4000, (900, 100, 0), "random", seed=1)
    share = np.bincount(drawn, minlength=3) / 4000
    assert share == pytest.approx([0.9, 0.1, 0], abs=4 * np.sqrt(0.09 / 4000))
    assert not np.array_equal(drawn, labels(4000, (900, 100, 0), "random", seed=2))
    noise = sample_noise(1, range(4000), (1,)).flatten().numpy()
    assert abs(np.corrcoef(drawn, noise)[0, 1]) < 0.05  # the same key, another stream


def test_the_seed_changes_random_labels_only() -> None:
    for rule in ("proportional", "balanced"):
        assert np.array_equal(labels(50, (3, 2), rule, seed=0), labels(50, (3, 2), rule, seed=5))


@given(st.lists(st.integers(0, 3), min_size=2, max_size=12).filter(sum))
def test_captions_are_asked_for_as_often_as_they_are_held_out_in_every_prefix(heldout: list[int]) -> None:
    config, train = SamplingConfig(labels="heldout"), [5 * (not each) for each in heldout]
    drawn = sample_labels(3 * sum(heldout), train, config, heldout=heldout).numpy()
    assert furthest_from_share(drawn, heldout) < 1
    assert np.array_equal(drawn, labels(3 * sum(heldout), heldout))


def test_captions_of_held_out_images_need_held_out_images() -> None:
    with pytest.raises(UserError, match=r"labels=heldout asks for what held-out images show, and no data is named"):
        sample_labels(4, (1, 1), SamplingConfig(labels="heldout"))


def test_labels_can_be_changed_without_changing_the_next_ones() -> None:
    config = SamplingConfig()
    first = sample_labels(10, (1, 1), config)
    kept = first.clone()
    first.zero_()
    assert torch.equal(sample_labels(10, (1, 1), config), kept)


def test_no_images_and_unknown_rules_are_refused() -> None:
    with pytest.raises(UserError, match="there are none"):
        labels(4, (0, 0))
    with pytest.raises(UserError, match=r"unknown.*'uniform'.*proportional"):
        SamplingConfig(labels="uniform")  # type: ignore[arg-type]
