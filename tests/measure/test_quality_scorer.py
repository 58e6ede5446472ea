"""Scores of images that come in parts, and the scores beside the distances, by torch-fidelity's numbers."""

import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch_fidelity
from torch_fidelity.metric_isc import KEY_METRIC_ISC_MEAN, KEY_METRIC_ISC_STD, isc_features_to_metric

from harness.data.config import DigitsConfig
from harness.data.dataset import load_dataset
from harness.data.images import stack
from harness.measure import quality as quality_module
from harness.measure import quality_fidelity, quality_reference
from harness.measure.quality import Scorer, distance, quality
from harness.measure.quality_config import METRICS, OF_CAPTIONS, QualityConfig
from harness.measure.quality_fidelity import InceptionScore, precision_and_recall
from harness.measure.quality_reference import load_reference
from harness.models.extractor_config import DinoV2Extractor, EfficientNetLite0Extractor, InceptionV3Extractor
from harness.models.feature_extractor import REGISTERED_NAME, FeatureExtractor
from harness.records.errors import UserError
from harness.records.plain import from_plain, identity
from harness.records.quantity import Measured, Unavailable

ALL = tuple(name for name in METRICS if name not in OF_CAPTIONS)
CONFIG = QualityConfig(
    samples=210, reference="train", reference_samples=300, metrics=ALL, extractor=InceptionV3Extractor(),
    kid_full=False, kid_subset_size=50, kid_subsets=5,
)  # fmt: skip


class Tiny(torch.nn.Module):
    """Random layers of an 8 x 8 picture, in Inception's place: 12 features, 7 spatial ones, 5 logits."""

    def __init__(self) -> None:
        super().__init__()
        random = torch.Generator().manual_seed(0)
        self.weights = [torch.randn(64, width, generator=random) / 500 for width in (12, 7, 5)]

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple((images[:, 0, :8, :8].flatten(1).float() @ weight).sin() * 3 for weight in self.weights)


def tiny_extractor(*_: object) -> FeatureExtractor:
    return FeatureExtractor(Tiny(), torch.device("cpu"), ("features", "spatial", "logits"))


@pytest.fixture(scope="module")
def digits():
    return load_dataset(DigitsConfig())


@pytest.fixture(scope="module")
def batch(digits):
    chosen = np.arange(210)
    return stack(digits.heldout, chosen), torch.from_numpy(digits.heldout.labels[chosen])


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setattr(quality_reference, "load_extractor", tiny_extractor)


@pytest.fixture
def reference(digits, cache, tiny):
    return load_reference(CONFIG, digits, cache=cache)


@pytest.fixture
def streaming(monkeypatch):
    """As beyond `WHOLE` images: nothing is kept but what a metric needs."""
    for module in (quality_module, quality_reference):
        monkeypatch.setattr(module, "WHOLE", 10)


def in_parts(reference, batch, cut: int, order=sorted):
    """The parts are cut at multiples of the extractor's batch, as sampling cuts its own."""
    images, labels = batch
    scorer = Scorer(reference, labels)
    for start in order(range(0, len(images), cut)):
        stop = min(start + cut, len(images))
        scorer.add(images[start:stop], range(start, stop))
    return scorer.quantities()


def numbers(scores):
    measured = {name: score for name, score in scores.items() if isinstance(score, Measured)}
    return {name: [score.value, *score.replicates] for name, score in measured.items()}


def test_what_was_scored_before_is_scored_alike(digits, batch, tmp_path):
    """The default scores are of all features in float64 at once, to the bit."""
    config = QualityConfig(extractor=EfficientNetLite0Extractor(resolution=32))
    reference = load_reference(config, digits, cache=tmp_path)
    images, labels = batch
    scores = quality(images, labels, reference)
    assert tuple(scores) == ("kid", "fd", "class_agreement")
    features = reference.extractor.features(images).double()
    for name in ("kid", "fd"):
        assert scores[name] == distance(name, features, labels, reference)
    assert "metrics" not in identity(config)


