"""Frozen dataclasses to plain JSON and back, strictly, the fingerprint of plain JSON, and where two of them differ.

Plain means what JSON and YAML can hold: mappings, lists, strings, numbers, booleans, null.
`from_plain` refuses unknown keys, missing keys and wrong types with the path of the value.
"""

import dataclasses
import functools
import hashlib
import json
import math
import re
import types
import typing
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar, Union, get_args, get_origin

from harness.records.errors import UserError, unknown_name

Plain: TypeAlias = bool | int | float | str | list["Plain"] | dict[str, "Plain"] | None
T = TypeVar("T")

LONGEST_RANGE = 100  # so far the numbers of a range are written out as advice
NOT_IDENTITY = {"identity": False}
"""`field(metadata=NOT_IDENTITY)` marks a setting that cannot change a result: workers, paths, how often to save."""

IDENTITY_UNLESS_DEFAULT = {"identity": "unless default"}
"""`field(default=..., metadata=IDENTITY_UNLESS_DEFAULT)` marks a setting whose default is what all did before it
existed: records of then keep their keys."""


def to_plain(value: Any) -> Plain:
    """Dataclasses become mappings, tuples lists, paths strings."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"{type(value).__name__} has no plain form")


def identity(value: Any) -> Plain:
    """`to_plain` without the fields that cannot change a result, or do not: see the marks above."""
    if isinstance(value, Mapping):
        return {str(key): identity(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [identity(item) for item in value]
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return to_plain(value)
    fields = (field for field in dataclasses.fields(value) if _is_identity(field, getattr(value, field.name)))
    return {field.name: identity(getattr(value, field.name)) for field in fields}


def _is_identity(field: dataclasses.Field[Any], value: Any) -> bool:
    mark = field.metadata.get("identity", True)
    return value != field.default if mark == "unless default" else bool(mark)


def canonical_json(value: Any) -> str:
    """One text for one meaning: sorted keys, no spaces, 1.0 written as 1, NaN refused."""
    return json.dumps(
        _integral(to_plain(value)), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def fingerprint(value: Any, *, schema: str) -> str:
    """The first 16 hex digits of the sha256 of the canonical JSON, under a schema name and version."""
    return hashlib.sha256(f"{schema}\n{canonical_json(value)}".encode()).hexdigest()[:16]


def from_plain(cls: type[T], data: Any, *, where: str = "") -> T:
    """Build the dataclass `cls` from plain data; a wrong key or type is a UserError that names its path.

    `cls` may also be a union of dataclasses that are told apart by their field `kind: Literal["..."]`, or a class with
    a table `forms` of such dataclasses.
    """
    if get_origin(cls) in (Union, types.UnionType):
        return typing.cast(T, _cast_union(get_args(cls), data, where))
    if "forms" in vars(cls):
        return typing.cast(T, _cast_open_union(cls, data, where))
    if not isinstance(data, Mapping):
        raise UserError(f"{where or cls.__name__} must be a mapping of settings, not {_shown(data)}")
    hints = _hints(cls)
    fields = {field.name: field for field in dataclasses.fields(cls) if field.init}  # type: ignore[arg-type]
    for key in data:
        if key not in fields:
            raise unknown_name("setting", _join(where, str(key)), (_join(where, name) for name in fields))
    missing = [name for name, field in fields.items() if name not in data and _required(field)]
    if missing:
        choices = get_args(hints[missing[0]]) if get_origin(hints[missing[0]]) is Literal else ()
        advice = f"choose one of: {', '.join(map(str, choices))}" if choices else "give it a value"
        raise UserError(f"missing setting '{_join(where, missing[0])}', which has no default; {advice}")
    values = {key: _cast(hints[key], item, _join(where, str(key))) for key, item in data.items()}
    return typing.cast(T, None) if _types_alone.get() else cls(**values)


_types_alone: ContextVar[bool] = ContextVar("types alone", default=False)


def check_types(cls: type[Any], data: Any, *, where: str = "") -> None:
    """Refuse what `from_plain` refuses whatever the values of other keys are: wrong keys, missing keys, wrong types."""
    token = _types_alone.set(True)
    try:
        from_plain(cls, data, where=where)
    finally:
        _types_alone.reset(token)


def _hints(cls: Any) -> dict[str, Any]:
    return _type_hints(cls)


_type_hints = functools.cache(typing.get_type_hints)  # a store of thousands of records is read through this


def _required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _join(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key


def _cast(hint: Any, value: Any, where: str) -> Any:
    origin, args = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if isinstance(hint, type) and "forms" in vars(hint):
        return _cast_open_union(hint, value, where)
    if origin in (Union, types.UnionType):
        return _cast_union(args, value, where)
    if origin is Literal:
        if not any(type(value) is type(arg) and value == arg for arg in args):
            raise unknown_name(f"value for '{where}':", str(value), map(str, args))
        return value
    if origin is tuple:
        return _cast_tuple(args, value, where)
    if origin in (dict, Mapping):
        if not isinstance(value, Mapping):
            raise _wrong("a mapping", value, where)
        return {str(key): _cast(args[1], item, _join(where, str(key))) for key, item in value.items()}
    if dataclasses.is_dataclass(hint):
        return from_plain(hint, value, where=where)  # type: ignore[arg-type]
    return _cast_scalar(hint, value, where)


def _cast_union(args: tuple[Any, ...], value: Any, where: str) -> Any:
    if value is None:
        if type(None) in args:
            return None
        raise _wrong("a value", value, where)
    choices = [arg for arg in args if arg is not type(None)]
    if sum(map(dataclasses.is_dataclass, choices)) == 1:  # a mapping can be nothing else, and it no other value
        choices = [arg for arg in choices if dataclasses.is_dataclass(arg) is isinstance(value, Mapping)]
    if sum(get_origin(choice) is tuple for choice in choices) == 1:  # nor a list
        choices = [arg for arg in choices if (get_origin(arg) is tuple) is isinstance(value, list | tuple)]
    if len(choices) == 1:
        return _cast(choices[0], value, where)
    by_kind = {tag_of(choice): choice for choice in choices}
    if None not in by_kind:
        if not isinstance(value, Mapping):
            raise _wrong("a mapping of settings", value, where)
        kind = str(value.get("kind", ""))
        if kind not in by_kind:
            raise unknown_name(f"value for '{_join(where, 'kind')}':", kind, map(str, by_kind))
        return _cast(by_kind[kind], value, where)
    problems = []
    for choice in choices:
        try:
            return _cast(choice, value, where)
        except UserError as error:
            problems.append(str(error))
    raise UserError(f"'{where}' fits none of its forms: {'; '.join(problems)}")


def _cast_open_union(hint: Any, value: Any, where: str) -> Any:
    """A class with a table `forms` from kind to dataclass, to which kinds are added; `name` is short for its kind.

    The form "" is the one that is meant where no kind is named.
    """
    mapping = {"kind": value} if isinstance(value, str) else value
    kinds = sorted(filter(None, hint.forms))
    if not isinstance(mapping, Mapping) or ("kind" not in mapping and "" not in hint.forms):
        raise _wrong(f"a mapping with a 'kind' out of {', '.join(kinds)}", value, where or hint.__name__)
    kind = mapping.get("kind", "")
    if "kind" in mapping and kind not in kinds:
        raise unknown_name(f"value for '{_join(where, 'kind')}':", str(kind), kinds)
    return from_plain(hint.forms[kind], mapping, where=where)


def tag_of(choice: Any) -> str | None:
    """The tag of a dataclass that has a field `kind: Literal["tag"]`: it says which of a union's forms is meant."""
    hint = _hints(choice).get("kind") if dataclasses.is_dataclass(choice) else None
    return str(get_args(hint)[0]) if get_origin(hint) is Literal else None


