"""One-knob edits by path: `with_edits(config, {"stages.1.block.self_attention": False})`."""

import copy
import typing
from collections.abc import Iterator, Mapping
from typing import Any

from harness.architecture.config import ArchitectureConfig
from harness.records.errors import UserError, unknown_name
from harness.records.plain import Plain, from_plain, to_plain


def with_edits(config: ArchitectureConfig, edits: Mapping[str, Any]) -> ArchitectureConfig:
    """A copy with other values at the given paths; checked once, when all of them are made.

    A path is dotted; `*` stands for every entry of a list (`stages.*.channels`) that has the rest of the path.
    A value may be a leaf or a whole knob (`{"self_attention": {"kind": "gqa", "groups": 2}}`, `"mqa"`).
    A path that does not exist, a wrong value or a broken rule is a UserError.
    """
    return from_plain(ArchitectureConfig, plain_with_edits(config, edits))


def plain_with_edits(config: ArchitectureConfig, edits: Mapping[str, Any]) -> Plain:
    """Its plain form; only paths are checked."""
    plain: Any = to_plain(config)
    for path, value in edits.items():
        places = list(_places(plain, path.split(".")))
        if not places:
            raise unknown_name("path of a knob", path, paths(plain))
        for holder, key in places:
            holder[key] = copy.deepcopy(to_plain(value))
    return typing.cast(Plain, plain)


def paths(plain: Plain, path: str = "") -> Iterator[str]:
    """Every path that `with_edits` accepts, without wildcards: leaves and the knobs that hold them."""
    if path:
        yield path
    if isinstance(plain, dict | list):
        for key, value in plain.items() if isinstance(plain, dict) else enumerate(plain):
            yield from paths(value, f"{path}.{key}" if path else str(key))


def parse_edits(text: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The edits of a YAML file: a mapping from paths to values."""
    if not isinstance(text, Mapping) or not all(isinstance(path, str) for path in text):
        raise UserError(f"'{where}' must map paths of knobs to values, not {text!r}")
    return dict(text)


def _places(plain: Any, steps: list[str]) -> Iterator[tuple[Any, Any]]:
    """The (holder, key) pairs that the path means in `plain`."""
    step, rest = steps[0], steps[1:]
    for key in _keys(plain, step):
        if rest:
            yield from _places(plain[key], rest)
        else:
            yield plain, key


def _keys(holder: Any, step: str) -> list[Any]:
    if isinstance(holder, dict):
        return [step] if step in holder else []
    if not isinstance(holder, list):
        return []
    if step == "*":
        return list(range(len(holder)))
    return [int(step)] if step.isdigit() and int(step) < len(holder) else []
