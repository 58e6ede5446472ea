"""What every source of pictures in other people's layouts shares: files inside of files, their content's hash, a split.

A source says which pictures there are, of which class, and how each is read; `source_data` makes an `ImageData` of
that. Pictures stay where they are and are read when asked for. Every one's bytes are hashed once, by threads; the
hashes are kept in a cache that is trusted while the files' sizes and times are what they were.
"""

import collections
import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.data.config import Crop
from harness.data.crop import TRANSFORMS, square
from harness.data.decode import UnreadableError, peak_of
from harness.data.folder import HELDOUT, caption_is_heldout, check_bits, is_heldout
from harness.data.images import ImageData
from harness.data.index import by_threads
from harness.data.listing import Skipped
from harness.records.errors import UserError
from harness.records.plain import fingerprint
from harness.records.store import reading_cache, write_atomic
from harness.records.terminal import escaped

DIGEST = 16  # bytes of a sha256 that are kept


class Blobs(Protocol):
    """Encoded pictures by number."""

    @property
    def names(self) -> Sequence[str]:
        """As a sentence calls them."""
        ...

    def read(self, number: int) -> bytes:
        """OSError where it cannot be had any more."""
        ...

    def containers(self) -> Sequence[Path]:
        """The files that hold them."""
        ...


@dataclass(frozen=True, slots=True)
class Slices:
    """Files, or uncompressed parts of files such as a tar's members."""

    names: Sequence[str]
    files: Sequence[Path]
    file_of: NDArray[np.int64]  # (N,) which of the files
    offsets: NDArray[np.int64]  # (N,)
    sizes: NDArray[np.int64]  # (N,) in bytes; -1 for all that follows

    @classmethod
    def of_files(cls, root: Path, names: Sequence[str]) -> "Slices":
        count = len(names)
        whole = np.full(count, -1, np.int64)
        return cls(names, [root / name for name in names], np.arange(count), np.zeros(count, np.int64), whole)

    def read(self, number: int) -> bytes:
        with self.files[int(self.file_of[number])].open("rb") as file:
            file.seek(int(self.offsets[number]))
            return file.read(int(self.sizes[number]))

    def containers(self) -> Sequence[Path]:
        return self.files


@dataclass(frozen=True, slots=True)
class BlobImages:
    """Some of a source's pictures, as `Images`."""

    blobs: Blobs
    numbers: NDArray[np.int64]  # (N,) of the blobs
    labels: NDArray[np.int64]  # (N,)
    size: int
    crop: Crop

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        number = int(self.numbers[index])
        try:
            pixels = square(self.blobs.read(number), self.crop, self.size, 3)
        except (OSError, UnreadableError) as error:
            name = escaped(self.blobs.names[number])
            raise UserError(f"the picture {name} cannot be read ({error}); replace it, or take it out") from error
        return torch.from_numpy(pixels), int(self.labels[index])


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """What lies in a source."""

    blobs: Blobs
    labels: NDArray[np.int64]  # (N,)
    heldout: NDArray[np.bool_] | None  # (N,); None: to be cut
    class_names: tuple[str, ...]
    ordered: bool = True
    """Whether their order is the published source's; else whoever wrote it down gave it, often by the files' names, and
    pictures stand in the order of their content, by which others choose among them."""
    captions: bool = False  # whether these are captions
    class_folders: tuple[str, ...] = ()
    left_out: tuple[Skipped, ...] = ()


def source_data(
    files: Found,
    *,
    kind: str,
    size: int,
    crop: Crop,
    fraction: float | None,
    where: Path,
    cache: Path | None,
    by_caption: bool = False,
) -> ImageData:
    """The data set; `fraction` is held out, by a hash of a picture's bytes or, `by_caption`, of its caption, where the
    source has no such part."""
    if len(files.labels) == 0:
        raise UserError(f"{where} holds no pictures; give another data.path")
    for setting, is_set in ((f"heldout={fraction}", fraction is not None), ("heldout_by=caption", by_caption)):
        if files.heldout is not None and is_set:
            raise UserError(f"{where} holds its own held-out part; leave data.{setting} out")
    digests = digests_of(files.blobs, where, cache)
    heldout = _held_out(files, digests, fraction or HELDOUT, by_caption=by_caption)
    _check_parts(files, heldout, where)
    order = np.arange(len(digests)) if files.ordered else _by_content(digests, files.labels)
    content = hashlib.sha256(
        digests[order].tobytes() + files.labels[order].tobytes() + heldout[order].tobytes()
    ).hexdigest()
    train, held = order[~heldout[order]], order[heldout[order]]
    return ImageData(
        kind=kind, channels=3, size=size, class_names=files.class_names, captions=files.captions,
        class_folders=files.class_folders, crop=crop,
        train=BlobImages(files.blobs, train, files.labels[train], size, crop),
        heldout=BlobImages(files.blobs, held, files.labels[held], size, crop), left_out=files.left_out,
        remarks=_in_both(files, digests, heldout) if files.captions else (),
        fingerprint=fingerprint([kind, files.class_names, TRANSFORMS[crop], size, content], schema="data-source-1"),
    )  # fmt: skip


