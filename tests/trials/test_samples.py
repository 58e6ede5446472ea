"""First weights: functions of the seed, and of the recipe's gain for depthwise kernels. Grids: image i stands where a
reader expects it."""

import math

import numpy as np
import torch
from torch import nn

from harness.architecture.catalogue import architecture
from harness.architecture.edits import with_edits
from harness.trials.samples import by_class, grid, initialised_network

SEPARABLE = with_edits(
    architecture("laptop/thin_sdxl"), {"convolution": {"kind": "separable", "expansion": 2, "resampling": "up"}}
)


def test_the_gain_is_of_depthwise_kernels_alone():
    plain, other = initialised_network(SEPARABLE, 3), initialised_network(SEPARABLE, 4)
    gained = dict(initialised_network(SEPARABLE, 3, depthwise_gain=2.0).named_parameters())
    assert any("depthwise" in name for name in gained)
    for name, weight in plain.named_parameters():
        assert torch.equal(gained[name], 2 * weight if "depthwise" in name else weight), name
    assert not torch.equal(plain.get_submodule("conv_in").weight, other.get_submodule("conv_in").weight)


def test_the_square_root_of_three_keeps_the_variance_through_a_depthwise_convolution():
    """And without it a third is left, as behind each of PyTorch's layers: two of them leave a ninth."""
    x = torch.randn(4, 32, 64, 64, generator=torch.Generator().manual_seed(0))
    for gain, kept in ((1.0, 1 / 3), (math.sqrt(3), 1.0)):
        network = initialised_network(SEPARABLE, 0, depthwise_gain=gain)
        kernels = [part for part in network.modules() if isinstance(part, nn.Conv2d) and part.groups == 32]
        outputs = [part(x)[..., 1:-1, 1:-1].var() for part in kernels]
        assert abs(torch.stack(outputs).mean().item() / kept - 1) < 0.15


def test_image_i_stands_in_row_i_over_columns():
    images = torch.arange(5, dtype=torch.uint8).reshape(5, 1, 1, 1).expand(5, 1, 32, 32).contiguous()
    sheet = grid(images, columns=2, gap=2)
    assert sheet.shape == (3 * 34 - 2, 2 * 34 - 2)
    places = ((0, 0), (0, 1), (1, 0), (1, 1), (2, 0))
    assert [int(sheet[34 * row, 34 * column]) for row, column in places] == [0, 1, 2, 3, 4]
    assert (sheet[68:, 34:] == 255).all()


def test_small_images_are_enlarged_by_whole_pixels():
    image = torch.randint(0, 255, (1, 3, 8, 8), dtype=torch.uint8)
    sheet = grid(image)[:32, :32]
    assert np.array_equal(sheet[::4, ::4], image[0].permute(1, 2, 0).numpy())
    assert np.array_equal(sheet[3::4, 3::4], sheet[::4, ::4])


def test_a_grid_by_class_has_the_classes_that_come_first_in_order_and_white_for_what_is_missing():
    labels = torch.tensor([7, 3, 3, 1, 7, 3, 3])
    images = (10 * labels + torch.arange(7)).to(torch.uint8).view(-1, 1, 1, 1)
    shown, columns = by_class(images, labels, rows=3, most_columns=2)
    assert columns == 2
    assert shown.flatten().tolist() == [31, 70, 32, 74, 35, 255]