def _cast_tuple(args: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        shown = "" if isinstance(value, Mapping | None) else _listed(value) or _shown(value)
        raise UserError(f"{_wrong('a list', value, where)}{f'; write [{shown}]' if shown else ''}")
    if len(value) == 1 and args[0] is not str and (shown := _listed(value[0])):
        raise UserError(f"{_wrong('a list with commas between its values', value, where)}; write [{shown}]")
    if len(args) == 2 and args[1] is Ellipsis:
        return tuple(_cast(args[0], item, f"{where}.{index}") for index, item in enumerate(value))
    if len(args) != len(value):
        raise _wrong(f"a list of {len(args)} values", value, where)
    return tuple(
        _cast(arg, item, f"{where}.{index}") for index, (arg, item) in enumerate(zip(args, value, strict=True))
    )


def _cast_scalar(hint: Any, value: Any, where: str) -> Any:
    if hint is Path and isinstance(value, str | Path) and value != "":
        return Path(value)
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        if not math.isfinite(value):  # JSON has none, and no setting means one
            raise _wrong("a finite number", value, where)
        return float(value)
    if hint is int and isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(hint, type) and isinstance(value, hint) and not (isinstance(value, bool) and hint is not bool):
        return value
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "a text", Path: "a path"}
    raise _wrong(names.get(hint, getattr(hint, "__name__", str(hint))), value, where)


