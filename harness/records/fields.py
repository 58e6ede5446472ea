"""The settings that a dataclass has, described from its own source: type, default, and the text beside each field.

A field's text is the docstring under it, or the comment at the end of its line.
"""

import ast
import dataclasses
import inspect
import sys
import types
import typing
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from harness.records.plain import canonical_json, tag_of

NAMES = {int: "whole number", float: "number", str: "text", Path: "path", bool: "true | false", type(None): "null"}
REQUIRED = "(required)"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class FieldDescription:
    path: str
    type: str
    default: str
    text: str


def describe_fields(cls: Any, where: str, above: tuple[Any, ...] = ()) -> Iterator[FieldDescription]:
    """The fields of a dataclass under the path `where`; those of a field's own dataclass under its path, unless it is
    one of those that the path leads through, `above` among them: their settings are listed already."""
    through = (*above, cls)
    hints, texts = typing.get_type_hints(cls), _texts_of(cls)
    for field in dataclasses.fields(cls):
        if field.name == "kind" and get_origin(hints["kind"]) is Literal:
            continue  # what chooses the class, not a setting of it
        path, hint = f"{where}.{field.name}" if where else field.name, hints[field.name]
        text = texts.get(field.name, "") or _text_of_choice(hint)
        yield FieldDescription(path=path, type=type_text(hint), default=_default(field), text=text)
        inside = f"{path}.*" if get_origin(hint) is tuple else path
        yield from _of_forms(tuple(form for form in forms(hint) if form not in through), inside, through)


def forms(hint: Any) -> tuple[Any, ...]:
    """The dataclasses that a value of this type can be."""
    parts = get_args(hint) if get_origin(hint) in (Union, types.UnionType, tuple) else (hint,)
    forms_of_parts = [tuple(part.forms.values()) if _is_open_union(part) else (part,) for part in parts]
    return tuple(form for several in forms_of_parts for form in several if dataclasses.is_dataclass(form))


def _is_open_union(hint: Any) -> bool:
    """A class with a table `forms` of kinds, to which kinds are added."""
    return isinstance(hint, type) and "forms" in vars(hint)


def _of_forms(kinds: tuple[Any, ...], where: str, above: tuple[Any, ...]) -> Iterator[FieldDescription]:
    """Every setting of these kinds once; one that not all of them have says which do."""
    lines: dict[str, FieldDescription] = {}
    having: dict[str, list[str]] = {}
    for kind in kinds:
        for line in describe_fields(kind, where, above):
            earlier = lines.setdefault(line.path, line)
            lines[line.path] = line if line.text and not earlier.text else earlier
            having.setdefault(line.path, []).append(str(tag_of(kind)))
    for path, line in lines.items():
        some = len(having[path]) < len(kinds)
        yield dataclasses.replace(line, type=f"{line.type}; kind {', '.join(having[path])}") if some else line


def _text_of_choice(hint: Any) -> str:
    """What a choice between kinds is about, by its class: without the sentence about what builds it."""
    parts = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    texts = [inspect.getdoc(part) or "" for part in parts if _is_open_union(part)]
    return " ".join(texts).partition("Builder")[0].strip()


def type_text(hint: Any) -> str:
    """`whole number | null`, `list of number`, `fp16 | fp32`."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is Literal:
        return " | ".join(map(str, args))
    if origin in (Union, types.UnionType):
        return " | ".join(dict.fromkeys(map(type_text, args)))
    if origin is tuple:
        return f"list of {type_text(args[0])}"
    if _is_open_union(hint):
        return " | ".join(filter(None, map(tag_of, forms(hint))))
    if dataclasses.is_dataclass(hint):
        kind = tag_of(hint)
        return f"kind: {kind}" if kind else "settings"
    return NAMES.get(hint, "mapping" if origin in (dict, Mapping) else str(hint))


def _default(field: "dataclasses.Field[Any]") -> str:
    if field.default is not dataclasses.MISSING:
        value = field.default
    elif field.default_factory is not dataclasses.MISSING:
        value = field.default_factory()
    else:
        return REQUIRED
    return "" if dataclasses.is_dataclass(value) else value_text(value)  # a dataclass's own fields say


def value_text(value: Any) -> str:
    """As one writes it on the command line."""
    return canonical_json(value).strip('"')


def _texts_of(cls: Any) -> dict[str, str]:
    """Field -> its text, the base classes' fields too."""
    texts: dict[str, str] = {}
    for one in reversed(inspect.getmro(cls)):
        if dataclasses.is_dataclass(one):
            texts |= _texts_in(one.__module__).get(one.__name__, {})
    return texts


@cache
def _texts_in(module: str) -> dict[str, dict[str, str]]:
    """Class -> field -> its text, of all classes in a module's source."""
    source = inspect.getsource(sys.modules[module])
    classes = [node for node in ast.parse(source).body if isinstance(node, ast.ClassDef)]
    return {node.name: dict(_texts(node, source.splitlines())) for node in classes}


def _texts(node: ast.ClassDef, lines: list[str]) -> Iterator[tuple[str, str]]:
    for one, after in zip(node.body, [*node.body[1:], None], strict=True):
        if not isinstance(one, ast.AnnAssign) or not isinstance(one.target, ast.Name):
            continue
        text = lines[(one.end_lineno or one.lineno) - 1].encode()[one.end_col_offset :].decode().partition("#")[2]
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) and isinstance(after.value.value, str):
            text = after.value.value
        yield one.target.id, " ".join(text.split())
