"""ADM's crop against its arithmetic, done by hand."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from harness.data.config import ImageFolderConfig
from harness.data.crop import adm_square, square
from harness.data.dataset import load_dataset
from harness.data.decode import UnreadableError, to_array
from harness.records.errors import UserError


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def channels_last(image: Image.Image) -> np.ndarray:
    return np.asarray(image).transpose(2, 0, 1)


def saved(image: Image.Image, kind: str = "PNG", **more) -> bytes:
    buffer = BytesIO()
    image.save(buffer, kind, **more)
    return buffer.getvalue()


@pytest.mark.parametrize(("width", "height", "left", "top"), [(8, 8, 0, 0), (13, 8, 2, 0), (8, 11, 0, 1)])
def test_a_picture_of_the_right_short_side_is_only_cut(width, height, left, top):
    """The crop begins at floor((side - S) / 2)."""
    image = noise(width, height)
    assert np.array_equal(adm_square(image, 8), channels_last(image)[:, top : top + 8, left : left + 8])


def test_halving_is_the_mean_of_boxes_with_sides_rounded_down():
    """Of 32 x 32 the means of pairs, along rows and then columns, each rounded; 32 x 33 -> 16 x 16 -> 8 x 8."""
    exact = noise(32, 32)
    along_rows = (channels_last(exact).astype(int).reshape(3, 32, 16, 2).sum(3) + 1) // 2
    along_columns = (along_rows.reshape(3, 16, 2, 16).sum(2) + 1) // 2
    assert np.array_equal(adm_square(exact, 16), along_columns)
    odd = noise(32, 33)
    by_hand = odd.resize((16, 16), Image.Resampling.BOX).resize((8, 8), Image.Resampling.BOX)
    assert np.array_equal(adm_square(odd, 8), channels_last(by_hand))


@pytest.mark.parametrize(("long_side", "rounded"), [(10, 8), (14, 10), (11, 8), (13, 10)])
def test_the_long_side_is_rounded_as_python_rounds(long_side, rounded):
    """S = 6 of a short side of 8: 7.5 -> 8, 10.5 -> 10, both to the even one; 8.25 -> 8, 9.75 -> 10."""
    image = noise(long_side, 8)
    resized = image.resize((rounded, 6), Image.Resampling.BICUBIC)
    left = (rounded - 6) // 2
    assert np.array_equal(adm_square(image, 6), channels_last(resized)[:, :, left : left + 6])


def test_a_small_picture_is_enlarged():
    image = noise(3, 5)
    by_hand = channels_last(image.resize((8, 13), Image.Resampling.BICUBIC))[:, 2:10]
    assert np.array_equal(adm_square(image, 8), by_hand)


def test_exif_does_not_turn_it_and_today_s_crop_does():
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    content = saved(noise(8, 8), exif=exif)
    as_stored = channels_last(noise(8, 8))
    assert np.array_equal(square(content, "adm", 8, 3), as_stored)
    assert np.array_equal(square(content, "centre", 8, 3), np.rot90(as_stored, -1, (1, 2)))


@pytest.mark.parametrize(("mode", "kind"), [("L", "JPEG"), ("CMYK", "JPEG"), ("RGBA", "PNG"), ("P", "PNG")])
def test_every_mode_is_read_as_rgb(mode, kind):
    content = saved(noise(9, 8).convert(mode), kind)
    with Image.open(BytesIO(content)) as stored:
        assert np.array_equal(square(content, "adm", 8, 3), adm_square(stored.convert("RGB"), 8))
    grey = square(saved(noise(9, 8).convert("L")), "adm", 8, 3)
    assert (grey[0] == grey[1]).all()
    assert (grey[0] == grey[2]).all()


def test_what_it_cannot_read():
    deep = Image.fromarray(np.full((8, 8), 40_000, dtype=np.uint16))
    with pytest.raises(UnreadableError, match=r"mode I;16, which ADM's reading would cut at 255"):
        square(saved(deep), "adm", 8, 3)
    with pytest.raises(UnreadableError):
        square(saved(noise(8, 8))[:60], "adm", 8, 3)


def test_as_a_setting_of_a_folder(tmp_path):
    for number in range(40):
        path = tmp_path / f"class{number % 2}" / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        noise(21, 18, number).save(path)
    plain, adm = (load_dataset(ImageFolderConfig(path=tmp_path, size=8, crop=crop)) for crop in ("centre", "adm"))
    assert adm.fingerprint != plain.fingerprint
    assert (plain.crop, adm.crop, adm.channels) == ("centre", "adm", 3)
    known = {adm_square(noise(21, 18, number), 8).tobytes() for number in range(40)}
    assert {adm.train[i][0].numpy().tobytes() for i in range(len(adm.train))} <= known
    centred = {to_array(noise(21, 18, number), 8, 3).tobytes() for number in range(40)}
    assert {plain.train[i][0].numpy().tobytes() for i in range(len(plain.train))} <= centred


def test_settings_that_do_not_go_with_it():
    with pytest.raises(UserError, match=r"leave data.bits=12 out"):
        ImageFolderConfig(crop="adm", bits=12)
    with pytest.raises(UserError, match=r"leave data.color=grayscale out"):
        ImageFolderConfig(crop="adm", color="grayscale")
