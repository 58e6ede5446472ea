"""Which settings are sizes: numbers of channels, layers, heads or patches, which mean something beside the rest of one
network only. 16 channels are a third of a small network's width and nothing at all of a large one's; a ratio, a kernel
or a kind of attention means the same in both.

A setting is a size if its field says so: `channels: int = field(metadata=SIZE)`. A list's length is one too. The depth
of a block's kind is a part of the kind: a transformer of one layer in the place of a convolution is that in both. Its
field says `metadata=SIZE_OF_KIND`. Key-value heads and groups of channels are no such part: 2 of a small network's 4
heads are half of them, and of a large one's 20 a tenth.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

SIZE = {"size": True}
SIZE_OF_KIND = {"size": True, "of_kind": True}


def sizes(config: Any) -> dict[str, int]:
    """Every size in a configuration, by its dotted path."""
    return {path: size for path, size, _ in _sizes(config, "", SIZELESS)}


def sizes_set(edits: Mapping[str, Any], before: Any, after: Any) -> tuple[str, ...]:
    """The paths of the sizes that `edits`, which make `after` of `before`, set: at an edit's path, or inside a knob
    that it replaces; without those that come with another kind of block, and the length of a list in the place of one
    number, which `before` has none of.
    """
    had = sizes(before)
    set_by_edits = (each for each in _sizes(after, "", SIZELESS) if any(_within(each[0], edit) for edit in edits))
    return tuple(path for path, _, of_kind in set_by_edits if path in had or not of_kind)


SIZELESS: Mapping[str, bool] = {}


def _sizes(value: Any, path: str, metadata: Mapping[str, bool]) -> Iterator[tuple[str, int, bool]]:
    """(path, size, whether it is of a kind)"""
    if isinstance(value, tuple):
        yield path, len(value), True
        for index, entry in enumerate(value):
            yield from _sizes(entry, f"{path}.{index}", metadata)
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            place = f"{path}.{field.name}" if path else field.name
            yield from _sizes(getattr(value, field.name), place, field.metadata)
    elif metadata.get("size"):
        yield path, value, bool(metadata.get("of_kind"))


def _within(path: str, edit: str) -> bool:
    """Whether `path` is at or below `edit`, in which `*` is any entry of a list."""
    steps, pattern = path.split("."), edit.split(".")
    return len(steps) >= len(pattern) and all(b in ("*", a) for a, b in zip(steps, pattern, strict=False))
