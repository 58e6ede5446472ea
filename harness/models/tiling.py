"""Decoding in tiles: parts of a latent are decoded by themselves and joined, so that no more is held than of a part.

    |<-------- side -------->|
    [ tile 0       |~~| ---- ]
                   [ ---- |~~| ...        neighbours share `overlap` cells or more; in the middle `blend` of them, ~,
             |<-- overlap -->|            one tile passes into the other, and what is nearer to a tile's edge, -, is
                                          left out of it

As diffusers' `AutoencoderKL.tiled_decode`, which blends over all that is shared. What is left out is of pixels that see
the tile's edge, where its neighbour's cells are and the tile has none: with (overlap - blend) / 2 cells as far as a
decoder sees (`DecoderConfig.reach`), tiles are the whole picture, unless something in it depends on all of the latent
(`DecoderConfig.sees_all`). All tiles of a latent are of one size, spread evenly, so that neighbours may share more.

B batch, L latent channels, C picture channels, h w a latent's height and width, f a picture's side over its latent's.
"""

import itertools
from collections.abc import Callable

import torch
from torch import Tensor

from harness.models.autoencoder_config import Tiles


def decode_in_tiles(decode: Callable[[Tensor], Tensor], tiles: Tiles, latents: Tensor) -> Tensor:
    """`decode(latents)`, (B, L, h, w) -> (B, C, f h, f w), from the decoded tiles."""
    rows, columns = (_starts(length, tiles) for length in latents.shape[2:])
    if len(rows) == len(columns) == 1:
        return decode(latents)
    height, width = (min(length, tiles.side) for length in latents.shape[2:])
    picture: Tensor | None = None
    for (i, top), (j, left) in itertools.product(enumerate(rows), enumerate(columns)):
        tile = decode(latents[:, :, top : top + height, left : left + width].contiguous())
        f = tile.shape[-1] // width
        if picture is None:
            picture = tile.new_zeros(*tile.shape[:2], *(f * length for length in latents.shape[2:]))
        down, across = _weights(rows, height, tiles, f)[i], _weights(columns, width, tiles, f)[j]
        weights = (down[:, None] * across).to(tile)  # f height, f width
        picture[:, :, f * top : f * (top + height), f * left : f * (left + width)] += weights * tile
    assert picture is not None
    return picture


def _starts(length: int, tiles: Tiles) -> list[int]:
    """The first cell of each tile along a side of so many cells."""
    if length <= tiles.side:
        return [0]
    count = -((tiles.overlap - length) // (tiles.side - tiles.overlap))  # the least that shares `overlap`
    return [number * (length - tiles.side) // (count - 1) for number in range(count)]


def _weights(starts: list[int], side: int, tiles: Tiles, f: int) -> list[Tensor]:
    """Of each tile (f side,), along one side; of each pixel of the picture they sum to 1."""
    middles = [f * (a + side + b) / 2 for a, b in itertools.pairwise(starts)]  # of what neighbours share
    weights = []
    for number, start in enumerate(starts):
        pixels = f * start + torch.arange(f * side) + 0.5
        began = _ramp(pixels, middles[number - 1], f * tiles.blend) if number else torch.ones_like(pixels)
        ended = _ramp(pixels, middles[number], f * tiles.blend) if number < len(middles) else torch.zeros_like(pixels)
        weights.append(began - ended)
    return weights


def _ramp(pixels: Tensor, middle: float, width: int) -> Tensor:
    """0 before, 1 behind, linear over `width` pixels around the middle."""
    return ((pixels - middle) / width + 0.5).clamp(0, 1) if width else (pixels > middle).to(pixels)
