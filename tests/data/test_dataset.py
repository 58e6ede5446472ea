"""The embedded and the packaged data sets."""

import gzip
import re
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader

from harness.data.config import DigitsConfig, FashionMnistConfig, ImageFolderConfig
from harness.data.dataset import load_dataset
from harness.data.images import stack
from harness.records.errors import UserError


def test_digits_are_split_stratified_without_overlap_and_scaled_to_bytes():
    data = load_dataset(DigitsConfig())
    assert (len(data.train), len(data.heldout)) == (1285, 512)
    assert (data.channels, data.size, data.class_names[3]) == (1, 8, "three")
    both = np.concatenate([data.train.pixels, data.heldout.pixels])
    original = load_digits()
    expected = np.rint(original.images * 255 / 16).astype(np.uint8)
    assert sorted(image.tobytes() for image in both) == sorted(image.tobytes() for image in expected)
    share = np.bincount(data.heldout.labels) / np.bincount(original.target)
    assert np.all(np.abs(share - 512 / 1797) < 0.01)


def test_digits_from_the_cache_are_the_same_and_need_no_scikit_learn(tmp_path, monkeypatch):
    uncached, first = load_dataset(DigitsConfig()), load_dataset(DigitsConfig(), cache=tmp_path)
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)  # importing it is an error
    again = load_dataset(DigitsConfig(), cache=tmp_path)
    assert again.fingerprint == first.fingerprint == uncached.fingerprint
    (kept,) = (tmp_path / "pixels").iterdir()
    kept.write_bytes(b"no numbers")
    with pytest.raises(UserError, match=f"the cache {re.escape(str(kept))} is damaged"):
        load_dataset(DigitsConfig(), cache=tmp_path)


def test_the_same_digits_every_time():
    first, second = load_dataset(DigitsConfig()), load_dataset(DigitsConfig())
    assert first.fingerprint == second.fingerprint
    assert np.array_equal(first.train.pixels, second.train.pixels)


def test_a_data_set_is_map_style_and_feeds_a_data_loader():
    data = load_dataset(DigitsConfig())
    images, labels = next(iter(DataLoader(data.train, batch_size=7)))
    assert images.shape == (7, 1, 8, 8)
    assert images.equal(stack(data.train, range(7)))
    assert labels.tolist() == data.train.labels[:7].tolist()


def write_fashion(folder: Path, count: int = 6) -> np.ndarray:
    """Four IDX files as Fashion-MNIST has them, with `count` images a part."""
    pixels = np.random.default_rng(0).integers(0, 256, (2, count, 28, 28), dtype=np.uint8)
    folder.mkdir(parents=True)
    for part, prefix in enumerate(("train", "t10k")):
        header = struct.pack(">IIII", 2051, count, 28, 28)
        (folder / f"{prefix}-images-idx3-ubyte.gz").write_bytes(gzip.compress(header + pixels[part].tobytes()))
        labels = bytes(index % 10 for index in range(count))
        header = struct.pack(">II", 2049, count)
        (folder / f"{prefix}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(header + labels))
    return pixels


@pytest.mark.parametrize("place", ["", "FashionMNIST/raw"])
def test_fashion_mnist_is_read_from_its_files_in_either_layout(tmp_path, place):
    pixels = write_fashion(tmp_path / "root" / place)
    data = load_dataset(FashionMnistConfig(path=tmp_path / "root"))
    assert np.array_equal(data.train.pixels[:, 0], pixels[0])
    assert np.array_equal(data.heldout.pixels[:, 0], pixels[1])
    assert data.train.labels.tolist() == [0, 1, 2, 3, 4, 5]
    assert load_dataset(FashionMnistConfig(path=tmp_path / "root", size=32)).train[0][0].shape == (1, 32, 32)


def test_fashion_mnist_is_never_fetched_unasked(tmp_path, monkeypatch):
    monkeypatch.setattr("harness.data.dataset._download_fashion", lambda *_: pytest.fail("downloaded"))
    with pytest.raises(UserError, match=r"data\.download=true"):
        load_dataset(FashionMnistConfig(path=tmp_path))


def test_a_cut_off_fashion_mnist_file_is_one_sentence(tmp_path):
    write_fashion(tmp_path / "root")
    path = tmp_path / "root" / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UserError, match="fetch Fashion-MNIST again"):
        load_dataset(FashionMnistConfig(path=tmp_path / "root"))


@pytest.mark.parametrize("damage", ["flipped bits", "too short", "half an image"])
def test_a_damaged_fashion_mnist_file_is_one_sentence(tmp_path, damage):
    write_fashion(tmp_path / "root")
    path = tmp_path / "root" / "train-images-idx3-ubyte.gz"
    whole = path.read_bytes()
    path.write_bytes({
        "flipped bits": whole[:10] + b"\xff" * 40 + whole[50:],
        "too short": gzip.compress(b"1234"),
        "half an image": gzip.compress(gzip.decompress(whole)[:-400]),
    }[damage])  # fmt: skip
    with pytest.raises(UserError, match=r"train-images-idx3-ubyte\.gz cannot be read .*; fetch Fashion-MNIST again"):
        load_dataset(FashionMnistConfig(path=tmp_path / "root"))


@pytest.mark.parametrize(
    ("make", "rule"),
    [
        (lambda: ImageFolderConfig(size=4), "8 to 4096"),
        (lambda: ImageFolderConfig(heldout=1.0), "between 0 and 1"),
        (lambda: FashionMnistConfig(download=True), r"data\.path=FOLDER"),
        (lambda: load_dataset(ImageFolderConfig()), r"data\.path=FOLDER"),
    ],
)
def test_a_wrong_setting_is_refused_with_its_rule(make, rule):
    with pytest.raises(UserError, match=rule):
        make()