@pytest.mark.parametrize("order", [sorted, reversed])
def test_parts_and_their_order_change_nothing(reference, batch, order):
    whole, parts = quality(*batch, reference), in_parts(reference, batch, 64, order)
    for name, values in numbers(whole).items():
        assert numbers(parts)[name] == pytest.approx(values, rel=1e-12, abs=1e-12), name


def test_parts_change_nothing_where_sums_stream(reference, batch, streaming):
    expected = numbers(quality(*batch, reference))
    for order in (sorted, reversed):
        parts = numbers(in_parts(reference, batch, 64, order))
        for name, values in expected.items():
            assert parts[name] == pytest.approx(values, rel=1e-12, abs=1e-12), name
    for cut in (1, 33, 210):  # other matrix shapes in the extractor: other roundings of float32
        parts = numbers(in_parts(reference, batch, cut))
        for name, values in expected.items():
            assert parts[name] == pytest.approx(values, rel=1e-6, abs=1e-6), name


def test_batches_change_nothing_in_a_real_extractor(digits, batch, tmp_path):
    """Other shapes of its matrices: other roundings of float32. (At its floor, where FD is a small difference of large
    traces, they are 1.4e-6 of it.)"""
    metrics = ("fd", "inception_score", "precision", "recall")
    config = replace(CONFIG, metrics=metrics, extractor=EfficientNetLite0Extractor(resolution=32))
    real, far = load_reference(config, digits, cache=tmp_path), (255 - batch[0], batch[1])
    expected = numbers(quality(*far, real))
    for cut in (1, 17):
        parts = numbers(in_parts(real, far, cut))
        for name, values in expected.items():
            assert parts[name] == pytest.approx(values, rel=1e-6), name


def test_streamed_scores_are_those_of_features(reference, batch, monkeypatch):
    whole = numbers(quality(*batch, reference))
    monkeypatch.setattr(quality_module, "WHOLE", 10)
    streamed = numbers(quality(*batch, reference))
    assert set(whole) == set(ALL)
    for name, values in whole.items():
        assert streamed[name] == pytest.approx(values, rel=1e-9, abs=1e-12), name


def test_memory_does_not_grow_with_the_images(digits, reference, batch, streaming):
    """Of FD, FD at infinity and the Inception Score: what is kept is as large for 100 images as for 200."""
    config = replace(CONFIG, metrics=("fd", "fd_infinity", "inception_score"))
    sizes = []
    for count in (100, 200):
        scorer = Scorer(replace(reference, config=config), torch.zeros(count))
        for start in range(0, count, 50):
            scorer.add(batch[0][start : start + 50], range(start, start + 50))
        assert scorer.features is None
        assert scorer.moments is not None
        assert scorer.inception is not None
        sums = (scorer.moments.count, scorer.moments.mean, scorer.moments.scatter)
        sizes.append(sum(each.nbytes for each in (*sums, scorer.inception.classes, scorer.inception.certain)))
    assert sizes[0] == sizes[1]


def test_images_are_counted_once_and_all(reference, batch):
    images, labels = batch
    scorer = Scorer(reference, labels)
    scorer.add(images[:64], range(64))
    with pytest.raises(ValueError, match="146 were not added"):
        scorer.quantities()
    with pytest.raises(ValueError, match="added before"):
        scorer.add(images[:64], range(64))


def test_a_reference_is_computed_by_one_and_waited_for_by_others(digits, tmp_path, tiny, monkeypatch, capsys):
    calls, extracted = [], quality_reference.extracted

    def slow(*arguments):
        calls.append(arguments)
        time.sleep(1.0)
        return extracted(*arguments)

    monkeypatch.setattr(quality_reference, "extracted", slow)
    config = replace(CONFIG, metrics=("fd",))
    threads = [
        threading.Thread(target=load_reference, args=(config, digits), kwargs={"cache": tmp_path}) for _ in "123"
    ]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(calls) == 1
    assert "which computes features of the reference images" in capsys.readouterr().err


