"""The rows of a training's batches, from any step on: functions of (seed, step); and batches that are made while the
device computes."""

from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from harness.records.errors import UserError
from harness.training.randomness import DataOrder
from harness.training.recipe import Recipe

IN_MEMORY_BYTES = 512 * 2**20
"""Data up to this size is read once and kept; it is faster and gives the same batches."""

AHEAD = 2
"""Batches that are made before they are needed: one is read and copied while the device has another."""

T = TypeVar("T")
Pair = tuple[Tensor, Tensor]  # rows as they are stored (B, C, H, W), class numbers (B,)


class Images(Protocol):
    """Images by number, each with its class number."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> tuple[Tensor, int]:
        """A row as it is stored (C, H, W), class number."""
        ...


@runtime_checkable
class ReadTogether(Protocol):
    """Images that have a faster way to many rows."""

    def rows(self, numbers: Sequence[int], /) -> Pair: ...


class TrainingData(Protocol):
    """What training needs of a data set."""

    @property
    def train(self) -> Images: ...

    @property
    def heldout(self) -> Images: ...

    @property
    def fingerprint(self) -> str:
        """Of the content: two data sets with the same one have the same images in the same order."""
        ...

    def network_inputs(self, rows: Tensor, normal: Callable[[Sequence[int]], Tensor], /) -> Tensor:
        """What the network sees of rows as they are stored: uint8 pixels as -1..1, or latents. Where the encoder is a
        distribution they are drawn: `normal` gives N(0, 1), (B, *row) for the shape of a row."""
        ...


def training_rows(data: TrainingData, recipe: Recipe, seed: int, first_step: int, samples: range) -> Iterator[Pair]:
    """Of the steps first_step, first_step + 1, ... up to the recipe's last: the rows of those samples of the batch."""
    images = data.train
    if len(images) == 0:
        raise UserError("the data has no training images; check data.path and the held-out share")
    order = DataOrder(len(images), recipe.batch_size, seed)
    steps = range(first_step, recipe.steps + 1)
    numbers = _Numbers(order, steps, slice(samples.start, samples.stop))
    return _pairs(images, numbers, len(steps) * len(samples), recipe)


def made_ahead(batches: Iterator[T], count: int, device: torch.device) -> Generator[T, None, None]:
    """The same ones, `count` of them made by a thread while others are trained on. What making one raises is raised
    where it is due."""
    with_device = torch.cuda.set_device if device.type == "cuda" else lambda _number: None  # which is a thread's own
    number = torch.cuda.current_device() if device.type == "cuda" else 0
    thread, end = ThreadPoolExecutor(1, "batches", with_device, (number,)), object()
    try:
        coming: deque[Future[Any]] = deque(thread.submit(next, batches, end) for _ in range(count))
        while (batch := coming.popleft().result()) is not end:
            coming.append(thread.submit(next, batches, end))
            yield batch
    finally:
        thread.shutdown(cancel_futures=True)


def stacked(images: Images, numbers: Sequence[int]) -> Pair:
    """The rows of these numbers (B, C, H, W), and their class numbers (B,)."""
    if isinstance(images, ReadTogether):
        return images.rows(numbers)
    items = [images[number] for number in numbers]
    return torch.stack([image for image, _ in items]), torch.tensor([int(label) for _, label in items])


def _pairs(images: Images, batches: "_Numbers", samples: int, recipe: Recipe) -> Iterator[Pair]:
    size = len(images) * images[0][0].nbytes
    if size <= IN_MEMORY_BYTES and samples >= len(images):
        pixels, labels = stacked(images, range(len(images)))
        return ((pixels[numbers], labels[numbers]) for numbers in batches)
    loader: DataLoader[Any] = DataLoader(
        _Batches(images),
        batch_sampler=batches,
        num_workers=recipe.data_workers,
        collate_fn=_as_is,
    )
    return map(_raised, loader)


class _Batches(Dataset[Any]):
    """A map-style data set of whole batches; a UserError comes as a value, since the loader would rewrite its text."""

    def __init__(self, images: Images) -> None:
        self.images = images

    def __getitems__(self, numbers: list[int]) -> Pair | UserError:
        try:
            return stacked(self.images, numbers)
        except UserError as error:
            return error


def _as_is(batch: Any) -> Any:  # no lambda: macOS hands it to its workers pickled
    return batch


def _raised(batch: Pair | UserError) -> Pair:
    if isinstance(batch, UserError):
        raise batch
    return batch


class _Numbers:
    """A DataLoader's batch sampler that starts at any step, and has some samples of each batch."""

    def __init__(self, order: DataOrder, steps: range, samples: slice) -> None:
        self.order, self.steps, self.samples = order, steps, samples

    def __iter__(self) -> Iterator[list[int]]:
        return (self.order.at(step)[self.samples].tolist() for step in self.steps)

    def __len__(self) -> int:
        return len(self.steps)
