"""Convolutions that keep the size, or halve it with stride 2."""

from collections import OrderedDict
from typing import Any

from torch import nn


def regular(spec: Any, c_in: int, c_out: int, stride: int = 1) -> nn.Module:
    return nn.Conv2d(c_in, c_out, spec.kernel_size, stride, padding=spec.kernel_size // 2)


def separable(spec: Any, c_in: int, c_out: int, stride: int = 1) -> nn.Module:
    """Depthwise, which looks around; then pointwise, which mixes channels and has the only bias."""
    kernel = spec.kernel_size
    depthwise = nn.Conv2d(c_in, c_in, kernel, stride, padding=kernel // 2, groups=c_in, bias=False)
    return nn.Sequential(OrderedDict(depthwise=depthwise, pointwise=nn.Conv2d(c_in, c_out, 1)))
