"""Retrieval and what is memorised: by hand, and on pictures."""

import math

import numpy as np
import pytest
import torch

from harness.data.images import ArrayImages, ImageData
from harness.measure import quality_captions
from harness.measure.quality import Scorer, quality
from harness.measure.quality_captions import Gallery, memorised, ranks, retrieval, retrieval_rank, training_distance
from harness.measure.quality_config import OF_CAPTIONS, QualityConfig
from harness.measure.quality_reference import load_reference
from harness.records.errors import UserError
from harness.records.quantities import QUANTITIES
from harness.records.quantity import Unavailable


def at(*degrees: float) -> torch.Tensor:
    """Unit vectors of the plane, by their angles."""
    angles = torch.tensor(degrees).deg2rad()
    return torch.stack([angles.cos(), angles.sin()], dim=1)


# Captions 0 (two pictures), 2 and 5 in training; 3 held out
GALLERY = Gallery(at(0, 100, 40, 80), torch.tensor([0, 0, 2, 5]), at(60), torch.tensor([3]))


def chord(degrees: float) -> float:
    return 2 * math.sin(math.radians(degrees) / 2)


def test_a_captions_place_is_by_its_nearest_picture():
    """60 degrees: 3 is there, then 2 and 5 at 20 degrees, then 0 at 40; how long a feature is changes nothing."""
    places, known = ranks(9 * at(60, 60, 60, 95, 41), torch.tensor([3, 0, 4, 0, 2]), GALLERY)
    assert places[known].tolist() == [1, 4, 1, 1]
    assert known.tolist() == [True, True, False, True, True]


def test_captions_that_are_equally_near_share_the_better_place():
    gallery = Gallery(at(10, 10, 10), torch.tensor([0, 1, 2]), at(90), torch.tensor([3]))
    assert ranks(at(0, 0, 0), torch.tensor([0, 1, 3]), gallery)[0].tolist() == [1, 1, 4]


def test_retrieval_counts_those_whose_caption_is_first(monkeypatch):
    features, asked = at(60, 60, 95, 41), torch.tensor([3, 0, 0, 2])
    for chunk in (512, 3):
        monkeypatch.setattr(quality_captions, "CHUNK", chunk)
        share = retrieval(features, asked, GALLERY)
        assert share.value == 0.75
        assert share.conditions["chance"] == 1 / 4
        assert share.conditions["label"] == "retrieval, N=4 of 4 captions"
        assert 0 <= share.low < 0.75 < share.high <= 1
        rank = retrieval_rank(features, asked, GALLERY)
        assert (rank.value, rank.conditions["chance"]) == (1, 2.5)
    assert retrieval_rank(at(60, 60), torch.tensor([3, 0]), GALLERY).value == 2.5


def test_captions_that_have_no_picture_here_are_no_samples():
    some = retrieval(at(60, 60), torch.tensor([3, 4]), GALLERY)
    assert (some.value, some.conditions["samples"]) == (1, 1)
    assert isinstance(retrieval(at(60), torch.tensor([4]), GALLERY), Unavailable)
    assert isinstance(retrieval_rank(at(60), torch.tensor([9]), GALLERY), Unavailable)


def memorised_of(*degrees: float, gallery: Gallery = GALLERY):
    return memorised(at(*degrees), torch.zeros(len(degrees), dtype=torch.long), gallery)


def test_memorised_is_what_is_as_near_to_training_as_few_held_out_pictures_are():
    """The held-out one is 20 degrees from training, the samples 10, 10 and 30."""
    found = memorised_of(10, 90, 130)
    assert found.value == pytest.approx(2 / 3)
    assert found.conditions["distance"] == pytest.approx(chord(20), rel=1e-3)
    assert found.conditions["label"] == "memorised, N=3 against 1 held out"
    assert 0 <= found.low < 2 / 3 < found.high <= 1
    assert not QUANTITIES["memorised"].more_is_better
    again = Gallery(GALLERY.train, GALLERY.train_captions, at(40), torch.tensor([3]))
    assert "5% of the held-out pictures are training pictures too" in memorised_of(10, gallery=again).reason


