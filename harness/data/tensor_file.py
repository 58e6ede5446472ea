"""A file of tensors that is filled in place: tables that are larger than memory.

The format is safetensors': 8 bytes with the length of a header of JSON, the header, and the tensors' bytes.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

import torch
from torch import Tensor

from harness.records.store import appearing

TYPES = {torch.float32: "F32", torch.bool: "BOOL"}
ALIGNMENT = 64
AT_ONCE = 1 << 24  # bytes of zeros

Shapes: TypeAlias = Mapping[str, tuple[torch.dtype, tuple[int, ...]]]


@contextmanager
def filling(path: Path, shapes: Shapes, metadata: Mapping[str, str]) -> Iterator[dict[str, Tensor]]:
    """Inside, tensors of these types and shapes, all zeros, which lie on the disk and not in memory. When the block
    ends well, what was written into them is the file `path`. UserError where it cannot be written."""
    places, size = _places(shapes)
    header: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    for name, (kind, shape) in shapes.items():
        start, stop = places[name]
        header[name] = {"dtype": TYPES[kind], "shape": list(shape), "data_offsets": [start, stop]}
    text = json.dumps(header).encode()
    text += b" " * (-(8 + len(text)) % ALIGNMENT)
    with appearing(path) as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for start in range(0, size, AT_ONCE):  # a full disk is found out here, and not by a map
            file.write(bytes(min(AT_ONCE, size - start)))
        file.flush()
        first = 8 + len(text)
        content = torch.from_file(file.name, shared=True, size=first + size, dtype=torch.uint8)
        yield {
            name: content[first + start : first + stop].view(shapes[name][0]).view(shapes[name][1])
            for name, (start, stop) in places.items()
        }


def _places(shapes: Shapes) -> tuple[dict[str, tuple[int, int]], int]:
    """The first and the last byte of each behind the header, with no gaps, which the format forbids; and their sum."""
    places, end = {}, 0
    for name, (kind, shape) in sorted(shapes.items(), key=lambda entry: -entry[1][0].itemsize):  # so all are aligned
        begin, end = end, end + torch.Size(shape).numel() * kind.itemsize
        places[name] = (begin, end)
    return places, end
