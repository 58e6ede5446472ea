"""Norms of feature maps and of vectors. RMSNorm is written out but on CUDA: `F.rms_norm` has no Core ML conversion.

In float32 and float64 they compute in the type of their input; of a bfloat16 or float16 input, in float32, and what
comes out is of the input's type again. A mean of squares in bfloat16 has 8 bits, and whether autocast widens it differs
between devices: nobody is asked to know.
"""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

RMS_EPS = 1e-6
EXACT = (torch.float32, torch.float64)


def in_float32(x: Tensor) -> Tensor:
    """x itself if it is float32 or float64, else as float32."""
    return x if x.dtype in EXACT else x.float()


def typed_as(h: Tensor, x: Tensor) -> Tensor:
    """h in x's type. (`h.to(x.dtype)` leaves an operator in an exported graph even where it changes nothing.)"""
    return h if h.dtype == x.dtype else h.to(x.dtype)


class GroupNorm(nn.GroupNorm):
    """PyTorch's, over x (B, C, H, W), in float32 or better."""

    def forward(self, x: Tensor) -> Tensor:
        if x.dtype in EXACT:
            return super().forward(x)
        weight, bias = (None if one is None else one.float() for one in (self.weight, self.bias))
        return F.group_norm(x.float(), self.num_groups, weight, bias, self.eps).to(x.dtype)


class LayerNorm(nn.LayerNorm):
    """PyTorch's, over the last axis, in float32 or better."""

    def forward(self, x: Tensor) -> Tensor:
        if x.dtype in EXACT:
            return super().forward(x)
        weight, bias = (None if one is None else one.float() for one in (self.weight, self.bias))
        return F.layer_norm(x.float(), self.normalized_shape, weight, bias, self.eps).to(x.dtype)


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) * weight over `dim` (Zhang and Sennrich 2019, eq. 4)."""

    weight_decay: ClassVar[dict[str, bool]] = {"weight": False}

    def __init__(self, width: int, *, eps: float = RMS_EPS, dim: int = -1) -> None:
        super().__init__()
        self.eps, self.dim = eps, dim
        self.weight = nn.Parameter(torch.ones(width if dim == -1 else (width, 1, 1)))

    def forward(self, x: Tensor) -> Tensor:
        h = in_float32(x)
        if h.is_cuda and self.dim == -1:  # one kernel instead of six
            return typed_as(F.rms_norm(h, (h.shape[-1],), self.weight, self.eps), x)
        return typed_as(h * torch.rsqrt(h.square().mean(self.dim, keepdim=True) + self.eps) * self.weight, x)


class MapLayerNorm(nn.Module):
    """Layer norm over the channels of each pixel of x (B, C, H, W)."""

    weight_decay: ClassVar[dict[str, bool]] = {"weight": False, "bias": False}

    def __init__(self, channels: int, *, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        h = in_float32(x)
        centred = h - h.mean(1, keepdim=True)
        scaled = centred * torch.rsqrt(centred.square().mean(1, keepdim=True) + self.eps)
        return typed_as(scaled * self.weight + self.bias, x)


def group_norm(spec: Any, channels: int, eps: float = 1e-5) -> nn.Module:
    return GroupNorm(spec.groups, channels, eps=eps)


def map_layer_norm(spec: Any, channels: int, eps: float = 1e-5) -> nn.Module:  # noqa: ARG001
    return MapLayerNorm(channels, eps=eps)


def map_rms_norm(spec: Any, channels: int, eps: float = 1e-5) -> nn.Module:  # noqa: ARG001
    return RMSNorm(channels, eps=eps, dim=1)


def layer_norm(spec: Any, width: int) -> nn.Module:  # noqa: ARG001
    return LayerNorm(width)


def rms_norm(spec: Any, width: int) -> nn.Module:  # noqa: ARG001
    return RMSNorm(width)
