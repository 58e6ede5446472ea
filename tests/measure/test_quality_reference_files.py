"""References in the field's formats: what is read, what it is compared with, what is refused in one sentence."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from harness.data.config import DigitsConfig
from harness.data.dataset import load_dataset
from harness.data.images import stack
from harness.measure import quality_reference
from harness.measure.quality import Scorer, distances_of_statistics, quality, samples_for
from harness.measure.quality_config import QualityConfig
from harness.measure.quality_distances import Gaussian, frechet_distance_of_gaussians
from harness.measure.quality_moments import Moments, merged
from harness.measure.quality_reference import load_reference, load_statistics
from harness.measure.quality_reference_files import ABOUT, open_given, quality_identity, write_statistics
from harness.models.extractor_config import EfficientNetLite0Extractor, InceptionV3Extractor
from harness.records.errors import UserError
from harness.records.quantity import Measured, Unavailable

from .test_quality_scorer import ALL, tiny_extractor

WIDTH, SPATIAL = 12, 7  # of the tiny extractor, in place of 2048 and 2023
INCEPTION = QualityConfig(extractor=InceptionV3Extractor(), metrics=ALL, samples=60, kid_full=False, kid_subset_size=20)

OF_TRAINING = replace(INCEPTION, reference="train", reference_samples=None)


@pytest.fixture(scope="module")
def digits():
    return load_dataset(DigitsConfig())


@pytest.fixture(scope="module")
def samples(digits):
    return stack(digits.heldout, np.arange(60)), torch.from_numpy(digits.heldout.labels[:60])


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setattr(quality_reference, "load_extractor", tiny_extractor)


def gaussian(width: int, seed: int = 0) -> dict[str, np.ndarray]:
    rows = np.random.default_rng(seed).normal(size=(200, width))
    return {"mu": rows.mean(0), "sigma": np.cov(rows, rowvar=False)}


def adm(path: Path, pictures: np.ndarray | None = None, **changed: np.ndarray) -> Path:
    """A file as guided-diffusion's references are: statistics, spatial ones, and pictures (N, H, W, C)."""
    arrays = gaussian(WIDTH) | {f"{name}_s": of for name, of in gaussian(SPATIAL, 1).items()}
    if pictures is not None:
        arrays["arr_0"] = pictures
    np.savez(path, **{name: of for name, of in (arrays | changed).items() if of is not None})
    return path


def at(path: Path, config: QualityConfig = INCEPTION, build="adm") -> QualityConfig:
    return replace(config, reference="path", reference_path=path, reference_build=build)


def nhwc(images: torch.Tensor) -> np.ndarray:
    return images.permute(0, 2, 3, 1).numpy()


# What is read


def test_adms_statistics_serve_fid_and_sfid_its_pictures_the_rest(digits, samples, tiny, tmp_path):
    real = stack(digits.train, np.arange(40))
    path = adm(tmp_path / "VIRTUAL.npz", nhwc(real))
    reference = load_reference(at(path), digits, cache=tmp_path)
    scores = quality(*samples, reference)
    layers = tiny_extractor().layers(samples[0])
    for name, key, layer in (("fd", "", "features"), ("sfd", "_s", "spatial")):
        stored = np.load(path)
        to = Gaussian.of_statistics(*(torch.from_numpy(stored[f"{each}{key}"]) for each in ("mu", "sigma")))
        of = Moments.of(layers[layer])
        expected = frechet_distance_of_gaussians(of.mean, of.covariance, to)
        assert scores[name].value == pytest.approx(expected, rel=1e-6), name
    assert isinstance(scores["kid"], Unavailable)
    recomputed = load_reference(OF_TRAINING, only(digits, 40), cache=tmp_path)
    assert scores["precision"].value == quality(*samples, recomputed)["precision"].value
    fid = scores["fd"].conditions
    assert fid["label"] == f"FID, N=60 against VIRTUAL.npz ({open_given(path, INCEPTION, 'adm').digest})"
    assert fid["reference_build"] == "guided-diffusion's TensorFlow graph"
    assert scores["precision"].conditions["label"] == "precision, N=60 against 40"


def only(digits, count: int):
    few = replace(digits.train, pixels=digits.train.pixels[:count], labels=digits.train.labels[:count])
    return replace(digits, train=few, fingerprint="few")


def test_stored_statistics_are_never_mixed_with_recomputed_ones(digits, tiny, tmp_path):
    """The same pictures beside other statistics: FD goes by the statistics."""
    real = nhwc(stack(digits.train, np.arange(40)))
    one, two = (load_reference(at(adm(tmp_path / f"{seed}.npz", real, **gaussian(WIDTH, seed))), digits, cache=tmp_path)
                for seed in (1, 2))  # fmt: skip
    assert not one.gaussian.mean.equal(two.gaussian.mean)
    assert one.manifold.equal(two.manifold)