def test_a_large_reference_keeps_some_features_and_sums_all(digits, batch, tmp_path, tiny, streaming):
    config = replace(CONFIG, reference_kept=40)
    large = load_reference(config, digits, cache=tmp_path)
    assert large.features.shape == (40, 12)
    scores = quality(*batch, large)
    assert scores["kid"].conditions["estimator"].endswith("40 of 210 images and 40 of 40")
    assert scores["precision"].conditions["label"] == "precision, N=210 against 40"
    assert scores["fd"].conditions["label"] == "FID, N=210 against 300"
    again = load_reference(config, digits, cache=tmp_path)  # from the cache
    assert again.gaussian.root.equal(large.gaussian.root)


def test_the_sums_of_a_large_reference_are_those_of_its_features(digits, reference, tmp_path, streaming):
    large = load_reference(replace(CONFIG, reference_kept=40), digits, cache=tmp_path)
    assert torch.allclose(large.gaussian.mean, reference.gaussian.mean, rtol=1e-12)
    covariances = [one.gaussian.root @ one.gaussian.root.T for one in (large, reference)]
    assert (covariances[0] - covariances[1]).abs().max() < 1e-9 * covariances[1].abs().max()


# Against torch-fidelity


class Uint8(torch.utils.data.Dataset):
    def __init__(self, images: torch.Tensor) -> None:
        self.images = images.expand(-1, 3, -1, -1).contiguous()

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.images[index]


def test_all_scores_are_torch_fidelitys_on_the_same_pictures(digits, tmp_path):
    metrics = tuple(name for name in ALL if name != "sfd")
    config = QualityConfig(
        reference="train", reference_samples=None, metrics=metrics, kid_full=False, kid_subset_size=40, kid_subsets=10,
        extractor=EfficientNetLite0Extractor(resolution=64),
    )  # fmt: skip
    images, real = stack(digits.heldout, np.arange(80)), stack(digits.train, np.arange(80))
    images[:60] = 255 - images[:60]  # far apart: of 80 pictures torch-fidelity's own distance has 1e-3 of rounding
    small = replace(
        digits, train=replace(digits.train, pixels=digits.train.pixels[:80], labels=digits.train.labels[:80])
    )
    scores = quality(images, torch.zeros(80), load_reference(config, small, cache=tmp_path))
    theirs = torch_fidelity.calculate_metrics(
        input1=Uint8(images), input2=Uint8(real), feature_extractor=REGISTERED_NAME, fid=True, kid=True, isc=True,
        prc=True, kid_subset_size=40, kid_subsets=10, isc_splits=1, samples_shuffle=False, cuda=False, cache=False,
        verbose=False, batch_size=64, save_cpu_ram=True,
    )  # fmt: skip
    for name, key in (
        ("fd", "frechet_inception_distance"), ("kid", "kernel_inception_distance_mean"),
        ("inception_score", "inception_score_mean"), ("precision", "precision"), ("recall", "recall"),
    ):  # fmt: skip
        assert scores[name].value == pytest.approx(theirs[key], rel=1e-6), name


