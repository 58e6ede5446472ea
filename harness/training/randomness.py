"""All randomness of training, as functions of (seed, step): there is no state to save, and none to forget.

The order of the images, and by default times and noise too (`recipe.noise`: host), come from generators on the CPU, so
every device trains on the same ones. `indexed` ones are computed on the device, and differ between devices in their
last digit.
"""

import hashlib
import math
from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from harness.training import counter
from harness.training.recipe import Recipe


def stream_seed(seed: int, stream: str, number: int) -> int:
    """63 bits that differ, as good as independently, for every (seed, stream, number)."""
    digest = hashlib.sha256(f"{stream}/{seed}/{number}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(seed: int, stream: str, number: int) -> torch.Generator:
    return torch.Generator().manual_seed(stream_seed(seed, stream, number))


def normals(random: torch.Generator, count: int) -> Callable[[Sequence[int]], Tensor]:
    """Draws of N(0, 1) from that generator, (count, *row) for the shape of a row."""
    return lambda row: torch.randn((count, *row), generator=random)


class Draws(Protocol):
    """The random numbers of one step, for the samples that this process has of its batch."""

    @property
    def step(self) -> int:
        """Counted from 1."""
        ...

    def normal(self, row: Sequence[int], /) -> Tensor:
        """N(0, 1), (samples, *row)."""
        ...

    def uniform(self) -> Tensor:
        """From 0 to below 1, (samples,)."""
        ...

    def encoding(self, row: Sequence[int], /) -> Tensor:
        """N(0, 1), (samples, *row), from a stream of its own: for what an encoder's distribution needs."""
        ...


class HostDraws:
    """From generators on the CPU: every process draws the whole batch's numbers and keeps those of its `samples`."""

    def __init__(self, seed: int, step: int, samples: range, batch_size: int) -> None:
        self.step = step
        self._random, self._encoding = generator(seed, "step", step), generator(seed, "encoding", step)
        self._kept, self._batch_size = slice(samples.start, samples.stop), batch_size

    def normal(self, row: Sequence[int]) -> Tensor:
        return normals(self._random, self._batch_size)(row)[self._kept]

    def uniform(self) -> Tensor:
        return torch.rand(self._batch_size, generator=self._random)[self._kept]

    def encoding(self, row: Sequence[int]) -> Tensor:
        return normals(self._encoding, self._batch_size)(row)[self._kept]


class IndexedDraws:
    """On the device, each sample's numbers a function of (seed, its number in the training) alone: how a batch is cut
    over processes changes none, and nobody draws for others."""

    def __init__(self, seed: int, step: int, samples: range, batch_size: int, device: torch.device) -> None:
        self.step = step
        first = (step - 1) * batch_size
        self._samples = torch.arange(first + samples.start, first + samples.stop, device=device)
        self._keys = {stream: _words_of(stream_seed(seed, stream, 0)) for stream in ("indexed", "indexed-encoding")}
        self._draws = dict.fromkeys(self._keys, 0)

    def normal(self, row: Sequence[int]) -> Tensor:
        return self._normal("indexed", row)

    def uniform(self) -> Tensor:
        return counter.uniforms(self._samples, self._next("indexed"), self._keys["indexed"])

    def encoding(self, row: Sequence[int]) -> Tensor:
        return self._normal("indexed-encoding", row)

    def _normal(self, stream: str, row: Sequence[int]) -> Tensor:
        numbers = counter.normals(self._samples, self._next(stream), self._keys[stream], math.prod(row))
        return numbers.reshape(len(numbers), *row)

    def _next(self, stream: str) -> int:
        """The number of a draw in its step."""
        self._draws[stream] += 1
        return self._draws[stream] - 1


def _words_of(seed: int) -> tuple[int, int]:
    return seed & 0xFFFFFFFF, seed >> 32


def draws_of(recipe: Recipe, seed: int, step: int, samples: range, device: torch.device) -> Draws:
    """For those samples of the step's batch."""
    if recipe.noise == "host":
        return HostDraws(seed, step, samples, recipe.batch_size)
    return IndexedDraws(seed, step, samples, recipe.batch_size, device)


TOLD_ROWS = 8


class DataOrder:
    """Which images a step sees: permutations of the data, one an epoch, cut into batches with no remainder dropped."""

    def __init__(self, n_images: int, batch_size: int, seed: int) -> None:
        self.n_images, self.batch_size, self.seed = n_images, batch_size, seed
        self._epoch = -1
        self._order = torch.empty(0, dtype=torch.int64)

    def at(self, step: int) -> Tensor:
        """(batch_size,) image numbers of step `step`, counted from 1."""
        position, needed, parts = (step - 1) * self.batch_size, self.batch_size, []
        while needed > 0:
            epoch, offset = divmod(position, self.n_images)
            part = self._permutation(epoch)[offset : offset + needed]
            parts.append(part)
            position, needed = position + len(part), needed - len(part)
        return torch.cat(parts)

    def told(self, step: int) -> str:
        """Them for a sentence, which has few of many."""
        rows = list(map(str, self.at(step).tolist()))
        if len(rows) <= TOLD_ROWS:
            return f"rows {', '.join(rows)} of the training data"
        how = f"harness.training.randomness.DataOrder({self.n_images}, {self.batch_size}, {self.seed}).at({step})"
        return f"{len(rows)} rows of the training data, {', '.join(rows[:TOLD_ROWS])} and so on ({how} has all)"

    def _permutation(self, epoch: int) -> Tensor:
        if epoch != self._epoch:
            self._epoch = epoch
            self._order = torch.randperm(self.n_images, generator=generator(self.seed, "order", epoch))
        return self._order