def test_pictures_alone_are_a_reference_like_the_part_that_they_are(digits, samples, tiny, tmp_path):
    """As .npz and as a folder; their order says nothing."""
    real, few = nhwc(stack(digits.train, np.arange(40))), only(digits, 40)
    np.savez(tmp_path / "pictures.npz", arr_0=real)
    (tmp_path / "folder" / "deep").mkdir(parents=True)
    for number, pixels in enumerate(real):
        Image.fromarray(pixels[..., 0]).save(tmp_path / "folder" / "deep" / f"{(7 * number) % 40}.png")
    part = quality(*samples, load_reference(OF_TRAINING, few, cache=tmp_path))
    for place in ("pictures.npz", "folder"):
        reference = load_reference(at(tmp_path / place, build=None), few, cache=tmp_path / "other")
        scores = quality(*samples, reference)
        for name in ("fd", "sfd", "precision", "recall"):
            assert scores[name].value == pytest.approx(part[name].value, rel=1e-6), (place, name)
        assert scores["fd"].conditions["label"] == "FID, N=60 against 40"
        assert scores["fd"].conditions["reference_build"] == "recomputed"


@pytest.mark.parametrize(("name", "build"), [
    ("cifar10_legacy_tensorflow_train_32.npz", "clean_fid_legacy_tensorflow"), ("stats.npz", "torch_fidelity"),
    ("cifar-inception-v3-compat-stat-fid-2048.pt", "torch_fidelity"),
])  # fmt: skip
def test_statistics_of_other_programs(digits, samples, tiny, tmp_path, name, build):
    arrays = gaussian(WIDTH)
    if name.endswith(".pt"):
        torch.save(arrays | {"mu": arrays["mu"].astype(np.float32)}, tmp_path / name)
    else:
        np.savez(tmp_path / name, **arrays)
    scores = quality(*samples, load_reference(at(tmp_path / name, build=build), digits, cache=tmp_path))
    assert isinstance(scores["fd"], Measured)
    for absent in ("kid", "sfd", "precision", "recall"):
        assert isinstance(scores[absent], Unavailable), absent


def written(tmp_path, samples, config, digits) -> Path:
    """Statistics of the samples, as `harness evaluate --to` writes them."""
    scorer = Scorer(load_reference(replace(config, reference="train"), digits, cache=tmp_path), samples[1])
    scorer.add(samples[0], range(len(samples[0])))
    features, spatial = merged(scorer.feature_moments()), scorer.spatial_moments()
    write_statistics(tmp_path / "own.npz", config, features, spatial, {"images": "x", "shape": [1, 8, 8]})
    return tmp_path / "own.npz"


def test_own_statistics_say_what_they_are_of_and_are_at_distance_0_from_themselves(digits, samples, tiny, tmp_path):
    path = written(tmp_path, samples, INCEPTION, digits)
    config = at(path, build=None)
    scores = quality(*samples, load_reference(config, digits, cache=tmp_path))
    assert scores["fd"].conditions["label"] == "FID, N=60"  # against as many
    assert scores["fd"].value == pytest.approx(0, abs=1e-5)
    assert scores["sfd"].value == pytest.approx(0, abs=1e-5)
    both = distances_of_statistics(open_given(path, config, None), load_statistics(config, None, cache=tmp_path))
    assert both["fd"].value == pytest.approx(0, abs=1e-6)
    assert both["fd"].conditions["label"] == "FID, N=60"
    assert isinstance(both["kid"], Unavailable)
    other = replace(config, extractor=EfficientNetLite0Extractor(), metrics=("fd",))
    with pytest.raises(UserError, match="statistics of other features: kind inception_v3, not efficientnet_lite0, "):
        open_given(path, other, None)


# What is refused


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"sigma": None}, "has no sigma, and statistics need mu and sigma"),
        ({"sigma_s": None}, "has no sigma_s, and statistics need mu_s and sigma_s"),
        ({"sigma": np.eye(3)}, r"must be \(D,\) and \(D, D\), not \(12,\) and \(3, 3\)"),
        ({"mu": np.zeros((2, 12))}, r"must be \(D,\) and \(D, D\), not \(2, 12\)"),
        ({"mu": np.full(12, np.nan)}, "not finite numbers throughout"),
        ({"sigma": np.triu(np.ones((12, 12)))}, "is no covariance"),
        ({"sigma": -np.eye(12)}, "is no covariance"),
        ({"sigma": np.array([{}] * 12)}, "is damaged"),
        ({"arr_0": np.zeros((4, 3, 8, 8), np.uint8)}, r"must be uint8 \(N, height, width, 1 or 3\)"),
        ({"arr_0": np.zeros((4, 8, 8, 3), np.float32)}, r"must be uint8 \(N, height, width, 1 or 3\)"),
        ({ABOUT: np.array("{}")}, "does not say rightly what its statistics are of"),
    ],
)
def test_damaged_statistics_are_one_sentence(tmp_path, changed, sentence):
    path = adm(tmp_path / "bad.npz", **changed)
    with pytest.raises(UserError, match=sentence) as refused:
        open_given(path, INCEPTION, "adm")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("suffix", [".npz", ".pt"])
