"""Any folder of class folders as a data set: class names, the split, pixels in memory or left in their files."""

import io
import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.data.cache import reading
from harness.data.config import ImageFolderConfig
from harness.data.decode import TRANSFORM
from harness.data.images import ArrayImages, FileImages, ImageData, Images
from harness.data.index import Entry, class_folders, index_folder
from harness.records.errors import UserError
from harness.records.plain import fingerprint
from harness.records.store import write_atomic

MIN_PER_CLASS = 4
IN_MEMORY_BYTES = 2**29  # decoded pixels up to here are kept as arrays, more stay in their files


def load_folder(config: ImageFolderConfig, cache: Path | None) -> ImageData:
    """The data set in `config.path`; what cannot be read is left out and listed in `.unreadable`."""
    if config.path is None:
        raise UserError("image_folder needs a folder of class folders; give data.path=FOLDER")
    folders = class_folders(config.path)
    entries = index_folder(config.path, folders, cache)
    readable = [entry for entry in entries if not entry.problem]
    held = np.array([is_heldout(entry.digest, config.heldout) for entry in readable], bool)
    _check_counts(config, folders, readable, held)
    names = class_names(folders, config.names)
    class_index = {folder: index for index, folder in enumerate(folders)}
    labels = np.array([class_index[entry.class_folder] for entry in readable], np.int64)
    channels = _channels(config, readable)
    images = FileImages(config.path, [entry.name for entry in readable], labels, config.size, channels)
    identity = _fingerprint(config, names, channels, readable)
    train, heldout = _split(images, held, identity, cache)
    return ImageData(
        kind=config.kind,
        channels=channels,
        size=config.size,
        class_names=names,
        train=train,
        heldout=heldout,
        fingerprint=identity,
        unreadable=tuple(f"{entry.name}: {entry.problem}" for entry in entries if entry.problem),
    )


def is_heldout(digest: str, fraction: float) -> bool:
    """A property of the file's bytes alone: no other file can change it, and a copy under another name is in the same
    part."""
    return int(digest[:8], 16) < fraction * 2**32


def class_names(folders: Sequence[str], names_file: Path | None) -> tuple[str, ...]:
    """The classes as a prompt says them: a folder's name with spaces for underscores, or what the names file says.

    A line of the file is a folder's name, a tab or spaces, and its name; of synonyms after commas the first counts.
    """
    if names_file is None:
        return tuple(folder.replace("_", " ").strip() for folder in folders)
    try:
        lines = [line.strip() for line in names_file.read_text().splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"data.names must be a text file of lines `FOLDER NAME`; {names_file}: {error}") from error
    pairs = (line.split("\t" if "\t" in line else None, 1) for line in lines)
    named = {pair[0]: pair[1].split(",")[0].strip() for pair in pairs if len(pair) == 2}
    for folder in folders:
        if folder not in named:
            raise UserError(f"{names_file} has no name for the class folder '{folder}'; add a line `{folder} NAME`")
    return tuple(named[folder] for folder in folders)


def _check_counts(
    config: ImageFolderConfig, folders: Sequence[str], readable: Sequence[Entry], held: NDArray[np.bool_]
) -> None:
    counts = Counter(entry.class_folder for entry in readable)
    trained = {entry.class_folder for entry, out in zip(readable, held, strict=True) if not out}
    for folder in folders:
        if counts[folder] < MIN_PER_CLASS:
            raise UserError(
                f"class folder '{folder}' in {config.path} has {counts[folder]} readable images, but a class needs "
                f"at least {MIN_PER_CLASS}; add images or move the folder away"
            )
        if folder not in trained:
            raise UserError(
                f"all {counts[folder]} images of class folder '{folder}' in {config.path} fall into the held-out "
                f"part; add images or lower data.heldout, now {config.heldout}"
            )
    if held.sum() < 2:
        raise UserError(
            f"{config.path} leaves {held.sum()} of {len(held)} images for the held-out part, which needs at least 2; "
            f"add images or raise data.heldout, now {config.heldout}"
        )


def _channels(config: ImageFolderConfig, readable: Sequence[Entry]) -> int:
    if config.color == "auto":
        return 1 if all(entry.grayscale for entry in readable) else 3
    return 1 if config.color == "grayscale" else 3


def _fingerprint(config: ImageFolderConfig, names: Sequence[str], channels: int, readable: Sequence[Entry]) -> str:
    transform = [TRANSFORM, channels, config.size, config.heldout]
    content = [[entry.name, entry.digest] for entry in readable]
    return fingerprint([config.kind, list(names), transform, content], schema="data-2")


def _split(images: FileImages, held: NDArray[np.bool_], identity: str, cache: Path | None) -> tuple[Images, Images]:
    parts = np.flatnonzero(~held), np.flatnonzero(held)
    if len(images) * images.channels * images.size**2 > IN_MEMORY_BYTES:
        train, heldout = (
            FileImages(
                images.root, [images.names[int(i)] for i in part], images.labels[part], images.size, images.channels
            )
            for part in parts
        )
        return train, heldout
    pixels = _pixels(images, identity, cache)
    return ArrayImages(pixels[parts[0]], images.labels[parts[0]]), ArrayImages(
        pixels[parts[1]], images.labels[parts[1]]
    )


def _pixels(images: FileImages, identity: str, cache: Path | None) -> NDArray[np.uint8]:
    """(N, C, H, W), decoded once and cached under the content's fingerprint."""
    path = cache / "pixels" / f"{identity}.npy" if cache is not None else None
    if path is not None and path.exists():
        with reading(path):
            stored: NDArray[np.uint8] = np.load(path)
            return stored
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        pixels = np.stack(list(pool.map(images.array, range(len(images)))))
    if path is not None:
        buffer = io.BytesIO()
        np.save(buffer, pixels)
        write_atomic(path, buffer.getvalue())
    return pixels
