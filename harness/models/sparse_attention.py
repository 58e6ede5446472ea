"""Adaptive sparse self-attention, ASSA: of a map's tokens all are seen compressed, nearby ones as they are (Hu et al.
2026, SnapGen++, arXiv 2601.08303, 3.1 C and Fig. 2 b).

    global   keys and values, c x c of them compressed to one by a convolution: k_c, v_c (eq. 1)
    local    the queries of block b attend to the blocks b - r, ..., b + r that there are (eq. 3)
    out      gate * global + (1 - gate) * local, where gate = sigmoid(linear(x)) for every token and head

A block is a band of whole rows: the paper cuts the sequence of tokens, and its 16 blocks of 64 x 64 tokens are four
rows each. Queries and keys are normed and rotated before both. Not printed, and ours: a convolution of each key-value
head by itself, over all of its channels and without a bias; its first weights, which average (as those of PixArt-Sigma,
Chen et al. 2024, arXiv 2403.04692); and values without a norm, though Fig. 2 b may be read as if they had one.

B batch, T tokens, H x W the map, G key-value heads, R query heads for each, D head dimension, n blocks of N tokens.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from harness.architecture.kinds import builder_of
from harness.architecture.knobs import AdaptiveSparse
from harness.models.attention import AttentionPlace, SharedHeadAttention, Size
from harness.models.embeddings import Rotation
from harness.records.errors import UserError


class Bands(NamedTuple):
    """Consecutive blocks that see equally many: block `first + i` sees the blocks from `seen + i` on."""

    first: int
    blocks: int
    seen: int
    width: int  # blocks that each sees


def bands(blocks: int, radius: int) -> Iterator[Bands]:
    """All blocks in order: those that see 2 r + 1 blocks together, those at the edges, which see fewer, one by one."""
    inside = range(radius, blocks - radius)
    for block in range(blocks):
        if block not in inside:
            seen = max(0, block - radius)
            yield Bands(block, 1, seen, min(blocks, block + radius + 1) - seen)
        elif block == inside.start:
            yield Bands(block, len(inside), 0, 2 * radius + 1)


class SparseAttention(SharedHeadAttention):
    """Self-attention over the tokens of a map, whose sides are multiples of the compression and whose rows of the
    number of blocks. With compression 1 and one block it is the full one."""

    def __init__(self, spec: AdaptiveSparse, attention: Any, place: AttentionPlace) -> None:
        super().__init__(attention, place)
        self.compression, self.blocks, self.radius = spec.compression, spec.blocks, spec.radius
        self.gate = nn.Linear(place.width, self.heads)
        self.compress_key = averaging(self.groups, self.head_dim, spec.compression)
        self.compress_value = averaging(self.groups, self.head_dim, spec.compression)

    def forward(
        self,
        x: Tensor,
        source: Tensor,
        *,
        mask: Tensor | None = None,
        rotation: Rotation | None = None,
        size: Size | None = None,
    ) -> Tensor:
        """x (B, T, width), the tokens of a map of that size, source the same, no mask -> (B, T, width)."""
        side = self.checked(size, mask)
        q, k, v = self.projected(x, source, rotation)
        k_c, v_c = self._compressed(k, self.compress_key, side), self._compressed(v, self.compress_value, side)
        seen_whole = self.attended(q, k_c, v_c).reshape(q.shape)
        seen_near = self._local(q, k, v).reshape(q.shape)  # (B, T, G * R, D)
        gate = self.gate(x).sigmoid().unsqueeze(-1)  # (B, T, G * R, 1)
        out: Tensor = self.out((seen_near + gate * (seen_whole - seen_near)).flatten(2))
        return out

    def checked(self, size: Size | None, mask: Tensor | None) -> Size:
        """The size, if it is one that the map may have."""
        assert size is not None, "sparse attention is over a map, whose size it is told"
        assert mask is None, "every pixel of a map is seen"
        height, width = size
        if height % self.compression or width % self.compression or height % self.blocks:
            raise UserError(
                f"self-attention compresses {self.compression} x {self.compression} tokens and cuts rows into "
                f"{self.blocks} blocks, which a map of {height} x {width} does not divide into; choose another latent"
            )
        return size

    def _compressed(self, tokens: Tensor, compress: nn.Module, size: Size) -> Tensor:
        """(B, H * W, G, D) -> (B, H / c * W / c, G, D)"""
        smaller: Tensor = compress(tokens.flatten(2).transpose(1, 2).reshape(len(tokens), -1, *size))
        return smaller.flatten(2).transpose(1, 2).reshape(len(tokens), -1, *tokens.shape[2:])

    def _local(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """q (B, T, G * R, D), k and v (B, T, G, D) -> (B, T, G * R * D)."""
        batch = len(q)
        q, k, v = (each.reshape(batch, self.blocks, -1, *each.shape[2:]) for each in (q, k, v))  # (B, n, N, heads, D)
        parts = []
        for band in bands(self.blocks, self.radius):
            queries = q[:, band.first : band.first + band.blocks].flatten(0, 1)
            near = (windows(each, band, 1).flatten(0, 1) for each in (k, v))
            parts.append(self.attended(queries, *near).reshape(batch, -1, self.heads * self.head_dim))
        return torch.cat(parts, dim=1)


def windows(blocks: Tensor, band: Bands, axis: int) -> Tensor:
    """Of blocks along an axis, with their tokens along the next: (.., n, N, ..) -> (.., blocks, width * N, ..)."""
    shifted = [blocks.narrow(axis, band.seen + shift, band.blocks) for shift in range(band.width)]
    return torch.cat(shifted, dim=axis + 1)


def averaging(groups: int, head_dim: int, side: int) -> nn.Module:
    """What makes one token of a square of them, head by head: a mean, until it is trained. (B, G * D, H, W) -> smaller;
    of squares of one, what it is given."""
    if side == 1:
        return nn.Identity()
    width = groups * head_dim
    convolution = nn.Conv2d(width, width, side, stride=side, groups=groups, bias=False)
    with torch.no_grad():
        mean = torch.eye(head_dim).repeat(groups, 1)[:, :, None, None] / side**2
        convolution.weight.copy_(mean.expand_as(convolution.weight))
    return convolution


def sparse_attention(spec: AdaptiveSparse, attention: Any, place: AttentionPlace) -> nn.Module:
    """UserError for a kind of attention that has no keys to compress."""
    if builder_of(attention) is not SharedHeadAttention:
        raise UserError(
            f"the span '{spec.kind}' is of attention by keys, and self_attention is {attention.kind}; choose mhsa, gqa "
            "or mqa"
        )
    return SparseAttention(spec, attention, place)
