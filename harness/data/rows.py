"""Rows of prepared data, mapped into memory: what training reads."""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray
from torch import Tensor

from harness.models.pixels import to_model_range


@dataclass(frozen=True, slots=True, eq=False)
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
        chosen, mapped = np.asarray(numbers, np.int64), _mapped(self)
        read = mapped.over_all[mapped.place_of_row[chosen]]
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
    pictures: NDArray[np.int64]
    """Of the rows of `train`, those whose pictures are kept, in their order."""

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
    """The rows of several maps as elements of one array, so that NumPy gathers a batch in one pass, as from one map: a
    loop over its rows takes 1.3 of that time. The array lies over the addresses from the lowest map on, in steps that
    divide every distance between rows; what is between the maps is no row's place, and never read."""

    over_all: NDArray[Any]  # (places, ...)
    place_of_row: NDArray[np.int64]  # (N,)
    maps: Sequence[NDArray[Any]]  # kept, since `over_all` holds the lowest alone


@functools.lru_cache(maxsize=16)
def _mapped(rows: Rows) -> _Mapped:
    maps = [_map(path) for path in rows.files]
    addresses = np.array([one.__array_interface__["data"][0] for one in maps])
    lowest, row_bytes = maps[int(addresses.argmin())], maps[0].strides[0]
    numbers = np.arange(len(rows))
    file_of = np.searchsorted(rows.firsts, numbers, side="right") - 1
    beyond = (addresses - addresses.min())[file_of] + (numbers - rows.firsts[file_of]) * row_bytes
    step = int(np.gcd.reduce(beyond, initial=row_bytes))
    place_of_row = beyond // step
    shape, strides = (int(place_of_row.max()) + 1, *lowest.shape[1:]), (step, *lowest.strides[1:])
    return _Mapped(as_strided(lowest, shape, strides, writeable=False), place_of_row, maps)


def _map(path: Path) -> NDArray[Any]:
    """By torch, which keeps no file open: NumPy's maps hold a descriptor each, and ImageNet has thousands of shards."""
    described = np.load(path, mmap_mode="r", allow_pickle=False)
    content = torch.from_file(str(path), shared=False, size=path.stat().st_size, dtype=torch.uint8)
    mapped: NDArray[Any] = content.numpy()[described.offset :].view(described.dtype).reshape(described.shape)
    return mapped
