"""Sets of images, all of one shape: in memory, or read from files when asked for."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.data.config import Crop
from harness.data.crop import square
from harness.data.decode import UnreadableError
from harness.data.listing import HIDDEN, Skipped
from harness.data.rows import Latents
from harness.models.pixels import to_model_range
from harness.records.errors import UserError


class Images(Protocol):
    """A map-style data set: `images[i]` is (uint8 tensor (C, H, W), label); torch's DataLoader takes it."""

    @property
    def labels(self) -> NDArray[np.int64]: ...  # (N,)

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[Tensor, int]: ...


@dataclass(frozen=True, slots=True)
class ArrayImages:
    """Images that fit in memory (or in a memory-mapped file)."""

    pixels: NDArray[np.uint8]  # (N, C, H, W)
    labels: NDArray[np.int64]  # (N,)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return torch.from_numpy(np.array(self.pixels[index])), int(self.labels[index])


@dataclass(frozen=True, slots=True)
class FileImages:
    """Images that stay in their files until they are asked for."""

    root: Path
    names: Sequence[str]  # relative to root
    labels: NDArray[np.int64]  # (N,)
    size: int
    channels: int
    bits: int | None = None  # as `decode` takes them
    crop: Crop = "centre"

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return torch.from_numpy(self.array(index)), int(self.labels[index])

    def array(self, index: int) -> NDArray[np.uint8]:
        """(C, size, size). All were readable when the folder was indexed: one that is not now was changed since."""
        path = self.root / self.names[index]
        try:
            return square(path.read_bytes(), self.crop, self.size, self.channels, self.bits)
        except (OSError, UnreadableError) as error:
            raise UserError(f"{path} changed while in use ({error}); run the same command again") from error

    def subset(self, indices: NDArray[np.int64]) -> "FileImages":
        return replace(self, names=[self.names[int(index)] for index in indices], labels=self.labels[indices])


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageData:
    """A data set, split once and for all."""

    kind: str
    channels: int
    size: int
    class_names: tuple[str, ...]
    """As they stand in a prompt: names of classes, or captions."""
    train: Images
    heldout: Images
    fingerprint: str
    """Of the content: every picture's bytes, labels, classes' names, split and transform; the same wherever the files
    lie and whatever they are called."""
    captions: bool = False
    """Whether these are captions, texts of their own: a class has training pictures, and a caption may have held-out
    ones alone, so that it is asked for what it says and not for what was seen of it."""
    training_labels: NDArray[np.int64] | None = None
    """Of all that is trained on, where `train` has only some of its pictures; None where it has all."""
    latents: Latents | None = None
    """What a network is trained on instead of the pictures."""
    crop: Crop = "centre"
    """How pictures became squares: others that are scored beside them become so too."""
    class_folders: tuple[str, ...] = ()
    """The classes as folders are called, where they are read from folders."""
    unreadable: tuple[str, ...] = ()  # "cat/x.png: image file is truncated", left out of both parts
    left_out: tuple[Skipped, ...] = ()  # what else lies there and is not read
    remarks: tuple[str, ...] = ()  # what is read otherwise than a user may think

    @property
    def class_sizes(self) -> tuple[int, ...]:
        """Training images of each class."""
        labels = self.train.labels if self.training_labels is None else self.training_labels
        return tuple(np.bincount(labels, minlength=len(self.class_names)).tolist())

    @property
    def heldout_sizes(self) -> tuple[int, ...]:
        """Held-out images of each class."""
        return tuple(np.bincount(self.heldout.labels, minlength=len(self.class_names)).tolist())

    def of_labels(self, labels: Sequence[int]) -> Tensor:
        """uint8 (N, C, H, W): a picture of each class or caption, a held-out one where there is one; white where no
        picture of it is here."""
        images = torch.full((len(labels), self.channels, self.size, self.size), 255, dtype=torch.uint8)
        for part in (self.train, self.heldout):
            place = {label: index for index, label in reversed(list(enumerate(part.labels.tolist())))}
            rows = [row for row, label in enumerate(labels) if label in place]
            if rows:
                images[rows] = stack(part, [place[labels[row]] for row in rows])
        return images

    @property
    def identity(self) -> dict[str, Any]:
        """What goes into a protocol: the settings that shape the data, and its content."""
        captions = {"captions": True} if self.captions else {}
        return {
            "kind": self.kind, "size": self.size, "channels": self.channels, "content": self.fingerprint, **captions,
        }  # fmt: skip

    def network_inputs(self, rows: Tensor, _normal: Callable[[Sequence[int]], Tensor]) -> Tensor:
        """What a network that is trained on pixels sees of them: grey levels as -1..1."""
        return to_model_range(rows)

    @property
    def warning(self) -> str | None:
        """One line that counts and names what is left out; None if nothing is but hidden files."""
        left_out = [f"left out: {each}" for each in self.left_out if each.reason != HIDDEN]
        return "; ".join([*unreadable_line(self.unreadable), *left_out, *self.remarks]) or None


def unreadable_line(unreadable: Sequence[str]) -> list[str]:
    """One line that counts the unreadable images and names a few; none if there are none."""
    if not unreadable:
        return []
    more = f"; and {len(unreadable) - 5} more" if len(unreadable) > 5 else ""
    noun = "image is" if len(unreadable) == 1 else "images are"
    return [f"{len(unreadable)} unreadable {noun} left out: {'; '.join(unreadable[:5])}{more}"]


def stack(images: Images, indices: Sequence[int] | NDArray[np.int64]) -> Tensor:
    """The chosen images as one uint8 tensor (N, C, H, W); files are decoded on all cores."""
    if isinstance(images, ArrayImages):
        return torch.from_numpy(np.ascontiguousarray(images.pixels[np.asarray(indices)]))
    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        return torch.stack(list(pool.map(lambda index: images[int(index)][0], indices)))
    finally:
        pool.shutdown(cancel_futures=True)  # an unreadable file, or Ctrl-C, does not wait for what is left


def balanced_choice(labels: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """About `count` indices, as many of each class as there are to have, always the same ones; sorted."""
    if count >= len(labels):
        return np.arange(len(labels))
    shuffled = np.random.RandomState(0).permutation(len(labels))
    each = max(1, count // len(np.unique(labels)))
    parts = [shuffled[labels[shuffled] == label][:each] for label in np.unique(labels)]
    return np.sort(np.concatenate(parts))