@pytest.mark.parametrize("count", [12, 20, 23, 7])
def test_inception_score_is_torch_fidelitys_in_splits(count, monkeypatch):
    monkeypatch.setattr(quality_fidelity, "SPLIT", 10)
    logits = torch.randn(count, 9, generator=torch.Generator().manual_seed(0)) * 3
    score = InceptionScore(count, 9)
    for start in range(0, count, 5):
        score.add(logits[start : start + 5], range(start, min(count, start + 5)))
    theirs = isc_features_to_metric(logits, splits=max(1, count // 10), shuffle=False)
    assert score.scores().mean() == pytest.approx(theirs[KEY_METRIC_ISC_MEAN], rel=1e-12)
    assert score.scores().std() == pytest.approx(theirs[KEY_METRIC_ISC_STD], rel=1e-9, abs=1e-12)


def test_inception_score_of_what_is_known_in_closed_form():
    """Sure of one class each, all classes alike: as many as there are classes. Sure of nothing: 1."""
    sure, unsure = InceptionScore(40, 8), InceptionScore(40, 8)
    sure.add(1000.0 * torch.eye(8).repeat(5, 1), range(40))
    unsure.add(torch.zeros(40, 8), range(40))
    assert sure.scores() == pytest.approx([8.0])
    assert unsure.scores() == pytest.approx([1.0])


def test_precision_and_recall_are_their_definition():
    """Kynkaanniemi et al. 2019, eq. 1 and 2, by every pair."""
    random = torch.Generator().manual_seed(0)
    generated, real = (torch.randn(count, 3, generator=random, dtype=torch.float64) for count in (60, 50))

    def covered(points, by):
        radii = [sorted(float((one - other).norm()) for other in by)[3] for one in by]  # [0] is itself
        inside = [any(float((p - c).norm()) <= r for c, r in zip(by, radii, strict=True)) for p in points]
        return np.mean(inside)

    assert precision_and_recall(generated, real) == pytest.approx((covered(generated, real), covered(real, generated)))


def test_far_from_the_real_ones_precision_is_0_and_of_one_mode_recall_is_low():
    real = torch.randn(200, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert precision_and_recall(real + 100, real) == (0.0, 0.0)
    precision, recall = precision_and_recall(0.05 * real.flip(0), real)
    assert precision == 1.0
    assert recall < 0.3


# What they are called, and what is refused


def test_only_inceptions_have_the_published_names(reference, batch):
    scores = quality(*batch, reference)
    against = "N=210 against 300"
    assert [scores[name].conditions["label"] for name in ALL if name != "class_agreement"] == [
        f"KID, {against}", f"FID, {against}", f"FID-infinity, {against}", f"sFID, {against}", "Inception Score, N=210",
        f"precision, {against}", f"recall, {against}",
    ]  # fmt: skip
    metrics = tuple(name for name in ALL if name != "sfd")
    other = replace(reference, config=replace(CONFIG, metrics=metrics, extractor=EfficientNetLite0Extractor()))
    labels = [score.conditions["label"] for score in quality(*batch, other).values()]
    assert [label for label in labels if "EffLite0@64" not in label] == ["class agreement, N=210"]
    assert labels[1] == "FD-EffLite0@64, N=210 against 300"


def test_too_few_images_for_infinity_say_how_many_are_enough(reference, batch):
    images, labels = batch
    score = quality(images[:40], labels[:40], reference)["fd_infinity"]
    assert isinstance(score, Unavailable)
    assert score.reason.endswith("quality.samples from about 48 are enough")


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"metrics": ["fid"]}, "unknown score in quality.metrics:"),
        ({"metrics": []}, "at least one"),
        ({"metrics": ["kid", "kid"]}, "different scores"),
        (
            {"metrics": ["sfd"]},
            "which is of spatial, and the extractor efficientnet_lite0 gives features, logits alone",
        ),
        ({"reference": "path"}, "give both, reference=path and reference_path=FILE, or neither"),
        ({"reference_path": "x.npz"}, "give both, reference=path and reference_path=FILE, or neither"),
        ({"reference_build": "adm"}, "is of a file of statistics, and quality.reference is heldout"),
        ({"extractor": {"kind": "dinov2", "resolution": 225}}, "a multiple of 14"),
        (
            {"extractor": {"kind": "dinov2"}, "metrics": ["inception_score"]},
            "the extractor dinov2 gives features alone",
        ),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings, sentence):
    with pytest.raises(UserError) as refused:
        from_plain(QualityConfig, settings)
    assert sentence in str(refused.value)


def test_a_default_changes_no_identity_and_another_value_does():
    plain = identity(QualityConfig())
    for changed in (
        QualityConfig(metrics=("kid", "fd")), QualityConfig(fewer_for_floor=False), QualityConfig(reference_kept=9),
        QualityConfig(extractor=DinoV2Extractor(resolution=28)),
    ):  # fmt: skip
        assert identity(changed) != plain
    assert not {"metrics", "fewer_for_floor", "reference_path", "reference_build", "reference_kept"} & set(plain)
