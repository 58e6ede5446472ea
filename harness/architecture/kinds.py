"""Knobs whose value is one of several kinds, each with its own settings: an open union.

A knob is a class with a table `forms`; a kind is a frozen dataclass registered in it together with what builds it:

    @kind_of(Attention, built_by="harness.models.attention:SharedHeadAttention")
    @dataclass(frozen=True, kw_only=True, slots=True)
    class MultiQuery(Attention):
        kind: Literal["mqa"] = "mqa"

In YAML it is `{kind: mqa}`, or `mqa` for short. The builder is named, not imported: architectures need no torch.
"""

from collections.abc import Callable
from importlib import import_module
from typing import Any, ClassVar, Protocol, TypeVar, get_args, get_type_hints

from harness.records.errors import unknown_name

Builder = Callable[..., Any]
Kind = TypeVar("Kind", bound=type)
_BUILDERS: dict[type, str | Builder] = {}


class Knob(Protocol):
    """A class with a table of kinds; `harness.records.plain.from_plain` reads `forms` too."""

    forms: ClassVar[dict[str, type]]


def kind_of(knob: type[Knob], *, built_by: str | Builder) -> Callable[[Kind], Kind]:
    """Register a kind of `knob`. `built_by`: "module:callable", imported when it is first built; or a callable.

    A class without a field `kind` is what is meant where none is named; it stands in the table as "".
    """

    def register(cls: Kind) -> Kind:
        kind = get_type_hints(cls).get("kind")
        name = get_args(kind)[0] if kind is not None else ""
        if name in knob.forms:
            raise ValueError(f"{knob.__name__} has a kind '{name}' already")
        knob.forms[name] = cls
        _BUILDERS[cls] = built_by
        return cls

    return register


def builder_module(spec: object) -> str:
    """The name of the module that builds `spec`."""
    builder_or_name = _BUILDERS[type(spec)]
    return builder_or_name.partition(":")[0] if isinstance(builder_or_name, str) else builder_or_name.__module__


def builder_of(spec: object) -> Builder:
    """What builds `spec`; its arguments are those that the knob's docstring names."""
    builder_or_name = _BUILDERS.get(type(spec))
    if builder_or_name is None:
        raise unknown_name("knob value", type(spec).__name__, (cls.__name__ for cls in _BUILDERS))
    if callable(builder_or_name):
        return builder_or_name
    module, _, name = builder_or_name.partition(":")
    builder: Builder = getattr(import_module(module), name)
    return builder
