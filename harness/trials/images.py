"""Grids of images as PNG, for people."""

import io
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from harness.records.store import write_atomic

COLUMNS = 10
MIN_SIDE = 32  # smaller images are enlarged by a whole factor


def write_grid(images: Tensor, path: Path, *, columns: int = COLUMNS, gap: int = 2) -> None:
    """Write uint8 images (N, C, H, W), as a grid: image i stands in row i // columns."""
    buffer = io.BytesIO()
    Image.fromarray(grid(images, columns=columns, gap=gap)).save(buffer, format="PNG")
    write_atomic(path, buffer.getvalue())


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
