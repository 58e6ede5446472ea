"""What makes two modules compute the same thing on the same shapes, as one hashable value.

Equal structures: the same class, the same attributes by value, parameters and buffers of the same names, shapes and
dtypes, children of the same names and structures. What cannot be compared by value (hooks, foreign objects with
hidden state, references to other modules) has no structure, and its module is never taken for another.
"""

import dataclasses
import enum
import functools
import types
from collections.abc import Hashable, Mapping
from typing import Any

import torch
from torch import Tensor, nn


class NoStructureError(Exception):
    """A value that cannot be compared: its module is counted by running it, every time."""


_SCALARS = frozenset({bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device, torch.Size})
_CONTAINERS = frozenset({"_parameters", "_buffers", "_modules"})


class Structures:
    """The structures of one network's modules, each computed once."""

    def __init__(self) -> None:
        self._own: dict[int, Hashable] = {}
        self._whole: dict[int, Hashable | None] = {}

    def of(self, module: nn.Module) -> Hashable | None:
        """The structure with all descendants; None where some part has none."""
        structure = self._whole.get(id(module), self)
        if structure is self:
            structure = self._whole[id(module)] = self._compute(module)
        return structure

    def changed(self, module: nn.Module) -> bool:
        """Whether the module's own attributes are no longer those that `of` saw."""
        if id(module) not in self._own:
            return False
        try:
            return self._own[id(module)] != own_structure(module)
        except NoStructureError:
            return True

    def _compute(self, module: nn.Module) -> Hashable | None:
        try:
            self._own[id(module)] = own = own_structure(module)
        except NoStructureError:
            return None
        children = []
        for name, child in module._modules.items():
            structure = None if child is None else self.of(child)
            if child is not None and structure is None:
                return None
            children.append((name, structure))
        return _Interned((own, tuple(children)))


class _Interned:
    """A nested key that hashes once: a network's key holds its children's."""

    __slots__ = ("_hash", "_key")

    def __init__(self, key: Hashable) -> None:
        self._key, self._hash = key, hash(key)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, _Interned) and self._hash == other._hash and self._key == other._key)


def own_structure(module: nn.Module) -> Hashable:
    """The structure of a module without its children; NoStructureError where some attribute has none."""
    attributes = []
    for name, value in vars(module).items():
        if name in _CONTAINERS or name == "forward":  # `forward` on the instance is the counter's own
            continue
        if name.endswith("_hooks"):
            if value:
                raise NoStructureError(f"{type(module).__name__} has hooks")
        elif type(value) in _SCALARS:
            attributes.append((name, type(value), value))
        else:
            attributes.append((name, object, _value(value, ())))
    tensors = (
        (name, None if x is None else (x.shape, x.dtype))
        for group in (module._parameters, module._buffers)
        for name, x in group.items()
    )
    return type(module), tuple(attributes), tuple(tensors)


def value_structure(value: Any) -> Hashable:
    """The structure of an argument or an attribute, by value; NoStructureError where there is none."""
    return _value(value, ())


def _value(value: Any, above: tuple[int, ...]) -> Hashable:
    kind = type(value)
    if kind in _SCALARS:
        return kind, value
    if isinstance(value, type | types.FunctionType | types.BuiltinFunctionType | enum.Enum):
        return value
    if id(value) in above:
        raise NoStructureError(f"{kind.__name__} refers to itself")
    above = (*above, id(value))
    if isinstance(value, tuple | list):
        return kind, tuple(_value(item, above) for item in value)
    if isinstance(value, set | frozenset):
        return kind, frozenset(_value(item, above) for item in value)
    if isinstance(value, Mapping):
        return kind, tuple((_value(key, above), _value(item, above)) for key, item in value.items())
    if isinstance(value, functools.partial):
        return kind, _value((value.func, value.args, value.keywords), above)
    return kind, _object(value, above)


def _object(value: Any, above: tuple[int, ...]) -> Hashable:
    """Dataclasses by their fields; other objects by their attributes, if these are all the state they can have."""
    if dataclasses.is_dataclass(value):
        return tuple(_value(getattr(value, field.name), above) for field in dataclasses.fields(value))
    plain = all("__slots__" not in vars(base) for base in type(value).__mro__[:-1])
    only_python = all(base.__flags__ & _HEAP_TYPE for base in type(value).__mro__[:-1])
    if isinstance(value, Tensor | nn.Module) or not (plain and only_python and hasattr(value, "__dict__")):
        raise NoStructureError(f"{type(value).__name__} cannot be compared by value")
    return _value(vars(value), above)


_HEAP_TYPE = 1 << 9  # CPython's Py_TPFLAGS_HEAPTYPE: a class written in Python, not a built-in with hidden state
