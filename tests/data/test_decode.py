"""Bytes in, pixels out: every depth, mode and format says what it shows, or why it cannot be read."""

import io
import sys

import numpy as np
import pytest
from pictures import deep_png
from PIL import Image

from harness.data import decode as decode_module
from harness.data.decode import UnreadableError, decode, extensions, to_array, why_not_read

RAMP = np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000  # up to 63,000: all 16 bits


def saved(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def colours(values: np.ndarray, *, alpha: bool = False, copies: int = 3) -> np.ndarray:
    return np.stack([values] * copies + [np.full_like(values, 65535)] * alpha, axis=-1)


@pytest.mark.parametrize(
    ("content", "mode"),
    [
        (deep_png(RAMP, 0), "L"),
        (deep_png(colours(RAMP), 2), "RGB"),
        (deep_png(colours(RAMP, alpha=True), 6), "RGB"),
        (deep_png(colours(RAMP, alpha=True, copies=1), 4), "L"),
        (saved(Image.fromarray(RAMP), "TIFF"), "L"),
        (b"P5\n8 8\n65535\n" + RAMP.astype(">u2").tobytes(), "L"),
    ],
    ids=["gray", "rgb", "rgba", "gray with alpha", "tiff", "pgm"],
)
def test_sixteen_bits_keep_their_upper_eight(content, mode):
    decoded = decode(content)
    assert decoded.image.mode == mode
    pixels = np.asarray(decoded.image.convert("L")).astype(int)
    assert np.abs(pixels - (RAMP >> 8)).max() <= 1


@pytest.mark.parametrize(
    ("content", "peak"),
    [
        (deep_png(RAMP, 0), 63_000),
        (deep_png(RAMP >> 4, 0), 3937),
        (deep_png(colours(RAMP >> 4), 2), 4095),  # by the upper 8 bits, the others are not known
        (saved(Image.new("L", (8, 8), 9), "PNG"), 0),
    ],
)
def test_the_largest_value_of_sixteen_bits_is_known(content, peak):
    assert decode(content).peak == peak


def test_twelve_bits_in_sixteen_are_read_where_that_is_said():
    values = RAMP >> 4
    assert np.array_equal(np.asarray(decode(deep_png(values, 0), 12).image), values >> 4)
    with pytest.raises(UnreadableError, match=r"it holds 63000, more than data\.bits=12"):
        decode(deep_png(RAMP, 0), 12)
    with pytest.raises(UnreadableError, match=r"only the upper 8 are read, and data\.bits=12 needs the lower"):
        decode(deep_png(colours(values), 2), 12)


def test_a_pgm_says_its_largest_value_itself():
    twelve = b"P5\n8 8\n4095\n" + (RAMP >> 4).astype(">u2").tobytes()
    assert np.abs(np.asarray(decode(twelve).image).astype(int) - (RAMP >> 8)).max() <= 1


def test_a_value_that_stands_for_transparency_lies_on_white():
    pixels = np.asarray(decode(saved(Image.fromarray(RAMP), "PNG", transparency=5000)).image)
    assert pixels[0, 5] == 255
    assert pixels[0, 4] == 4000 >> 8


@pytest.mark.parametrize(
    ("image", "kind", "expected"),
    [
        (Image.new("1", (8, 8), 1), "PNG", (255, 255, 255)),
        (Image.new("CMYK", (8, 8), (0, 255, 0, 0)), "TIFF", (255, 0, 255)),
        (Image.new("YCbCr", (8, 8), (128, 128, 128)), "JPEG", (128, 128, 128)),
        (Image.new("RGBA", (8, 8), (10, 20, 30, 0)), "WEBP", (255, 255, 255)),
    ],
    ids=["1", "CMYK", "YCbCr", "RGBA"],
)
def test_every_mode_shows_what_was_stored(image, kind, expected):
    options = {"lossless": True} if kind == "WEBP" else {}
    assert (
        np.abs(to_array(decode(saved(image, kind, **options)).image, 8, 3)[:, 0, 0].astype(int) - expected).max() <= 1
    )


def test_a_palette_with_a_transparent_entry_lies_on_white():
    image = Image.new("P", (8, 8), 0)
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((0, 0), 1)
    pixels = np.asarray(decode(saved(image, "PNG", transparency=0)).image)
    assert pixels[0, 0].tolist() == [200, 100, 50]
    assert pixels[1, 1].tolist() == [255, 255, 255]


def test_a_photo_stands_upright():
    image = Image.new("L", (8, 4), 0)
    image.putpixel((0, 0), 255)
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to show
    upright = decode(saved(image, "PNG", exif=exif)).image
    assert upright.size == (4, 8)
    assert upright.getpixel((3, 0)) == 255


def test_an_animation_is_its_first_frame_and_says_so():
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue", "green")]
    decoded = decode(saved(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    assert decoded.frames == 3
    assert np.asarray(decoded.image)[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("kind", ["AVIF", "HEIF"])
def test_avif_and_heic_are_read(kind):
    if kind == "HEIF":
        pytest.importorskip("pillow_heif")
    assert {".avif", ".heic"} & extensions()
    pixels = np.asarray(decode(saved(Image.new("RGB", (64, 64), (200, 30, 60)), kind, quality=95)).image).astype(int)
    assert np.abs(pixels - (200, 30, 60)).max() < 12


def test_without_pillow_heif_heic_is_left_out_with_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)  # importing it is an error
    monkeypatch.setattr(Image, "EXTENSION", {k: v for k, v in Image.EXTENSION.items() if k not in decode_module.HEIC})
    assert ".heic" not in extensions.__wrapped__()
    assert why_not_read(".heic") == "reading them needs the package pillow-heif (pip install 'unet-harness[heic]')"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "an empty file"),
        (b"not an image", "not an image"),
        (saved(Image.new("F", (8, 8)), "TIFF"), "pixels of mode F have no fixed range"),
        (saved(Image.new("RGB", (64, 64)), "JPEG")[:300], "(?i)truncated"),
    ],
    ids=["empty", "text", "floating point", "cut off"],
)
def test_what_cannot_be_read_says_why(content, reason):
    with pytest.raises(UnreadableError, match=reason):
        decode(content)


def test_an_image_too_large_to_decode_is_one_sentence(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(UnreadableError, match=r"Image size \(10000 pixels\) exceeds limit"):
        decode(saved(Image.new("L", (100, 100)), "PNG"))
