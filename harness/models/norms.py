"""Norms of feature maps and of vectors. RMSNorm is written out, since `F.rms_norm` has no Core ML conversion."""

from typing import Any

import torch
from torch import Tensor, nn

RMS_EPS = 1e-6


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) * weight over `dim` (Zhang and Sennrich 2019, eq. 4)."""

    def __init__(self, width: int, *, eps: float = RMS_EPS, dim: int = -1) -> None:
        super().__init__()
        self.eps, self.dim = eps, dim
        self.weight = nn.Parameter(torch.ones(width if dim == -1 else (width, 1, 1)))

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.square().mean(self.dim, keepdim=True) + self.eps) * self.weight


class MapLayerNorm(nn.Module):
    """Layer norm over the channels of each pixel of x (B, C, H, W)."""

    def __init__(self, channels: int, *, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        centred = x - x.mean(1, keepdim=True)
        return centred * torch.rsqrt(centred.square().mean(1, keepdim=True) + self.eps) * self.weight + self.bias


def group_norm(spec: Any, channels: int, eps: float = 1e-5) -> nn.Module:
    return nn.GroupNorm(spec.groups, channels, eps=eps)


def map_layer_norm(spec: Any, channels: int, eps: float = 1e-5) -> nn.Module:  # noqa: ARG001
    return MapLayerNorm(channels, eps=eps)


def map_rms_norm(spec: Any, channels: int, eps: float = 1e-5) -> nn.Module:  # noqa: ARG001
    return RMSNorm(channels, eps=eps, dim=1)


def layer_norm(spec: Any, width: int) -> nn.Module:  # noqa: ARG001
    return nn.LayerNorm(width)


def rms_norm(spec: Any, width: int) -> nn.Module:  # noqa: ARG001
    return RMSNorm(width)
