"""What a UNet's stages consist of besides transformers: convolutions and the residual block."""

from collections import OrderedDict
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

from harness.architecture.kinds import builder_of
from harness.architecture.unet import UNetConfig


class Condition(NamedTuple):
    """What every block may look at besides the feature map."""

    time: Tensor  # (B, time_width), after its SiLU
    context: Tensor  # (B, T, context_width)
    mask: Tensor | None  # (B, 1, 1, T) bool, True where there is a token; None: all of them


class ResidualBlock(nn.Module):
    """norm, SiLU, conv, + time, norm, SiLU, conv, + shortcut. (B, c_in, H, W) -> (B, c_out, H, W)

    The convolutions are regular, or separable with `hidden` channels between them (an inverted bottleneck).
    """

    def __init__(self, config: UNetConfig, c_in: int, c_out: int) -> None:
        super().__init__()
        hidden = int(config.convolution.hidden_width(c_in, c_out))
        conv, norm = builder_of(config.convolution), builder_of(config.norm)
        self.norm1 = norm(config.norm, c_in)
        self.conv1 = conv(config.convolution, c_in, hidden)
        self.time = nn.Linear(config.time_width, hidden)
        self.norm2 = norm(config.norm, hidden)
        self.conv2 = conv(config.convolution, hidden, c_out)
        self.shortcut = nn.Conv2d(c_in, c_out, 1) if c_in != c_out else nn.Identity()

    def forward(self, x: Tensor, condition: Condition) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        h = h + self.time(condition.time)[:, :, None, None]
        h = self.conv2(F.silu(self.norm2(h)))
        out: Tensor = self.shortcut(x) + h
        return out


def residual_block(spec: Any, config: UNetConfig, c_in: int, c_out: int) -> nn.Module:  # noqa: ARG001
    return ResidualBlock(config, c_in, c_out)


def regular(spec: Any, c_in: int, c_out: int, stride: int = 1) -> nn.Module:
    """A convolution that keeps the size, or halves it with stride 2; so does `separable`."""
    return nn.Conv2d(c_in, c_out, spec.kernel_size, stride, padding=spec.kernel_size // 2)


def separable(spec: Any, c_in: int, c_out: int, stride: int = 1) -> nn.Module:
    """Depthwise, which looks around; then pointwise, which mixes channels and has the only bias."""
    kernel = spec.kernel_size
    depthwise = nn.Conv2d(c_in, c_in, kernel, stride, padding=kernel // 2, groups=c_in, bias=False)
    return nn.Sequential(OrderedDict(depthwise=depthwise, pointwise=nn.Conv2d(c_in, c_out, 1)))
