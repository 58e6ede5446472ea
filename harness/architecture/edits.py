"""One-knob edits by path: `with_edits(config, {"stages.1.block.self_attention": False})`."""

import copy
import dataclasses
import typing
from collections.abc import Iterator, Mapping
from typing import Any

from harness.architecture.config import ArchitectureConfig
from harness.records.errors import UserError, unknown_name
from harness.records.fields import forms
from harness.records.plain import Plain, from_plain, overwritten, tag_of, to_plain

OF_TRAINING = ("recipe", "objective", "initial")
"""The first names of paths that a rung or a knob may set beside the architecture's: of how it is trained."""

UNSET = object()
"""Stands in a plain form for a setting that has no default and is to be set yet."""


def with_edits(config: ArchitectureConfig, edits: Mapping[str, Any]) -> ArchitectureConfig:
    """A copy with other values at the given paths; checked once, when all of them are made.

    A path is dotted; `*` stands for every entry of a list (`stages.*.channels`) that has the rest of the path.
    A value may be a leaf or a whole knob (`{"self_attention": {"kind": "gqa", "groups": 2}}`, `"mqa"`), and later edits
    may set inside it: `{"feed_forward": "gelu", "feed_forward.ratio": 3}`.
    A path that does not exist, a wrong value or a broken rule is a UserError.
    """
    return from_plain(ArchitectureConfig, plain_with_edits(config, edits))


def parted(edits: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Those of the architecture, and those of how it is trained."""
    trained = {path: value for path, value in edits.items() if path.partition(".")[0] in OF_TRAINING}
    return {path: value for path, value in edits.items() if path not in trained}, trained


def plain_with_edits(config: ArchitectureConfig, edits: Mapping[str, Any]) -> Plain:
    """Its plain form; only paths are checked."""
    plain: Any = to_plain(config)
    for path, value in edits.items():
        places = list(_places(plain, path.split(".")))
        if not places:  # perhaps inside a knob that an earlier edit has named by its kind alone
            plain = _written_out(ArchitectureConfig, plain)
            places = list(_places(plain, path.split(".")))
        if not places:
            raise unknown_name("path of a knob", path, paths(plain))
        for holder, key in places:
            holder[key] = copy.deepcopy(to_plain(value))
    return typing.cast(Plain, _without_unset(plain))


def _written_out(hint: Any, plain: Any) -> Any:
    """With every knob as a mapping of all its settings: `gelu` is `{kind: gelu, ratio: 4.0}`."""
    if isinstance(plain, list):
        return [_written_out(hint, item) for item in plain]
    kinds = {tag_of(form): form for form in forms(hint)}
    kind = plain if isinstance(plain, str) else plain.get("kind") if isinstance(plain, dict) else None
    form = kinds.get(kind) or next(iter(kinds.values()), None)
    if form is None or (isinstance(plain, str) and plain not in kinds) or not isinstance(plain, str | dict):
        return plain
    hints = typing.get_type_hints(form)
    given = plain if isinstance(plain, dict) else {"kind": plain}
    settings = {field.name: _default(field) for field in dataclasses.fields(form)}
    return {name: _written_out(hints.get(name), value) for name, value in {**settings, **given}.items()}


def _default(field: "dataclasses.Field[Any]") -> Any:
    if field.default is not dataclasses.MISSING:
        return to_plain(field.default)
    return UNSET if field.default_factory is dataclasses.MISSING else to_plain(field.default_factory())


def _without_unset(plain: Any) -> Any:
    if isinstance(plain, list):
        return [_without_unset(item) for item in plain]
    if isinstance(plain, dict):
        return {key: _without_unset(value) for key, value in plain.items() if value is not UNSET}
    return plain


def both_set(other: str, before: str, name: str, path: str) -> UserError:
    """For two knobs, of which the later undoes what the earlier sets."""
    if path == before:
        return UserError(f"the knobs '{other}' and '{name}' both set {path}; make them one knob")
    return UserError(
        f"the knob '{name}' sets {path}, which undoes {before} of the knob '{other}' above it; put '{name}' first, or "
        "make them one knob"
    )


def paths(plain: Plain, path: str = "") -> Iterator[str]:
    """Every path that `with_edits` accepts, without wildcards: leaves and the knobs that hold them."""
    if path:
        yield path
    if isinstance(plain, dict | list):
        for key, value in plain.items() if isinstance(plain, dict) else enumerate(plain):
            yield from paths(value, f"{path}.{key}" if path else str(key))


def parse_edits(text: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The edits of a YAML file: a mapping from paths to values, each of which has an effect."""
    if not isinstance(text, Mapping) or not all(isinstance(path, str) for path in text):
        raise UserError(f"'{where}' must map paths of knobs to values, not {text!r}")
    if (lost := overwritten(text)) is not None:
        raise UserError(f"'{where}' sets {lost[0]}, and after it {lost[1]}, which undoes that; keep one, or turn them")
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
