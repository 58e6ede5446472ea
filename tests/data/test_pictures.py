"""Pictures that are scored as they are: by index, in an order of their content, from folders and .npz files."""

import numpy as np
import pytest
import torch
from pictures import deep_png
from PIL import Image

from harness.data.pictures import npz_labels, open_folder, open_npz
from harness.records.errors import UserError

PIXELS = np.random.default_rng(0).integers(0, 256, (7, 6, 6, 3), dtype=np.uint8)


@pytest.mark.parametrize("compressed", [False, True])
def test_an_npz_is_read_by_index_in_any_order(tmp_path, compressed):
    (np.savez_compressed if compressed else np.savez)(
        tmp_path / "a.npz", arr_0=PIXELS, arr_1=np.arange(7, dtype=np.int32)
    )
    pictures = open_npz(tmp_path / "a.npz")
    assert (pictures.count, pictures.shape) == (7, (3, 6, 6))
    whole = torch.from_numpy(PIXELS.transpose(0, 3, 1, 2).copy())
    for indices in (range(0, 3), range(3, 6), range(6, 7), range(2, 4), range(5, 7), range(7)):
        assert pictures.read(indices).equal(whole[indices.start : indices.stop]), indices
    assert npz_labels(tmp_path / "a.npz", 7).equal(torch.arange(7))
    with pytest.raises(UserError, match="must be 8 whole numbers, one a picture"):
        npz_labels(tmp_path / "a.npz", 8)


def folder(root, names):
    root.mkdir()
    for name, pixels in zip(names, PIXELS, strict=True):
        Image.fromarray(pixels).save(root / f"{name}.png")
    return root


def test_a_folder_is_read_as_it_is_in_an_order_that_names_do_not_change(tmp_path):
    one = open_folder(folder(tmp_path / "one", "abcdefg"))
    two = open_folder(folder(tmp_path / "two", "gcafbde"))
    assert (one.count, one.shape) == (7, (3, 6, 6))
    assert one.digest == two.digest
    read = one.read(range(7))
    assert read.equal(torch.cat([two.read(range(5)), two.read(range(5, 7))]))
    rows = {picture.numpy().tobytes() for picture in read.permute(0, 2, 3, 1).contiguous()}
    assert rows == {picture.tobytes() for picture in PIXELS}
    Image.fromarray(PIXELS[0] + 1).save(tmp_path / "two" / "a.png")
    assert open_folder(tmp_path / "two").digest != one.digest


@pytest.mark.parametrize(
    ("size", "sentence"),
    [((6, 7), "a.png is 6 x 6 and h.png 6 x 7; crop and resize"), ((8, 8), "a.png is 6 x 6 and h.png 8 x 8; crop")],
)
def test_a_folder_of_several_sizes_is_refused_with_two_of_them(tmp_path, size, sentence):
    root = folder(tmp_path / "one", "abcdefg")
    Image.new("RGB", size).save(root / "h.png")
    with pytest.raises(UserError, match=sentence):
        open_folder(root)


def test_twelve_bits_in_sixteen_are_refused(tmp_path):
    for number in range(3):
        (tmp_path / f"{number}.png").write_bytes(deep_png(np.full((6, 6), 4095 - number), 0))
    with pytest.raises(UserError, match=r"the 3 images of 16 bits .* they use 12 bits .* nearly black: convert them"):
        open_folder(tmp_path)
    (tmp_path / "3.png").write_bytes(deep_png(np.full((6, 6), 60_000), 0))
    assert open_folder(tmp_path).count == 4


def test_a_picture_that_is_cut_off_is_named(tmp_path):
    root = folder(tmp_path / "one", "abcdefg")
    (root / "c.png").write_bytes((root / "c.png").read_bytes()[:-40])
    with pytest.raises(UserError, match=r"c\.png cannot be read \(.*; remove it or put a whole one there"):
        open_folder(root).read(range(3))
    (root / "c.png").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"c\.png cannot be read"):
        open_folder(root)
