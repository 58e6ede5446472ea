"""A data configuration in, an `ImageData` out."""

import gzip
import hashlib
import io
import zlib
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.data.config import (
    DataConfig,
    DigitsConfig,
    EmojiConfig,
    FashionMnistConfig,
    ImageNetConfig,
    MetadataConfig,
    ParquetConfig,
    PreparedConfig,
)
from harness.data.decode import TRANSFORM, to_array
from harness.data.folder import load_folder
from harness.data.images import ArrayImages, ImageData
from harness.data.prepared import load_prepared
from harness.data.sources.emoji import load_emoji
from harness.data.sources.imagenet import load_imagenet
from harness.data.sources.metadata import load_metadata
from harness.data.sources.parquet import load_parquet
from harness.records.errors import UserError
from harness.records.plain import fingerprint
from harness.records.store import reading_cache, write_atomic

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
DIGITS_HELDOUT = 512  # of 1,797
CLOTHES = (
    "t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
)  # fmt: skip
DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")  # of the package dataset-fashion-mnist


def load_dataset(config: DataConfig, *, cache: Path | None = None) -> ImageData:
    """Read the data set; `cache` is a folder for what a first reading finds out (hashes, decoded pixels).

    Raises UserError for a folder that is missing, empty or not a folder of class folders.
    """
    if isinstance(config, DigitsConfig):
        return _from_arrays("digits", DIGITS, *_digits(cache))
    if isinstance(config, FashionMnistConfig):
        return _fashion_mnist(config)
    if isinstance(config, ImageNetConfig):
        return load_imagenet(config, cache)
    if isinstance(config, MetadataConfig):
        return load_metadata(config, cache)
    if isinstance(config, ParquetConfig):
        return load_parquet(config, cache)
    if isinstance(config, EmojiConfig):
        return load_emoji(config, cache)
    return load_prepared(config) if isinstance(config, PreparedConfig) else load_folder(config, cache)


def _digits(cache: Path | None) -> list[ArrayImages]:
    """Training and held-out images; from the cache where it has them, for loading scikit-learn takes 2 s a process."""
    path = None if cache is None else cache / "pixels" / f"digits-scikit-learn-{version('scikit-learn')}.npz"
    if path is not None and path.exists():
        with reading_cache(path), np.load(path) as kept:
            return [ArrayImages(kept[f"{part}_pixels"], kept[f"{part}_labels"]) for part in ("train", "heldout")]
    train, heldout = _split_digits()
    if path is not None:
        content = io.BytesIO()
        np.savez(
            content, train_pixels=train.pixels, train_labels=train.labels, heldout_pixels=heldout.pixels,
            heldout_labels=heldout.labels,
        )  # fmt: skip
        write_atomic(path, content.getvalue())
    return [train, heldout]


def _split_digits() -> tuple[ArrayImages, ArrayImages]:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    bunch = load_digits()
    pixels = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[:, None]  # 0..16 -> 0..255, (N, 1, 8, 8)
    labels = bunch.target.astype(np.int64)
    train, heldout = train_test_split(np.arange(len(labels)), test_size=DIGITS_HELDOUT, stratify=labels, random_state=0)
    train, heldout = np.sort(train), np.sort(heldout)
    return ArrayImages(pixels[train], labels[train]), ArrayImages(pixels[heldout], labels[heldout])


def _fashion_mnist(config: FashionMnistConfig) -> ImageData:
    folder = _fashion_folder(config)
    parts = []
    for prefix in ("train", "t10k"):
        pixels = _read_idx(folder / f"{prefix}-images-idx3-ubyte.gz", header=16, item=(28, 28))
        labels = _read_idx(folder / f"{prefix}-labels-idx1-ubyte.gz", header=8, item=()).astype(np.int64)
        parts.append(ArrayImages(_resized(pixels, config.size), labels))
    return _from_arrays("fashion_mnist", CLOTHES, *parts)


def _fashion_folder(config: FashionMnistConfig) -> Path:
    root = config.path or DEBIAN_FOLDER
    for folder in (root, root / "FashionMNIST" / "raw"):
        if (folder / "train-images-idx3-ubyte.gz").exists():
            return folder
    if config.download:
        return _download_fashion(root)
    raise UserError(
        f"Fashion-MNIST is not in {root}: install Debian's package dataset-fashion-mnist, give data.path=FOLDER, "
        "or let it be fetched with data.path=FOLDER data.download=true"
    )


def _download_fashion(root: Path) -> Path:
    from torchvision.datasets import FashionMNIST

    try:
        FashionMNIST(str(root), download=True)
    except (OSError, RuntimeError) as error:
        raise UserError(f"Fashion-MNIST could not be downloaded to {root} ({error}); check the network") from error
    return root / "FashionMNIST" / "raw"


def _read_idx(path: Path, *, header: int, item: tuple[int, ...]) -> NDArray[np.uint8]:
    """(N, *item): the bytes behind the header of a gzipped IDX file (yann.lecun.com/exdb/mnist)."""
    try:
        return np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8, offset=header).reshape(-1, *item)
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}); fetch Fashion-MNIST again") from error


def _resized(pixels: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """(N, 28, 28) -> (N, 1, size, size)."""
    from PIL import Image

    if pixels.shape[1] == size:
        return pixels[:, None]
    return np.stack([to_array(Image.fromarray(image), size, 1) for image in pixels])


def _from_arrays(kind: str, names: tuple[str, ...], train: ArrayImages, heldout: ArrayImages) -> ImageData:
    content = [hashlib.sha256(part.tobytes()).hexdigest() for part in (
        train.pixels, train.labels, heldout.pixels, heldout.labels,
    )]  # fmt: skip
    _, channels, size, _ = train.pixels.shape
    return ImageData(
        kind=kind, channels=channels, size=size, class_names=names, train=train, heldout=heldout,
        fingerprint=fingerprint([kind, names, TRANSFORM, [channels, size], content], schema="data-1"),
    )  # fmt: skip
