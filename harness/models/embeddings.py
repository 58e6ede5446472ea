"""Embeddings of time and of position."""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.models.norms import in_float32, typed_as

TIME_SCALE = 1000.0  # times in [0, 1] spread over the range that the frequencies were made for
MAX_PERIOD = 10000.0


def sinusoids(time: Tensor, features: int) -> Tensor:
    """cos and sin of 1000 t / 10000^(i / n) for i < n = features / 2 (Vaswani et al. 2017, 3.5). (B,) -> (B, features).

    Cosines come first, as in diffusers' SDXL (`flip_sin_to_cos`). Computed in float32 or better, whatever `time` is.
    """
    half = features // 2
    exact = time.double() if time.dtype == torch.float64 else time.float()
    exponents = -math.log(MAX_PERIOD) * torch.arange(half, dtype=exact.dtype, device=time.device) / half
    angles = TIME_SCALE * exact[:, None] * exponents.exp()
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


class TimeEmbedding(nn.Module):
    """Sinusoids, linear, SiLU, linear; and the SiLU that every residual block would begin with, once for all."""

    def __init__(self, features: int, width: int) -> None:
        super().__init__()
        self.features = features
        self.linear1 = nn.Linear(features, width)
        self.linear2 = nn.Linear(width, width)

    def forward(self, time: Tensor) -> Tensor:  # (B,) -> (B, width)
        h = sinusoids(time, self.features).to(self.linear1.weight.dtype)
        return F.silu(self.linear2(F.silu(self.linear1(h))))


class Rotation(NamedTuple):
    """Angles of the tokens of one feature map; position-dependent, so made anew for every size."""

    cos: Tensor  # (T, 1, D), T = H * W in row-major order
    sin: Tensor  # (T, 1, D)

    def __call__(self, x: Tensor) -> Tensor:
        """Turn each channel pair (i, i + D/2) of x (B, T, heads, D) by its angle: (a, b) -> (a cos - b sin, ...).

        In float32 or better; what comes out is of x's type.
        """
        h = in_float32(x)
        a, b = h.chunk(2, dim=-1)
        return typed_as(h * self.cos + torch.cat([-b, a], dim=-1) * self.sin, x)


class Rope2d(nn.Module):
    """Rotary position embedding in two dimensions (Su et al. 2021; axial as in Heo et al. 2024, arXiv 2403.13298).

    Of a head's D/2 channel pairs, the first half turns by row, the second by column: pair i of an axis by
    position * base^(-i / (D/4)). So the score of two tokens depends on their distance in rows and columns only.
    """

    def __init__(self, spec: Any, head_dim: int) -> None:
        super().__init__()
        self.base, self.head_dim = float(spec.base), head_dim

    def forward(self, height: int, width: int, like: Tensor) -> Rotation:
        """The rotation for a map of that size, on the device of `like`; float64 where `like` is, else float32."""
        n = self.head_dim // 4
        exact = torch.float64 if like.dtype == torch.float64 else torch.float32
        steps = torch.arange(n, dtype=exact, device=like.device)
        speeds = torch.exp(-math.log(self.base) / n * steps)  # (D/4,)
        rows = torch.arange(height, dtype=exact, device=like.device)[:, None, None] * speeds  # (H, 1, D/4)
        columns = torch.arange(width, dtype=exact, device=like.device)[None, :, None] * speeds  # (1, W, D/4)
        shape = (height, width, n)
        angles = torch.cat([rows.expand(shape), columns.expand(shape)], dim=-1).reshape(height * width, 1, 2 * n)
        angles = torch.cat([angles, angles], dim=-1)  # (T, 1, D)
        return Rotation(angles.cos(), angles.sin())
