"""What the transformers on patches share.

B batch, C latent channels, h w patches by row and column, P patch size, T = h w tokens, D width.
"""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.records.errors import UserError

MAX_PERIOD = 10000.0


class SelfAttention(nn.Module):
    """Multi-head, every head with its own key and value. (B, T, D) -> (B, T, D)"""

    def __init__(self, width: int, heads: int, *, bias: bool) -> None:
        super().__init__()
        self.heads = heads
        self.query_key_value = nn.Linear(width, 3 * width, bias=bias)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.query_key_value(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        h = F.scaled_dot_product_attention(q, k, v)  # (B, heads, T, D / heads)
        out: Tensor = self.out(h.transpose(1, 2).flatten(2))
        return out


class PooledText(nn.Module):
    """The mean of the tokens that there are, through one linear layer: in the place of a table of classes."""

    def __init__(self, context_width: int, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(context_width, width)

    def forward(self, context: Tensor, mask: Tensor | None) -> Tensor:  # (B, T, context_width), (B, T) -> (B, D)
        if mask is None:
            pooled = context.mean(1)
        else:
            there = mask.to(context.dtype)[:, :, None]
            pooled = (context * there).sum(1) / there.sum(1)
        out: Tensor = self.linear(pooled)
        return out


class ClassTable(nn.Module):
    """A learned row for each class, the last one for no class: in the place of the text.

    The context says the class by a 1 at its place. So a table is called as a text is, its product is the row to the
    bit, and an exported network has a product of matrices, where a phone's engine has no look-up.
    """

    weight_decay: ClassVar[dict[str, bool]] = {"rows": False}

    def __init__(self, rows: int, width: int) -> None:
        super().__init__()
        self.rows = nn.Parameter(torch.empty(rows, width))
        nn.init.normal_(self.rows, std=0.02)  # as DiT's (section 3.2's code)

    def forward(self, context: Tensor, _mask: Tensor | None) -> Tensor:  # (B, 1, rows) -> (B, D)
        return context[:, 0] @ self.rows


def condition_of(config: Any) -> nn.Module:
    """What makes one vector of the context, as DiT's or U-ViT's config says. (B, T, context_width), mask -> (B, D)"""
    if config.condition == "class_table":
        return ClassTable(config.context_width, config.width)
    return PooledText(config.context_width, config.width)


def to_tokens(patches: Tensor) -> Tensor:  # (B, D, h, w) -> (B, h w, D)
    return patches.flatten(2).transpose(1, 2)


def to_map(tokens: Tensor, rows: int, patch: int) -> Tensor:
    """Every token is a patch, its values ordered by row, column, channel. (B, h w, P P C) -> (B, C, h P, w P)"""
    batch, count, values = tokens.shape
    grid = tokens.reshape(batch, rows, count // rows, patch, patch, values // patch**2)
    return grid.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)


def check_patches(x: Tensor, patch: int) -> None:
    height, width = x.shape[-2:]
    if height % patch or width % patch:
        raise UserError(f"patches cover the latent, so {patch} divides height and width: they are {height} x {width}")


def positions_2d(rows: int, columns: int, width: int, like: Tensor) -> Tensor:
    """Sines and cosines of a patch's column, then of its row: (h w, D), float64 where `like` is, else float32."""
    exact = torch.float64 if like.dtype == torch.float64 else torch.float32
    steps = torch.arange(width // 4, dtype=exact, device=like.device)
    speeds = MAX_PERIOD ** (-steps / (width // 4))  # (D / 4,)
    by_row = torch.arange(rows, dtype=exact, device=like.device)[:, None, None] * speeds  # (h, 1, D / 4)
    by_column = torch.arange(columns, dtype=exact, device=like.device)[None, :, None] * speeds  # (1, w, D / 4)
    shape = (rows, columns, width // 4)
    parts = [part.expand(shape) for part in (by_column.sin(), by_column.cos(), by_row.sin(), by_row.cos())]
    return torch.cat(parts, dim=-1).flatten(0, 1)
