"""Bytes of an image file in, a square uint8 array out; what cannot be read says why.

extensions  the names of files that are read: those of Pillow's formats, and HEIC where pillow-heif is installed
peak_of     the largest value of a file of 16 bits a value, without decoding any other
decode      any file that Pillow reads -> an image of mode L or RGB, upright, transparency laid on white
to_array    -> (C, size, size) uint8: short side resized to `size` (bicubic, antialiased), centre cropped
"""

import functools
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError, features

TRANSFORM = "exif-upright,white,bicubic-antialias,centre-crop"  # part of a data set's fingerprint
GRAYSCALE_MODES = ("1", "L", "LA", "La")
HEIC = frozenset({".heic", ".heics", ".heif", ".heifs", ".hif"})
PNG, PNG_BITS, PNG_COLOUR_TYPE = b"\x89PNG\r\n\x1a\n", 24, 25  # the signature; offsets of two bytes of the header
PNG_GRAYSCALE = (0, 4)  # colour types: grayscale without and with alpha
TIFF_BITS = 258  # the tag BitsPerSample


class UnreadableError(Exception):
    """This file is not an image that can be read; the message is the reason."""


@dataclass(frozen=True, slots=True)
class Decoded:
    image: Image.Image  # of mode L or RGB
    peak: int = 0  # of a file with 16 bits a value: the largest value, as far as Pillow lets it be known; else 0
    frames: int = 1  # of which `image` is the first


@functools.cache
def extensions() -> frozenset[str]:
    """The extensions, in lower case, of the files that can be read."""
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        pass
    else:
        register_heif_opener()
    absent = set() if features.check("avif") else {".avif", ".avifs"}
    return frozenset(name for name, kind in Image.registered_extensions().items() if kind in Image.OPEN) - absent


def why_not_read(extension: str) -> str:
    """Why files with that extension, in lower case, are left out."""
    if extension in HEIC:
        return "reading them needs the package pillow-heif (pip install 'unet-harness[heic]')"
    if extension in (".avif", ".avifs"):
        return "this Pillow was built without AVIF; install another, or convert them"
    return "not an image's extension"


def decode(content: bytes, bits: int | None = None) -> Decoded:
    """The whole image; UnreadableError for what Pillow cannot decode to its last row.

    `bits` are how many the values of a 16-bit file use; None for all of them.
    """
    if not content:
        raise UnreadableError("an empty file")
    extensions()  # registers HEIC
    try:
        with Image.open(BytesIO(content)) as image:
            frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)  # MPO: a photo and its previews
            image.load()
            if image.format == "PPM" and image.mode == "I":  # says its largest value, to which Pillow has scaled it
                return Decoded(Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)))
            deep = _bits_a_value(image, content) == 16
            flat, peak = _flatten(ImageOps.exif_transpose(image), content, deep, bits or 16)
            return Decoded(flat, peak, frames)
    except UnreadableError:
        raise
    except Exception as error:  # a broken file makes Pillow's plugins raise nearly anything
        raise UnreadableError(_reason(error)) from error


def peak_of(content: bytes) -> int:
    """`Decoded.peak` of a file; of one that has no 16 bits a value, or cannot be read, 0, by its header alone."""
    extensions()  # registers HEIC
    try:
        with Image.open(BytesIO(content)) as image:
            if _bits_a_value(image, content) != 16:
                return 0
        return decode(content).peak
    except Exception:  # a broken file makes Pillow's plugins raise nearly anything; whoever reads it says so
        return 0


def to_array(image: Image.Image, size: int, channels: int) -> NDArray[np.uint8]:
    """(channels, size, size); channels is 1 or 3."""
    square = ImageOps.fit(image.convert("L" if channels == 1 else "RGB"), (size, size), Image.Resampling.BICUBIC)
    pixels = np.asarray(square, dtype=np.uint8)
    return pixels[None] if channels == 1 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _bits_a_value(image: Image.Image, content: bytes) -> int:
    """As the file stores them: Pillow keeps the upper 8 of 16 where there are colours, and says nothing of it."""
    if image.mode.startswith("I;16"):
        return 16
    if image.format == "PNG" and content.startswith(PNG):
        return content[PNG_BITS]
    if image.format == "TIFF":
        return int(max(image.tag_v2.get(TIFF_BITS, (8,))))  # type: ignore[attr-defined]
    return 8


def _flatten(image: Image.Image, content: bytes, deep: bool, bits: int) -> tuple[Image.Image, int]:
    """Mode L or RGB, and the largest value of a file of 16 bits."""
    if image.mode.startswith("I;16"):
        return _upper_bits(image, bits)
    if image.mode in ("I", "F"):
        raise UnreadableError(f"pixels of mode {image.mode} have no fixed range")
    peak = 0
    if deep:
        colours = image.getextrema()[:3] if len(image.getbands()) > 1 else (image.getextrema(),)
        peak = max(int(high) for _, high in colours) << 8 | 255  # type: ignore[misc,arg-type]
        if bits < 16:
            raise UnreadableError(
                f"of 16 bits a colour only the upper 8 are read, and data.bits={bits} needs the lower"
            )
    gray = image.mode in GRAYSCALE_MODES or (content.startswith(PNG) and content[PNG_COLOUR_TYPE] in PNG_GRAYSCALE)
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return image.convert("L" if gray else "RGB"), peak


def _upper_bits(image: Image.Image, bits: int) -> tuple[Image.Image, int]:
    """The upper 8 of the `bits` used; a value that stands for transparency becomes white."""
    values = np.asarray(image).astype(np.uint16)
    peak = int(values.max())
    if peak >= 1 << bits:
        raise UnreadableError(f"it holds {peak}, more than data.bits={bits} bits can")
    pixels = (values >> (bits - 8)).astype(np.uint8)
    if (clear := image.info.get("transparency")) is not None:
        pixels[values == clear] = 255
    return Image.fromarray(pixels), peak


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "not an image"
    return " ".join((str(error) or type(error).__name__).split())[:120]
