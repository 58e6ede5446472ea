"""Random numbers that are a function of a key and a counter, computed on any device (Salmon et al. 2011,
doi 10.1145/2063384.2063405): Philox 4x32 with 10 rounds, in 64-bit integers, which PyTorch has everywhere.

The bits are equal on all devices. Normal numbers are made of them by logarithm and cosine in float32, whose last digit
is a device's own.
"""

import math
from typing import TypeAlias

import torch
from torch import Tensor

Words: TypeAlias = tuple[Tensor, Tensor, Tensor, Tensor]
"""Four times 32 bits, in int64 tensors of one shape."""

MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
ROUNDS = 10
MASK = 0xFFFFFFFF


def philox(counter: Words, key: tuple[int, int]) -> Words:
    """Four independent words of 32 bits for each counter of 128 bits, the lowest word first."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(ROUNDS):
        high0, low0 = _product(c0, MULTIPLIERS[0])
        high1, low1 = _product(c2, MULTIPLIERS[1])
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + WEYL[0]) & MASK, (k1 + WEYL[1]) & MASK
    return c0, c1, c2, c3


def _product(word: Tensor, factor: int) -> tuple[Tensor, Tensor]:
    """The high and the low 32 bits of 64; int64 wraps around, and its bits are those of the unsigned product."""
    product = word * factor
    return (product >> 32) & MASK, product & MASK


def normals(samples: Tensor, draw: int, key: tuple[int, int], count: int) -> Tensor:
    """(len(samples), count) of N(0, 1): `count` numbers for each sample, of its number (int64) and of `draw` alone.

    Box and Muller: of two uniform numbers, one in (0, 1], sqrt(-2 ln u) cos(2 pi v) and the sine.
    """
    words = _words(samples, draw, key, -(-count // 4))
    pairs = []
    for u, v in (words[:2], words[2:]):
        radius = torch.sqrt(-2 * torch.log((u.float() + 1) * 2.0**-32))
        angle = 2 * math.pi * (v.float() * 2.0**-32)
        pairs += [radius * torch.cos(angle), radius * torch.sin(angle)]
    return torch.stack(pairs, -1).flatten(1)[:, :count]


def uniforms(samples: Tensor, draw: int, key: tuple[int, int]) -> Tensor:
    """(len(samples),) from 0 to below 1, multiples of 2^-24, one for each sample."""
    return (_words(samples, draw, key, 1)[0][:, 0] >> 8).float() * 2.0**-24


def _words(samples: Tensor, draw: int, key: tuple[int, int], blocks: int) -> Words:
    """Of the counters (block, draw, sample): (len(samples), blocks) each."""
    shape = (len(samples), blocks)
    block = torch.arange(blocks, device=samples.device).expand(shape)
    low, high = (samples & MASK)[:, None].expand(shape), (samples >> 32)[:, None].expand(shape)
    return philox((block, torch.full_like(block, draw), low, high), key)
