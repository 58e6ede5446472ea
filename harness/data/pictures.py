"""Pictures to be scored as they are, by index: a folder of image files, or an .npz in the field's form.

    FOLDER      every image below it, as RGB, all square and of one size; nothing is resized or cropped
    FILE.npz    `arr_0` uint8 (N, H, W, C); labels as `arr_1` (guided-diffusion's) or `labels`, where there are any

Memory is constant in N: files are decoded, and the array inside the zip file read, when their indices are asked for.
"""

import functools
import hashlib
import io
import math
import warnings
import zipfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from harness.data.decode import UnreadableError, decode, extensions, peak_of, to_array
from harness.data.folder import check_bits
from harness.data.index import by_threads
from harness.data.listing import list_images
from harness.records.errors import UserError
from harness.records.store import known_sha256

ARRAY = "arr_0"
LABELS = ("arr_1", "labels")
DAMAGED = (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile)


class Pictures(Protocol):
    """uint8 pictures of one shape, read in a fixed order."""

    @property
    def count(self) -> int: ...

    @property
    def shape(self) -> tuple[int, int, int]: ...  # (C, H, W)

    @property
    def digest(self) -> str: ...  # of the content

    def read(self, indices: range) -> Tensor: ...  # uint8 (len(indices), C, H, W)


@dataclass(frozen=True, kw_only=True, slots=True)
class FolderPictures:
    """In the order of their files' content: a score's groups and subsets must not depend on names."""

    folder: Path
    names: tuple[str, ...]
    shape: tuple[int, int, int]
    digest: str

    @property
    def count(self) -> int:
        return len(self.names)

    def read(self, indices: range) -> Tensor:
        with ThreadPoolExecutor() as pool:
            return torch.from_numpy(np.stack(list(pool.map(self._read, self.names[indices.start : indices.stop]))))

    def _read(self, name: str) -> NDArray[np.uint8]:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return to_array(decode((self.folder / name).read_bytes()).image, self.shape[1], 3)
        except (OSError, UnreadableError) as error:
            raise UserError(
                f"{self.folder / name} cannot be read ({error}); remove it or put a whole one there"
            ) from None


@dataclass(kw_only=True, slots=True, eq=False)
class NpzPictures:
    """Read on from where the last indices ended, or from the beginning: a zip file has no way into its middle."""

    path: Path
    count: int
    shape: tuple[int, int, int]
    digest: str
    _member: Any = None  # the open array
    _next: int = 0  # the picture at which it stands

    def read(self, indices: range) -> Tensor:
        channels, height, width = self.shape
        try:
            self._stand_at(indices.start)
            content = self._member.read(len(indices) * height * width * channels)
            pixels = np.frombuffer(content, np.uint8).reshape(len(indices), height, width, channels)
        except DAMAGED as error:
            raise UserError(f"{self.path} is damaged in its {ARRAY} ({error}); fetch it again") from error
        self._next = indices.stop
        return torch.from_numpy(np.array(pixels.transpose(0, 3, 1, 2), order="C"))

    def _stand_at(self, index: int) -> None:
        if self._member is None or index < self._next:
            file = zipfile.ZipFile(self.path)
            self._member, self._next = file.open(f"{ARRAY}.npy"), 0
            _header(self._member)
        if index > self._next:
            self._member.seek((index - self._next) * math.prod(self.shape), io.SEEK_CUR)
            self._next = index


def open_folder(folder: Path) -> FolderPictures:
    """UserError for pictures that are not all square and of one size, for 16 bits that would be read as nearly black,
    and for what cannot be read."""
    names = list_images(folder).images
    if len(names) < 2:
        raise UserError(f"{folder} has {len(names)} images, and a score needs at least 2; give another folder")
    stamps = tuple(_stamp(folder / name) for name in names)
    inspected = _inspected_files(folder, tuple(names), stamps)
    first = inspected[names[0]][0]
    check_bits(folder, [peak for *_, peak in inspected.values()], None, can_be_given=False)
    for name, (size, *_) in inspected.items():
        if size != first or size[0] != size[1]:
            shown = f"{names[0]} is {first[0]} x {first[1]} and {name} {size[0]} x {size[1]}"
            raise UserError(
                f"pictures that are scored as they are must be square and of one size: in {folder}, {shown}; crop and "
                "resize them first"
            )
    ordered = sorted(names, key=lambda name: (inspected[name][1], name))
    digest = hashlib.sha256("\n".join(inspected[name][1] for name in ordered).encode()).hexdigest()[:16]
    return FolderPictures(folder=folder, names=tuple(ordered), shape=(3, first[1], first[0]), digest=digest)


