"""A picture's file to a square of uint8: `centre`, today's for any folder, or `adm`, the field's for ImageNet.

centre  upright by EXIF, transparency on white; short side to `size` (bicubic, antialiased), centre cropped
adm     as guided-diffusion reads ImageNet (Dhariwal and Nichol 2021, arXiv 2105.05233; `center_crop_arr` in its
        image_datasets.py), which published FIDs and their references are for: the file as it is stored, without EXIF,
        as RGB; while the short side is at least 2 size, halved by boxes, sides rounded down; then bicubic to
        round(side * size / short side) with Python's round, to the even one at a half; then the square that begins at
        floor((side - size) / 2)
"""

from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from harness.data.config import Crop
from harness.data.decode import TRANSFORM, UnreadableError, decode, to_array

TRANSFORMS: dict[Crop, str] = {"centre": TRANSFORM, "adm": "rgb,adm-box-halving,bicubic,centre-crop"}
"""Part of a data set's fingerprint."""

NO_LEVELS = ("I", "F")  # how Pillow's modes begin whose values are no 0..255


def square(content: bytes, crop: Crop, size: int, channels: int, bits: int | None = None) -> NDArray[np.uint8]:
    """(channels, size, size) of a file's content; UnreadableError for what cannot be read. `bits` as `decode` takes."""
    if crop == "centre":
        return to_array(decode(content, bits).image, size, channels)
    if channels != 3:
        raise ValueError(f"ADM's crop makes 3 channels, not {channels}")
    try:
        with Image.open(BytesIO(content)) as image:
            if image.mode.startswith(NO_LEVELS):
                raise UnreadableError(f"pixels of mode {image.mode}, which ADM's reading would cut at 255")
            return adm_square(image.convert("RGB"), size)
    except UnreadableError:
        raise
    except Exception as error:  # a broken file makes Pillow's plugins raise nearly anything
        raise UnreadableError(str(error) or type(error).__name__) from error


def adm_square(image: Image.Image, size: int) -> NDArray[np.uint8]:
    """(3, size, size) of an RGB picture."""
    while min(image.size) >= 2 * size:
        width, height = image.size
        image = image.resize((width // 2, height // 2), Image.Resampling.BOX)
    scale = size / min(image.size)
    width, height = (round(side * scale) for side in image.size)
    pixels = np.asarray(image.resize((width, height), Image.Resampling.BICUBIC), dtype=np.uint8)
    top, left = (height - size) // 2, (width - size) // 2
    return np.ascontiguousarray(pixels[top : top + size, left : left + size].transpose(2, 0, 1))
