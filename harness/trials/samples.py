"""From an architecture to a network with its first weights, and from images to grids as PNG, for people."""

import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from harness.architecture.config import ArchitectureConfig
from harness.models.build import build
from harness.records.store import write_atomic
from harness.training.randomness import stream_seed

COLUMNS = 10
MIN_SIDE = 32  # smaller images are enlarged by a whole factor


def initialised_network(
    architecture: ArchitectureConfig, seed: int, *, checkpointing: bool = False, depthwise_gain: float = 1.0
) -> nn.Module:
    """The network with first weights that depend on the seed and `recipe.depthwise_gain` alone; `checkpointing` as
    `build` has it."""
    with torch.random.fork_rng():
        torch.manual_seed(stream_seed(seed, "weights", 0))
        network = build(architecture, checkpointing=checkpointing)
    with torch.no_grad():
        for part in network.modules():
            if isinstance(part, nn.Conv2d) and part.groups > 1:
                part.weight.mul_(depthwise_gain)
    return network


def write_grid(images: Tensor, path: Path, *, columns: int = COLUMNS, gap: int = 2) -> None:
    """Write uint8 images (N, C, H, W), as a grid: image i stands in row i // columns."""
    buffer = io.BytesIO()
    Image.fromarray(grid(images, columns=columns, gap=gap)).save(buffer, format="PNG")
    write_atomic(path, buffer.getvalue())


def columns_of(labels: Tensor, most_columns: int) -> list[int]:
    """The classes that such a grid has, in its order."""
    return sorted(list(dict.fromkeys(labels.tolist()))[:most_columns])


def by_class(images: Tensor, labels: Tensor, *, rows: int, most_columns: int) -> tuple[Tensor, int]:
    """Images for a grid with a class a column, and its columns: the classes in their order, of more than `most_columns`
    those that come first in `labels`; each with its first images, and white where it has no more."""
    classes = columns_of(labels, most_columns)
    places = [torch.nonzero(labels == number).flatten()[:rows] for number in classes]
    shown = images.new_full((max(map(len, places)), len(classes), *images.shape[1:]), 255)
    for column, chosen in enumerate(places):
        shown[: len(chosen), column] = images[chosen]
    return shown.flatten(0, 1), len(classes)


def above(images: Tensor, others: Tensor, *, columns: int) -> Tensor:
    """Images for a grid: each row of `images` (N, C, H, W) above the row of `others`, of the same shape."""
    white = images.new_full((-len(images) % columns, *images.shape[1:]), 255)
    rows = [torch.cat([each, white]).reshape(-1, columns, *images.shape[1:]) for each in (images, others)]
    return torch.stack(rows, dim=1).flatten(0, 2)


def grid(images: Tensor, *, columns: int = COLUMNS, gap: int = 2) -> np.ndarray:
    """One uint8 picture, (height, width) of one-channel images, (height, width, 3) of colour ones."""
    count, channels, height, width = images.shape
    factor = max(1, MIN_SIDE // max(height, width))
    tiles = images.numpy().transpose(0, 2, 3, 1).repeat(factor, 1).repeat(factor, 2)  # (N, H, W, C)
    height, width = height * factor, width * factor
    rows = -(-count // columns)
    sheet = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, channels), 255, dtype=np.uint8)
    for index, tile in enumerate(tiles):
        top, left = (index // columns) * (height + gap), (index % columns) * (width + gap)
        sheet[top : top + height, left : left + width] = tile
    return sheet[..., 0] if channels == 1 else sheet
