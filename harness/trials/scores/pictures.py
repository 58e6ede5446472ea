"""Pictures at hand to score: a folder of images, or the `arr_0` of an .npz.

Beside a data set, a folder's images are found, decoded and brought to its size as its own are, and an .npz has pictures
of that size. Against a reference at a path, both are taken as they are.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.data.config import DataConfig, ImageFolderConfig
from harness.data.crop import square
from harness.data.decode import UnreadableError, decode, peak_of, to_array
from harness.data.folder import check_bits
from harness.data.images import ImageData, unreadable_line
from harness.data.index import by_threads
from harness.data.listing import BESIDE, Skipped, left_out, list_images, prompt_name
from harness.data.pictures import Pictures, npz_labels, open_folder, open_npz
from harness.measure.quality_reference import NO_DATA
from harness.records.errors import UserError
from harness.records.terminal import escaped
from harness.trials.scores.source import Source

CHUNK = 512  # pictures read at a time
NOT_BY_CLASS = "the images do not lie in folders named after the classes"
NO_LABELS = "the file holds no labels, as arr_1 or labels"


def pictures_source(path: Path, data: ImageData | None, config: DataConfig) -> Source:
    """Those at `path`; without `data` as they are. UserError for what cannot be read, and for pictures or labels that
    are not the data's."""
    if data is None:
        pictures = open_folder(path) if path.is_dir() else open_npz(path)
        labels = None if path.is_dir() else npz_labels(path, pictures.count)
        return _source(path, pictures, labels, NO_DATA)
    return read_images(path, data, config) if path.is_dir() else _npz_of(path, data)


def _source(path: Path, pictures: Pictures, labels: Tensor | None, unlabelled: str) -> Source:
    return Source(
        title=str(path),
        identity={"pictures": pictures.digest},
        read=pictures.read,
        count=pictures.count,
        shape=pictures.shape,
        labels=labels,
        unlabelled=unlabelled,
        micro_batch=CHUNK,
        conditions={},
    )


def _npz_of(path: Path, data: ImageData) -> Source:
    """The pictures of an .npz, which are of the data's size, and their labels, which are of its classes."""
    pictures = open_npz(path)
    if pictures.shape != (data.channels, data.size, data.size):
        channels, height, width = pictures.shape
        raise UserError(
            f"{path} has pictures of {width} x {height} with {channels} channels, and the data's are {data.size} x "
            f"{data.size} with {data.channels}; give the data that they are to be compared with"
        )
    labels, classes = npz_labels(path, pictures.count), len(data.class_names)
    if labels is not None and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise UserError(f"{path} has labels from {labels.min()} to {labels.max()}, and the data has {classes} classes")
    return _source(path, pictures, labels, NO_LABELS)


def read_images(folder: Path, data: ImageData, config: DataConfig) -> Source:
    """All images below the folder, found and decoded as a data set's are.

    In the order of their content: a score's subsets and groups must not depend on how files are named.
    """
    listing = list_images(folder)
    names, beside = _scored(listing.images, data)
    bits = config.bits if isinstance(config, ImageFolderConfig) else None
    with by_threads(lambda name: _read(folder, name, data, bits), names, f"reading {folder}") as results:
        read = dict(zip(names, results, strict=True))
    unreadable = [f"{escaped(name)}: {result}" for name, result in read.items() if isinstance(result, str)]
    images = {name: result for name, result in read.items() if not isinstance(result, str)}
    remarks = [*unreadable_line(unreadable), *(f"left out: {each}" for each in [*listing.skipped, *beside])]
    if len(images) < 2:
        why = f" ({'; '.join(remarks)})" if remarks else ""
        raise UserError(
            f"{folder} has {len(images)} readable image{'s' * (len(images) != 1)}{why}, and a score needs at least 2; "
            "give another folder"
        )
    peaks = [peak for _, _, peak in images.values()]
    check_bits(folder, peaks, bits, can_be_given=isinstance(config, ImageFolderConfig) and data.crop == "centre")
    classes = _classes([_owner(name) for name in images], data)
    if isinstance(classes, str):
        remarks.append(f"no classes are known, since {NOT_BY_CLASS}: {classes}")
    labels = [0] * len(images) if isinstance(classes, str) else classes
    ordered = sorted(zip(images.values(), labels, strict=True), key=lambda image: (image[0][0], image[1]))
    pixels = torch.from_numpy(np.stack([pixels for (_, pixels, _), _ in ordered]))
    held = _Held(pixels, None if isinstance(classes, str) else torch.tensor([label for _, label in ordered]))
    return replace(_source(folder, held, held.labels, NOT_BY_CLASS), remarks=tuple(remarks))


@dataclass(frozen=True, slots=True)
class _Held:
    """Pictures in memory; `harness.data.pictures.Pictures`."""

    images: Tensor  # uint8 (N, C, H, W)
    labels: Tensor | None  # (N,)

    @property
    def count(self) -> int:
        return len(self.images)

    @property
    def shape(self) -> tuple[int, int, int]:
        channels, height, width = self.images.shape[1:]
        return channels, height, width

    @property
    def digest(self) -> str:
        of_labels = b"" if self.labels is None else self.labels.numpy().tobytes()
        return hashlib.sha256(self.images.numpy().tobytes() + of_labels).hexdigest()[:16]

    def read(self, indices: range) -> Tensor:
        return self.images[indices.start : indices.stop]


def _read(folder: Path, name: str, data: ImageData, bits: int | None) -> tuple[bytes, NDArray[np.uint8], int] | str:
    """The pixels' hash, the pixels, and the largest value of a file of 16 bits; or why there are none."""
    try:
        content = (folder / name).read_bytes()
        if data.crop != "centre":
            pixels = square(content, data.crop, data.size, data.channels)
            return hashlib.sha256(pixels.tobytes()).digest(), pixels, peak_of(content)
        decoded = decode(content, bits)
    except (UnreadableError, OSError) as error:
        return str(getattr(error, "strerror", None) or error)
    pixels = to_array(decoded.image, data.size, data.channels)
    return hashlib.sha256(pixels.tobytes()).digest(), pixels, decoded.peak


def _owner(name: str) -> str:
    """The class folder that an image lies in, as in a data set; "" for one that lies in none."""
    return name.split("/")[0] if "/" in name else ""


def _scored(images: list[str], data: ImageData) -> tuple[list[str], list[Skipped]]:
    """The images to score, and what is left out: beside folders of classes, as in a data set, what lies in none."""
    inside = [name for name in images if _owner(name)]
    if not inside or isinstance(_classes([_owner(name) for name in inside], data), str):
        return images, []
    return inside, left_out(images, set(inside), BESIDE)


def _classes(owners: Sequence[str], data: ImageData) -> list[int] | str:
    """The classes of images by their folders, which are called as the data's folders or as its classes; or which is
    not."""
    by_folder = {folder: index for index, folder in enumerate(data.class_folders)}
    by_name = {name: index for index, name in enumerate(data.class_names)}
    if all(owner in by_folder for owner in owners):
        return [by_folder[owner] for owner in owners]
    if all(prompt_name(owner) in by_name for owner in owners):
        return [by_name[prompt_name(owner)] for owner in owners]
    others = [owner for owner in owners if owner not in by_folder and prompt_name(owner) not in by_name]
    if not others:
        return "some are called as the data's folders, others as its classes"
    if not (other := min(others)):
        return "some lie in no folder"
    few = f"{', '.join(data.class_names[:5])}{', ...' if len(data.class_names) > 5 else ''}"
    return f"'{escaped(other)}' is none of {few}"
