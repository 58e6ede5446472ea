"""The layers between stages, which double or halve a feature map's sides: what is moved, and the convolution.

    nearest           every pixel becomes a square of four, then the convolution: at the larger size
    pixel_shuffle     the convolution makes four times the channels, which become a square: at the smaller size
    strided           a convolution that looks at every second pixel
    pixel_unshuffle   a square of four pixels becomes four times the channels, then the convolution: at the smaller size

A 3 x 3 convolution behind `nearest` is one of `pixel_shuffle` with certain weights, and a strided one is one of
`pixel_unshuffle`: the shuffled ones can do all that the others can, with four times the weights. `pixel_shuffle` takes
as many multiply-adds as `nearest`, `pixel_unshuffle` four times as many as `strided`. First weights are PyTorch's.
"""

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from harness.architecture.kinds import builder_of
from harness.architecture.knobs import Convolution

SIDE = 2
"""Of the square that a pixel becomes."""


class NearestUpsample(nn.Module):
    """(B, c_in, H, W) -> (B, c_out, 2H, 2W)"""

    def __init__(self, _spec: Any, convolution: Convolution, c_in: int, c_out: int) -> None:
        super().__init__()
        self.conv = builder_of(convolution)(convolution, c_in, c_out)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(F.interpolate(x, scale_factor=float(SIDE), mode="nearest"))
        return out


class PixelShuffleUpsample(nn.Module):
    """(B, c_in, H, W) -> (B, c_out, 2H, 2W)"""

    def __init__(self, _spec: Any, convolution: Convolution, c_in: int, c_out: int) -> None:
        super().__init__()
        self.conv = builder_of(convolution)(convolution, c_in, SIDE**2 * c_out)

    def forward(self, x: Tensor) -> Tensor:
        return F.pixel_shuffle(self.conv(x), SIDE)


def strided(_spec: Any, convolution: Convolution, c_in: int, c_out: int) -> nn.Module:
    """(B, c_in, H, W) -> (B, c_out, H/2, W/2)"""
    module: nn.Module = builder_of(convolution)(convolution, c_in, c_out, SIDE)
    return module


class PixelUnshuffleDownsample(nn.Module):
    """(B, c_in, H, W) -> (B, c_out, H/2, W/2)"""

    def __init__(self, _spec: Any, convolution: Convolution, c_in: int, c_out: int) -> None:
        super().__init__()
        self.conv = builder_of(convolution)(convolution, SIDE**2 * c_in, c_out)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(F.pixel_unshuffle(x, SIDE))
        return out
