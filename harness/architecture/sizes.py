"""Which settings are sizes: numbers of channels, layers, heads or patches, which mean something beside the rest of one
network only. 16 channels are a third of a small network's width and nothing at all of a large one's; a ratio, a kernel
or a kind of attention means the same in both.

A setting is a size if its field says so: `channels: int = field(metadata=SIZE)`. A list's length is one too.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

SIZE = {"size": True}


def sizes(config: Any) -> dict[str, int]:
    """Every size in a configuration, by its dotted path."""
    return dict(_sizes(config, "", False))


def sizes_set(edits: Mapping[str, Any], before: Any, after: Any) -> tuple[str, ...]:
    """The paths of the sizes that `edits`, which make `after` of `before`, set: at an edit's path, or inside a knob
    that it replaces. A size that comes with another kind of block, which `before` has none of, belongs to that kind.
    """
    had = sizes(before)
    return tuple(path for path in sizes(after) if path in had and any(_within(path, edit) for edit in edits))


def _sizes(value: Any, path: str, is_size: bool) -> Iterator[tuple[str, int]]:
    if isinstance(value, tuple):
        yield path, len(value)
        for index, entry in enumerate(value):
            yield from _sizes(entry, f"{path}.{index}", is_size)
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            place = f"{path}.{field.name}" if path else field.name
            yield from _sizes(getattr(value, field.name), place, bool(field.metadata.get("size")))
    elif is_size:
        yield path, value


def _within(path: str, edit: str) -> bool:
    """Whether `path` is at or below `edit`, in which `*` is any entry of a list."""
    steps, pattern = path.split("."), edit.split(".")
    return len(steps) >= len(pattern) and all(b in ("*", a) for a, b in zip(steps, pattern, strict=False))