def _wrong(expected: str, value: Any, where: str) -> UserError:
    return UserError(f"'{where}' must be {expected}, not {_shown(value)}")


def _shown(value: Any) -> str:
    """As YAML writes it, which has null, true and false; texts in quotes."""
    return json.dumps(value) if value is None or isinstance(value, bool) else repr(value)


def _listed(value: Any) -> str:
    """The numbers that a text means, as a list has them: `0 1`, `0;1` and `0,1` are 0,1, `0..2` and `0-2` are 0,1,2;
    empty where it means something else."""
    if not isinstance(value, str):
        return ""
    if (ends := re.fullmatch(r"\s*(\d+)\s*(?:\.\.+|-|:)\s*(\d+)\s*", value)) is not None:
        first, last = int(ends[1]), int(ends[2])
        return ",".join(map(str, range(first, last + 1))) if first < last <= first + LONGEST_RANGE else ""
    numbers = re.split(r"[\s,;]+", value.strip())
    is_several = len(numbers) > 1 and all(re.fullmatch(r"[-+]?[\d.]+(?:e[-+]?\d+)?", each) for each in numbers)
    return ",".join(numbers) if is_several else ""


def _integral(value: Plain) -> Plain:
    if isinstance(value, dict):
        return {key: _integral(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_integral(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


@dataclasses.dataclass(frozen=True, slots=True)
class Difference:
    path: str  # "" where the two are no mappings
    before: Plain  # None where it was not there
    after: Plain

    def __str__(self) -> str:
        """`knobs.ffn.choices: [2, 3] -> [2, 4]`."""
        return f"{self.path}: {self.before} -> {self.after}" if self.path else f"{self.before} -> {self.after}"


def differences(before: Plain, after: Plain, path: str = "") -> list[Difference]:
    """The innermost places at which the mappings differ, in the order of `before`."""
    if not (isinstance(before, dict) and isinstance(after, dict)):
        return [] if before == after else [Difference(path, before, after)]
    return [
        difference
        for key in {**before, **after}
        for difference in differences(before.get(key), after.get(key), f"{path}.{key}" if path else key)
    ]


def overwritten(paths: Iterable[str]) -> tuple[str, str] | None:
    """The first path whose setting a later path sets again, and that one: `feed_forward.ratio`, then `feed_forward`.

    `stages.0.channels` after `stages.*.channels` refines it, and is no such case.
    """
    before: list[str] = []
    for path in paths:
        for earlier in before:
            if covers(path, earlier):
                return earlier, path
        before.append(path)
    return None


def covers(path: str, earlier: str) -> bool:
    """Whether setting `path` leaves nothing of what was set at the path `earlier`."""
    steps, before = path.split("."), earlier.split(".")
    return len(steps) <= len(before) and all(
        step == other or (step == "*" and other.isdigit()) for step, other in zip(steps, before, strict=False)
    )
