"""The batches of a training, from any step on: images, prompts, times and noise, all functions of (seed, step)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from harness.diffusion.flow_matching import Prompts, dropped, logit_normal_times
from harness.records.errors import UserError
from harness.training.randomness import DataOrder, generator
from harness.training.recipe import Recipe

IN_MEMORY_BYTES = 512 * 2**20
"""Data up to this size is read once and kept; it is faster and gives the same batches."""

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

    def network_inputs(self, rows: Tensor, random: torch.Generator, /) -> Tensor:
        """What the network sees of rows as they are stored: uint8 pixels as -1..1, or latents, drawn by `random` where
        the encoder is a distribution."""
        ...


@dataclass(frozen=True, slots=True)
class Batch:
    """The arguments of `flow_matching_loss` behind the model, on the training's device."""

    x0: Tensor  # (B, C, H, W), of a size of about 1
    noise: Tensor  # (B, C, H, W)
    time: Tensor  # (B,)
    context: Tensor  # (B, T, D)
    context_mask: Tensor | None  # (B, T)

    def arguments(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None]:
        return self.x0, self.noise, self.time, self.context, self.context_mask


def training_batches(
    data: TrainingData, prompts: Prompts, recipe: Recipe, seed: int, first_step: int, device: torch.device
) -> Iterator[Batch]:
    """The batches of the steps first_step, first_step + 1, ... up to the recipe's last."""
    images = data.train
    if len(images) == 0:
        raise UserError("the data has no training images; check data.path and the held-out share")
    order = DataOrder(len(images), recipe.batch_size, seed)
    steps = range(first_step, recipe.steps + 1)
    for step, (chosen, labels) in zip(steps, _pairs(images, order, steps, recipe), strict=True):
        random = generator(seed, "step", step)
        time = logit_normal_times(len(labels), random)
        drop = dropped(len(labels), recipe.cfg_dropout, random)
        x0 = data.network_inputs(chosen.to(device), generator(seed, "encoding", step))
        noise = torch.randn(x0.shape, generator=random)
        yield batch_of(x0, labels, noise, time, drop, prompts, device)


def batch_of(
    x0: Tensor, labels: Tensor, noise: Tensor, time: Tensor, drop: Tensor, prompts: Prompts, device: torch.device
) -> Batch:
    """Move the parts to the device, where x0 and the prompts already are, and look the prompts up."""
    context, mask = prompts.context(labels.to(device), drop.to(device))
    return Batch(x0, noise.to(device), time.to(device), context, mask)


def stacked(images: Images, numbers: Sequence[int]) -> Pair:
    """The rows of these numbers (B, C, H, W), and their class numbers (B,)."""
    if isinstance(images, ReadTogether):
        return images.rows(numbers)
    items = [images[number] for number in numbers]
    return torch.stack([image for image, _ in items]), torch.tensor([int(label) for _, label in items])


def _pairs(images: Images, order: DataOrder, steps: range, recipe: Recipe) -> Iterator[Pair]:
    size = len(images) * images[0][0].nbytes
    samples = len(steps) * recipe.batch_size
    if size <= IN_MEMORY_BYTES and samples >= len(images):
        pixels, labels = stacked(images, range(len(images)))
        return ((pixels[numbers], labels[numbers]) for numbers in map(order.at, steps))
    loader: DataLoader[Any] = DataLoader(
        _Batches(images),
        batch_sampler=_Numbers(order, steps),
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
    """A DataLoader's batch sampler that starts at any step."""

    def __init__(self, order: DataOrder, steps: range) -> None:
        self.order, self.steps = order, steps

    def __iter__(self) -> Iterator[list[int]]:
        return (self.order.at(step).tolist() for step in self.steps)

    def __len__(self) -> int:
        return len(self.steps)