def _by_content(digests: NDArray[np.uint8], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.array(sorted(range(len(labels)), key=lambda row: (digests[row].tobytes(), labels[row])), np.int64)


def _held_out(files: Found, digests: NDArray[np.uint8], share: float, *, by_caption: bool) -> NDArray[np.bool_]:
    """(N,)"""
    if files.heldout is not None:
        return files.heldout
    if by_caption:
        return np.array([caption_is_heldout(caption, share) for caption in files.class_names], bool)[files.labels]
    return np.array([is_heldout(digest.tobytes().hex(), share) for digest in digests], bool)


def _in_both(files: Found, digests: NDArray[np.uint8], heldout: NDArray[np.bool_]) -> tuple[str, ...]:
    """Which captions, and which pictures, are held out and trained on too: a sentence for each kind that there is."""
    captions, pictures = files.labels, [digest.tobytes() for digest in digests]
    both = np.intersect1d(captions[heldout], captions[~heldout])
    said = []
    if len(both):
        count, name = len(np.unique(captions[heldout])), escaped(files.class_names[both[0]])
        remedy = "" if files.heldout is not None else "; data.heldout_by=caption holds out whole captions"
        said.append(
            f"held-out captions: {count:,}, of which {len(both):,} are trained on too, such as '{name}'{remedy}"
        )
    trained = {picture for picture, out in zip(pictures, heldout, strict=True) if not out}
    if again := sum(out and picture in trained for picture, out in zip(pictures, heldout.tolist(), strict=True)):
        said.append(f"held-out pictures: {heldout.sum():,}, of which {again:,} are trained on too")
    return tuple(said)


def _check_parts(files: Found, heldout: NDArray[np.bool_], where: Path) -> None:
    counts = np.bincount(files.labels[~heldout], minlength=len(files.class_names))
    if not files.captions and (lacking := np.flatnonzero(counts == 0).tolist()):
        name = escaped(files.class_names[lacking[0]])
        raise UserError(
            f"{where} has {len(lacking)} of {len(counts)} classes without a training picture, such as '{name}'; add "
            "pictures, or take the class out"
        )
    if heldout.sum() < 2:
        raise UserError(f"{where} has {heldout.sum()} held-out pictures, and at least 2 are needed; raise data.heldout")


def digests_of(blobs: Blobs, where: Path, cache: Path | None) -> NDArray[np.uint8]:
    """(N, DIGEST) of the pictures' bytes; UserError for pictures that would be read as nearly black."""
    path = None if cache is None else cache / "sources" / f"{_stamp(blobs, where)}.npz"
    digests: NDArray[np.uint8]
    if path is not None and path.exists():
        with reading_cache(path), np.load(path, allow_pickle=False) as stored:
            digests, peaks = stored["digests"], stored["peaks"]
    else:
        digests, peaks = _inspected(blobs, where)
        if path is not None:
            buffer = io.BytesIO()
            np.savez(buffer, digests=digests, peaks=peaks)
            write_atomic(path, buffer.getvalue())
    check_bits(where, peaks.tolist(), None, can_be_given=False)
    return digests


def check_readable(images: BlobImages, where: Path, cache: Path | None) -> None:
    """UserError for a picture that is not whole. For pictures that only scores are of: a training that has ended is
    too late to hear of it. Remembered as digests are."""
    path = None if cache is None else cache / "sources" / f"{_stamp(images.blobs, where)}.read"
    if path is not None and path.exists():
        return

    def read(number: int) -> None:
        images[number]

    with by_threads(read, range(len(images)), f"decoding the pictures in {where}") as results:
        collections.deque(results, maxlen=0)
    if path is not None:
        write_atomic(path, b"")


def _inspected(blobs: Blobs, where: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """(N, DIGEST) of the pictures' bytes; (N,) the largest value of each file of 16 bits a value, 0 of any other."""

    def inspect(number: int) -> tuple[bytes, int]:
        content = _read(blobs, number)
        return hashlib.sha256(content).digest()[:DIGEST], peak_of(content)

    with by_threads(inspect, range(len(blobs.names)), f"reading the pictures in {where}") as results:
        digests, peaks = zip(*results, strict=True)
    return np.frombuffer(b"".join(digests), np.uint8).reshape(-1, DIGEST), np.array(peaks, np.int64)


def _read(blobs: Blobs, number: int) -> bytes:
    try:
        return blobs.read(number)
    except OSError as error:
        raise UserError(f"the picture {escaped(blobs.names[number])} cannot be read ({error}); replace it") from error


def _stamp(blobs: Blobs, where: Path) -> str:
    """Of the files' sizes and times."""
    stamps = hashlib.sha256()
    for path in blobs.containers():
        try:
            status = path.stat()
        except OSError as error:
            raise UserError(f"cannot read {path}: {error.strerror or error}; give another data.path") from error
        stamps.update(f"{path} {status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}\n".encode())
    names = hashlib.sha256("\n".join(blobs.names).encode(errors="surrogateescape")).hexdigest()
    return fingerprint([str(where.resolve()), stamps.hexdigest(), names], schema="source-digests-2")