def open_npz(path: Path) -> NpzPictures:
    """The pictures of `arr_0`; UserError where it is none, or not uint8 (N, H, W, 1 or 3)."""
    try:
        with zipfile.ZipFile(path) as file, file.open(f"{ARRAY}.npy") as member:
            shape, order, dtype = _header(member)
    except DAMAGED as error:
        raise UserError(f"{path} has no {ARRAY} that can be read ({error}); give an .npz of pictures") from error
    if dtype != np.uint8 or order or len(shape) != 4 or shape[3] not in (1, 3) or shape[0] < 2:
        raise UserError(
            f"{ARRAY} of {path} must be uint8 (N, height, width, 1 or 3) with N from 2, not {dtype} {shape}"
            f"{' in Fortran order' if order else ''}; write it so"
        )
    count, height, width, channels = shape
    return NpzPictures(path=path, count=count, shape=(channels, height, width), digest=npz_digest(path))


def npz_names(path: Path) -> frozenset[str]:
    """The arrays that an .npz holds; UserError for what is none."""
    try:
        with zipfile.ZipFile(path) as file:
            return frozenset(name.removesuffix(".npy") for name in file.namelist())
    except DAMAGED as error:
        raise UserError(f"{path} is no .npz that can be read ({error}); fetch it again") from error


def npz_arrays(path: Path, names: frozenset[str]) -> Mapping[str, NDArray[Any]]:
    """These arrays of an .npz, whole; never a pickle."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in sorted(names)}
    except DAMAGED as error:
        raise UserError(f"{path} is damaged ({error}); fetch it again") from error


def npz_labels(path: Path, count: int) -> Tensor | None:
    """(N,) the labels of its pictures; None where it has none."""
    held = [name for name in LABELS if name in npz_names(path)]
    if not held:
        return None
    labels = npz_arrays(path, frozenset(held[:1]))[held[0]]
    if labels.shape != (count,) or labels.dtype.kind not in "iu":
        raise UserError(
            f"{held[0]} of {path} must be {count} whole numbers, one a picture, not {labels.dtype} {labels.shape}"
        )
    return torch.from_numpy(labels.astype(np.int64))


def npz_digest(path: Path) -> str:
    """16 hex digits, of the file's content."""
    return known_sha256(path)[:16]


def _stamp(path: Path) -> tuple[int, int]:
    try:
        return path.stat().st_size, path.stat().st_mtime_ns
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); remove it or put a whole one there") from None


@functools.cache  # a study asks whenever its settings change; a file with another stamp is read again
def _inspected_files(
    folder: Path, names: tuple[str, ...], _stamps: tuple[tuple[int, int], ...]
) -> Mapping[str, tuple[tuple[int, int], str, int]]:
    extensions()  # registers HEIC
    with by_threads(lambda name: _inspected(folder / name), names, f"listing {folder}") as results:
        return dict(zip(names, results, strict=True))


def _inspected(path: Path) -> tuple[tuple[int, int], str, int]:
    """Width and height, the content's hash, and the largest value of a file of 16 bits."""
    try:
        content = path.read_bytes()
        with Image.open(io.BytesIO(content)) as image:
            return image.size, hashlib.sha256(content).hexdigest(), peak_of(content)
    except Exception as error:  # Pillow's plugins raise nearly anything
        raise UserError(f"{path} cannot be read ({error}); remove it or put a whole one there") from None


def _header(member: Any) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether in Fortran order, and type; `member` then stands at the first value."""
    version = np.lib.format.read_magic(member)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, order, dtype = read(member)
    return shape, order, dtype
