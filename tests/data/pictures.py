"""Small real image files for the tests of what users bring."""

import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image


def write_image(path: Path, seed: int, *, mode: str = "RGB", size: tuple[int, int] = (40, 36)) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).convert(mode).save(path)


def write_folder(folder: Path, classes: tuple[str, ...], *, each: int = 20, seed: int = 0) -> Path:
    for index, name in enumerate(classes):
        for number in range(each):
            write_image(folder / name / f"{number}.png", seed + 100 * index + number, size=(10, 9))
    return folder


def deep_png(values: np.ndarray, colour_type: int) -> bytes:
    """A PNG file of 16 bits a value, which Pillow writes for grayscale only: values (H, W) or (H, W, channels)."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, colour_type, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