def test_the_distance_to_training_is_the_median_and_stands_beside_that_of_new_pictures():
    """The samples are 0, 10 and 30 degrees from training, the held-out one 20."""
    said = training_distance(at(40, 90, 130), torch.zeros(3, dtype=torch.long), GALLERY)
    assert said.value == pytest.approx(chord(10), rel=1e-3)
    assert said.conditions["heldout_distance"] == pytest.approx(chord(20), rel=1e-3)


def test_copies_are_memorised_and_of_new_real_pictures_a_twentieth():
    """Held out are 0.1 to 10 degrees from training, and new ones of the same kind lie between them."""
    apart = torch.arange(1, 101) / 10
    gallery = Gallery(at(0, 90), torch.tensor([0, 1]), at(*apart), torch.arange(100))
    assert memorised_of(0, 90, 90, gallery=gallery).value == 1
    real = memorised_of(*apart - 0.05, gallery=gallery)
    assert (real.value, real.conditions["heldout_share"]) == (0.05, 0.05)
    assert memorised_of(-40, 200, 45, gallery=gallery).value == 0, "nonsense"


# Of pictures


def noisy(colours: np.ndarray, seed: int) -> np.ndarray:
    """(K, 3, 16, 16): a plain colour a caption, and a pattern of its own."""
    random = np.random.RandomState(seed)
    noise = random.randint(-20, 20, (len(colours), 3, 16, 16))
    return np.clip(colours + noise, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def data():
    """40 captions, a picture each: 30 in training, 10 held out."""
    colours = np.random.RandomState(0).randint(0, 256, (40, 3, 4, 4)).repeat(4, 2).repeat(4, 3)
    pixels, labels = noisy(colours, 1), np.arange(40)
    return ImageData(
        kind="colours", channels=3, size=16, class_names=tuple(f"number {i}" for i in labels), captions=True,
        train=ArrayImages(pixels[:30], labels[:30]), heldout=ArrayImages(pixels[30:], labels[30:]), fingerprint="0",
    )  # fmt: skip


CONFIG = QualityConfig(samples=10).of_captions


@pytest.fixture(scope="module")
def reference(data, tmp_path_factory):
    return load_reference(CONFIG, data, cache=tmp_path_factory.mktemp("cache"))


def test_the_metrics_of_captions_take_class_agreements_place():
    assert CONFIG.metrics == ("kid", "fd", *OF_CAPTIONS)


def test_what_shows_the_caption_is_found_and_what_was_trained_on_is_noticed(data, reference):
    asked = torch.from_numpy(data.heldout.labels)
    new = quality(torch.from_numpy(noisy(data.heldout.pixels.astype(int), 2)), asked, reference)
    assert new["retrieval"].value == 1
    assert new["memorised"].low < new["memorised"].conditions["heldout_share"] < new["memorised"].high
    copied = quality(torch.from_numpy(data.train.pixels[:10]), asked, reference)
    assert (copied["retrieval"].value, copied["memorised"].value) == (0, 1)
    assert copied["training_distance"].value < 0.01 < new["training_distance"].value
    assert set(new) == {*CONFIG.metrics, "training_distance"}
    assert copied["retrieval"].conditions["data_fingerprint"] == "0"
    assert copied["retrieval_rank"].value > 2
    noise = torch.from_numpy(np.random.RandomState(3).randint(0, 256, (10, 3, 16, 16)).astype(np.uint8))
    assert quality(noise, asked, reference)["memorised"].value == 0


def test_they_are_the_same_of_parts(data, reference):
    images, labels = torch.from_numpy(data.heldout.pixels), torch.from_numpy(data.heldout.labels)
    scorer = Scorer(reference, labels)
    for part in (range(4, 10), range(4)):
        scorer.add(images[part.start : part.stop], part)
    whole, parts = quality(images, labels, reference), scorer.quantities()
    for name in OF_CAPTIONS:
        assert parts[name].value == pytest.approx(whole[name].value, abs=1e-3)


def test_classes_are_not_read_by_captions_nor_captions_by_a_classifier(data, reference, tmp_path):
    with pytest.raises(UserError, match=r"metrics has retrieval, which is of captions, and data=digits has classes"):
        CONFIG.check_data("digits", captions=False)
    asked = QualityConfig(samples=10, metrics=("class_agreement",))
    unread = load_reference(asked, data, cache=tmp_path)
    scores = quality(torch.from_numpy(data.heldout.pixels), torch.from_numpy(data.heldout.labels), unread)
    assert "the data set has captions" in scores["class_agreement"].reason
