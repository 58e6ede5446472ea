"""The laid-out form of attention: every head by itself, no transpose but the keys', K and V never copied.

It is ml-stable-diffusion's `split_einsum` (Apple's principles 2 and 3): "bchq,bkhc->bkhq" and "bkhq,bchk->bchq" are
operators of MIL that need no transpose and no reshape around them. Query heads that share a key use the same tensor.
B batch, C channels, D head dimension, G key-value heads, T query tokens, S source tokens.
"""

import torch
from torch import Tensor, nn

from harness.coreml.layout import MAPS, TOKENS, as_channels, laid_out_maps, laid_out_tokens, lays_out, with_parts
from harness.models.attention import SharedHeadAttention, Size
from harness.models.decoder import DecoderAttention
from harness.models.embeddings import Rotation
from harness.models.sparse_attention import SparseAttention, bands, windows

MASKED = -40_000.0
"""Where attention may not look. The engine's softmax does not take -inf, fp16 holds this, and its exponential is 0
(github.com/apple/coreai-models, model-authoring, common issues)."""


class SplitHeadAttention(SharedHeadAttention):
    """softmax(q k^T / sqrt(D)) v with tensors (B, C, 1, T)."""

    def forward(
        self,
        x: Tensor,
        source: Tensor,
        *,
        mask: Tensor | None = None,
        rotation: Rotation | None = None,
        size: Size | None = None,  # noqa: ARG002
    ) -> Tensor:
        """x (B, width, 1, T), source (B, source_width, 1, S) or (B, S, source_width), mask (B, 1, 1, S) -> x's shape"""
        q, k, v = self.projected(x, source, rotation)
        out: Tensor = self.out(attend_by_heads(q, k, v, width=self.head_dim, mask=mask))
        return out

    def projected(self, x: Tensor, source: Tensor, rotation: Rotation | None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (B, G * R * D, 1, T), keys and values (B, G * D, 1, S); normed and rotated."""
        q, (k, v) = self.query(x), self.key_value(as_channels(source)).chunk(2, dim=1)
        q = self._prepared(q, self.query_norm, rotation, self.heads)
        return q, self._prepared(k, self.key_norm, rotation, self.groups), v

    def _prepared(self, x: Tensor, norm: nn.Module, rotation: Rotation | None, heads: int) -> Tensor:
        """Norm and rotation of every head of x (B, heads * D, 1, S); one head alone needs no reshape."""
        if rotation is None and isinstance(norm, nn.Identity):
            return x
        axis = 1 if heads == 1 else 2
        h = x if heads == 1 else x.reshape(x.shape[0], heads, self.head_dim, x.shape[3])
        h = h if isinstance(norm, nn.Identity) else norm(h, axis)
        return (h if rotation is None else _rotated(h, rotation, axis)).reshape(x.shape)


@lays_out(SharedHeadAttention, TOKENS)
def _attention(module: SharedHeadAttention) -> nn.Module:
    laid_out: nn.Module = with_parts(module, laid_out_tokens, SplitHeadAttention)
    return laid_out


class SplitSparseAttention(SplitHeadAttention, SparseAttention):
    """The blocks of the local part stand side by side in the third axis, which `attend_by_heads` keeps apart: one
    operator for all blocks that see equally many, where the paper's supplement C has one for each."""

    def forward(
        self,
        x: Tensor,
        source: Tensor,
        *,
        mask: Tensor | None = None,
        rotation: Rotation | None = None,
        size: Size | None = None,
    ) -> Tensor:
        """x (B, width, 1, T), the tokens of a map of that size, source the same, no mask -> x's shape"""
        side = self.checked(size, mask)
        q, k, v = self.projected(x, source, rotation)
        k_c = self.compress_key(k.reshape(*k.shape[:2], *side)).flatten(2).unsqueeze(2)
        v_c = self.compress_value(v.reshape(*v.shape[:2], *side)).flatten(2).unsqueeze(2)
        seen_whole = self._by_head(attend_by_heads(q, k_c, v_c, width=self.head_dim))
        seen_near = self._by_head(self._local(q, k, v))  # (B, G * R, D, T)
        gate = self.gate(x).sigmoid().reshape(x.shape[0], self.heads, 1, x.shape[3])
        out: Tensor = self.out((seen_near + gate * (seen_whole - seen_near)).reshape(x.shape))
        return out

    def _by_head(self, h: Tensor) -> Tensor:
        return h.reshape(h.shape[0], self.heads, self.head_dim, h.shape[3])

    def _local(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """q (B, G * R * D, 1, T), k and v (B, G * D, 1, T) -> q's shape."""
        q, k, v = (each.reshape(*each.shape[:2], self.blocks, -1) for each in (q, k, v))
        parts = []
        for band in bands(self.blocks, self.radius):
            queries = q[:, :, band.first : band.first + band.blocks]
            near = (windows(each, band, 2) for each in (k, v))
            parts.append(attend_by_heads(queries, *near, width=self.head_dim))
        return torch.cat(parts, dim=2).flatten(2).unsqueeze(2)


@lays_out(SparseAttention, TOKENS)
def _sparse_attention(module: SparseAttention) -> nn.Module:
    laid_out: nn.Module = with_parts(module, laid_out_tokens, SplitSparseAttention)
    for name in ("compress_key", "compress_value"):  # they take maps
        laid_out._modules[name] = module._modules[name]
    return laid_out


class SplitDecoderAttention(DecoderAttention):
    """One head over all pixels. (B, C, H, W) -> the same"""

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.norm(x).flatten(2).unsqueeze(2)  # (B, C, 1, S)
        attended = attend_by_heads(self.query(tokens), self.key(tokens), self.value(tokens), width=tokens.shape[1])
        h: Tensor = self.out(attended)
        return x + h.reshape(x.shape)


@lays_out(DecoderAttention, MAPS)
def _decoder_attention(module: DecoderAttention) -> nn.Module:
    laid_out: nn.Module = with_parts(module, laid_out_tokens, SplitDecoderAttention)
    laid_out._modules["norm"] = laid_out_maps(module.norm)
    return laid_out


def attend_by_heads(q: Tensor, k: Tensor, v: Tensor, *, width: int, mask: Tensor | None = None) -> Tensor:
    """q (B, G * R * D, n, T), k and v (B, G * D, n, S), mask (B, 1, 1, S) bool, heads `width` wide -> q's shape. Each
    of the n sees its own only; a mask is for n = 1."""
    keys = torch.split((k * width**-0.5).transpose(1, 3), width, dim=3)  # K is scaled: it is never larger than Q
    values, queries = torch.split(v, width, dim=1), torch.split(q, width, dim=1)
    shared = len(queries) // len(keys)
    heads = [_attend(head, keys[i // shared], values[i // shared], mask) for i, head in enumerate(queries)]
    return torch.cat(heads, dim=1) if len(heads) > 1 else heads[0]


def _attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """One head: q (B, D, n, T), k (B, S, n, D), v (B, D, n, S), mask (B, 1, 1, S) bool -> (B, D, n, T)."""
    scores = torch.einsum("bchq,bkhc->bkhq", q, k)
    if mask is not None:
        scores = scores.masked_fill(~mask.transpose(1, 3), MASKED)
    return torch.einsum("bkhq,bchk->bchq", scores.softmax(1), v)


def _rotated(x: Tensor, rotation: Rotation, axis: int) -> Tensor:
    """As `Rotation` does, of x (B, heads, D, S) with axis 2 or (B, D, 1, S) with axis 1."""
    cos, sin = (angle.squeeze(1).t() if axis == 2 else angle.permute(2, 1, 0) for angle in rotation)
    a, b = x.chunk(2, dim=axis)
    return x * cos + torch.cat([-b, a], dim=axis) * sin
