"""Rows of prepared data, mapped into memory: what training reads."""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.models.pixels import to_model_range


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of some parts, one after another, as `Images`: mapped into memory when a process first asks."""

    files: tuple[Path, ...]
    firsts: NDArray[np.int64]  # (files,) the number of each file's first row
    labels: NDArray[np.int64]  # (N,)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        rows, labels = self.rows([index % len(self)])
        return rows[0], int(labels[0])

    def rows(self, numbers: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Those of these numbers (B, ...), each copied once, and their classes (B,)."""
        chosen = np.asarray(numbers, np.int64)
        file_of = np.searchsorted(self.firsts, chosen, side="right") - 1
        files = file_of.tolist()
        mapped = {file: _mapped(self.files[file]) for file in set(files)}
        row = mapped[files[0]].row
        read, size = np.empty((len(files), *row.shape), row.dtype), row.nbytes
        target = read.data.cast("B")  # as bytes: an array's own slices take a microsecond each
        contents = [mapped[file].content for file in files]
        firsts = ((chosen - self.firsts[file_of]) * size).tolist()
        for content, first, place in zip(contents, firsts, range(0, read.nbytes, size), strict=True):
            target[place : place + size] = content[first : first + size]
        return torch.from_numpy(read), torch.from_numpy(self.labels[chosen])


@dataclass(frozen=True, kw_only=True, slots=True)
class Latents:
    """What a network is trained on: `TrainingData`, beside the pictures that scores are for."""

    train: Rows
    heldout: Rows
    fingerprint: str
    autoencoder: Mapping[str, Any]
    """The identity of what made them."""
    is_sampled: bool

    def network_inputs(self, rows: Tensor, normal: Callable[[Sequence[int]], Tensor]) -> Tensor:
        """(B, L, h, w) float32 of rows as they are stored; drawn by `normal`, where they are means and
        standard deviations."""
        if rows.dtype == torch.uint8:
            return to_model_range(rows)
        if not self.is_sampled:
            return rows.float()
        mean, std = rows.float().chunk(2, dim=1)
        return mean + std * normal(mean.shape[1:]).to(mean.device)


@dataclass(frozen=True, slots=True, eq=False)
class _Mapped:
    row: NDArray[Any]  # the first one, for the shape and type of all
    content: memoryview  # the bytes of all


@functools.cache
def _mapped(path: Path) -> _Mapped:
    rows = np.load(path, mmap_mode="r", allow_pickle=False)
    return _Mapped(rows[0], rows.data.cast("B"))
