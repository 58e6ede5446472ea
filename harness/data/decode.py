"""Bytes of an image file in, a square uint8 array out; what cannot be read says why.

decode    any file that Pillow reads -> an image of mode L or RGB, upright, transparency laid on white
to_array  -> (C, size, size) uint8: short side resized to `size` (bicubic, antialiased), centre cropped
"""

from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

TRANSFORM = "exif-upright,white,bicubic-antialias,centre-crop"  # part of a data set's fingerprint
GRAYSCALE_MODES = ("1", "L", "LA", "La", "I;16", "I;16B", "I;16L", "I;16N")


class UnreadableError(Exception):
    """This file is not an image that can be read; the message is the reason."""


def decode(content: bytes) -> Image.Image:
    """The whole image as mode L or RGB; UnreadableError for what Pillow cannot decode to its last row."""
    try:
        with Image.open(BytesIO(content)) as image:
            image.load()
            return _flatten(ImageOps.exif_transpose(image))
    except UnreadableError:
        raise
    except Exception as error:  # a broken file makes Pillow's plugins raise nearly anything
        raise UnreadableError(_reason(error)) from error


def to_array(image: Image.Image, size: int, channels: int) -> NDArray[np.uint8]:
    """(channels, size, size); channels is 1 or 3."""
    square = ImageOps.fit(image.convert("L" if channels == 1 else "RGB"), (size, size), Image.Resampling.BICUBIC)
    pixels = np.asarray(square, dtype=np.uint8)
    return pixels[None] if channels == 1 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _flatten(image: Image.Image) -> Image.Image:
    gray = image.mode in GRAYSCALE_MODES
    if image.mode.startswith("I;16"):  # 16 bits: keep the upper 8
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise UnreadableError(f"pixels of mode {image.mode} have no fixed range")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return image.convert("L" if gray else "RGB")


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "not an image"
    return " ".join((str(error) or type(error).__name__).split())[:120]
