"""First weights: functions of the seed, and of the recipe's gain for depthwise kernels."""

import math

import torch
from torch import nn

from harness.architecture.catalogue import architecture
from harness.architecture.edits import with_edits
from harness.trials.network import initialised

SEPARABLE = with_edits(
    architecture("laptop/thin_sdxl"), {"convolution": {"kind": "separable", "expansion": 2, "samplers": "up"}}
)


def test_the_gain_is_of_depthwise_kernels_alone():
    plain, other = initialised(SEPARABLE, 3), initialised(SEPARABLE, 4)
    gained = dict(initialised(SEPARABLE, 3, depthwise_gain=2.0).named_parameters())
    assert any("depthwise" in name for name in gained)
    for name, weight in plain.named_parameters():
        assert torch.equal(gained[name], 2 * weight if "depthwise" in name else weight), name
    assert not torch.equal(plain.get_submodule("conv_in").weight, other.get_submodule("conv_in").weight)


def test_the_square_root_of_three_keeps_the_variance_through_a_depthwise_convolution():
    """And without it a third is left, as behind each of PyTorch's layers: two of them leave a ninth."""
    x = torch.randn(4, 32, 64, 64, generator=torch.Generator().manual_seed(0))
    for gain, kept in ((1.0, 1 / 3), (math.sqrt(3), 1.0)):
        network = initialised(SEPARABLE, 0, depthwise_gain=gain)
        kernels = [part for part in network.modules() if isinstance(part, nn.Conv2d) and part.groups == 32]
        outputs = [part(x)[..., 1:-1, 1:-1].var() for part in kernels]
        assert abs(torch.stack(outputs).mean().item() / kept - 1) < 0.15
