"""Grids: image i stands where a reader expects it."""

import numpy as np
import torch

from harness.trials.images import by_class, grid


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