def test_a_file_cut_off_is_one_sentence(tmp_path, suffix):
    path = adm(tmp_path / "whole.npz")
    (tmp_path / f"cut{suffix}").write_bytes(path.read_bytes()[:-300])
    with pytest.raises(UserError, match="can be read") as refused:
        open_given(tmp_path / f"cut{suffix}", INCEPTION, "adm")
    assert "\n" not in str(refused.value)


def test_arrays_cut_off_in_the_file_are_noticed_when_they_are_read(digits, tmp_path):
    np.savez(tmp_path / "whole.npz", arr_0=nhwc(stack(digits.train, np.arange(200))))
    content = bytearray((tmp_path / "whole.npz").read_bytes())
    content[9000:9100] = bytes(100)
    (tmp_path / "changed.npz").write_bytes(content)
    pictures = open_given(tmp_path / "changed.npz", INCEPTION, None).pictures
    with pytest.raises(UserError, match="is damaged in its arr_0"):
        pictures.read(range(200))


def test_a_reference_is_never_compared_with_in_silence(digits, tmp_path):
    stats = adm(tmp_path / "a.npz")
    for config, build, sentence in (
        (INCEPTION, None, "name its maker, quality.reference_build=adm|torch_fidelity|clean_fid_legacy_tensorflow"),
        (QualityConfig(), "adm", "and quality.extractor is EffLite0@64"),
    ):
        with pytest.raises(UserError) as refused:
            open_given(stats, config, build)
        assert sentence in str(refused.value)
    clean = adm(tmp_path / "cifar10_clean_train_32.npz")
    with pytest.raises(UserError, match="of clean-fid's mode clean by its name, which resizes otherwise"):
        open_given(clean, INCEPTION, "clean_fid_legacy_tensorflow")
    np.savez(tmp_path / "pictures.npz", arr_0=np.zeros((4, 8, 8, 1), np.uint8))
    with pytest.raises(UserError, match="holds pictures alone; leave it out"):
        open_given(tmp_path / "pictures.npz", INCEPTION, "adm")
    np.savez(tmp_path / "labels.npz", arr_1=np.zeros(4))
    with pytest.raises(UserError, match="holds arr_1, and needs mu and sigma, or pictures as arr_0"):
        open_given(tmp_path / "labels.npz", INCEPTION, None)
    with pytest.raises(UserError, match="is neither a file nor a folder"):
        open_given(tmp_path / "nothing.npz", INCEPTION, None)


def test_another_width_of_features_is_refused(digits, samples, tiny, tmp_path):
    path = adm(tmp_path / "a.npz", **gaussian(9))
    with pytest.raises(UserError, match="has features of 9 values, and the extractor's are of 12"):
        quality(*samples, load_reference(at(path), digits, cache=tmp_path))


def test_pictures_of_another_size_are_refused_before_anything_is_trained(digits, tmp_path):
    np.savez(tmp_path / "large.npz", arr_0=np.zeros((4, 16, 16, 3), np.uint8))
    with pytest.raises(UserError, match="is of pictures of 16 x 16, and the images to score are 8 x 8"):
        quality_identity(at(tmp_path / "large.npz", build=None), digits.size)


def test_identity_is_content_not_place(tmp_path):
    one, two = adm(tmp_path / "a.npz"), adm(tmp_path / "b.npz", **gaussian(WIDTH, 5))
    (tmp_path / "copy.npz").write_bytes(one.read_bytes())
    first, copied, other = (quality_identity(at(path), 8) for path in (one, tmp_path / "copy.npz", two))
    assert first == copied
    assert first["reference_content"] != other["reference_content"]
    assert "reference_content" not in quality_identity(INCEPTION, 8)


def test_a_published_protocol_keeps_its_n(digits):
    config = QualityConfig(samples=50_000, reference="train")
    assert samples_for(config, digits) == 512
    assert samples_for(replace(config, fewer_for_floor=False), digits) == 50_000


def test_what_is_written_has_the_fields_form(digits, samples, tiny, tmp_path):
    with np.load(written(tmp_path, samples, INCEPTION, digits), allow_pickle=False) as stored:
        assert set(stored) == {"mu", "sigma", "mu_s", "sigma_s", ABOUT}
        features = tiny_extractor().features(samples[0]).double().numpy()
        assert np.allclose(stored["sigma"], np.cov(features, rowvar=False), rtol=1e-12, atol=1e-14)
        assert json.loads(str(stored[ABOUT]))["samples"] == 60


def test_own_statistics_of_another_size_are_refused(digits, samples, tiny, tmp_path):
    config = at(written(tmp_path, samples, INCEPTION, digits), build=None)
    assert quality_identity(config, 8)
    with pytest.raises(UserError, match=r"own\.npz is of pictures of 8 x 8, and the images to score are 16 x 16"):
        quality_identity(config, 16)
