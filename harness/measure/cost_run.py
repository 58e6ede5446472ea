"""One forward pass on the meta device that writes a row for each operator, and runs repeated blocks once.

A block's rows stand for another block's if both have the same structure (`cost_structure`) and are called with
arguments of the same shapes; the other one's forward is then answered with empty tensors of the recorded shapes.
Where that could be wrong the block runs: arguments or results that are not tensors or plain values, modules without
a structure. If a module changes its own attributes while it runs, nothing stands for anything and all is run.
"""

import dataclasses
import functools
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from harness.measure.cost_formulas import ZERO_COST, Call, OpCost, cost_of
from harness.measure.cost_structure import NoStructureError, Structures, value_structure

Shape: TypeAlias = tuple[int, ...]


class Row(NamedTuple):
    """One call of an operator at a place: the dotted path of the module that called it.

    The shapes are those of its tensor arguments, in order, and of its results; parameters, buffers and views of them
    are told apart from activations.
    """

    place: str
    operator: str
    cost: OpCost
    reads: tuple[Shape, ...] = ()
    weights: tuple[Shape, ...] = ()
    writes: tuple[Shape, ...] = ()


def run_on_meta(module: nn.Module, inputs: Sequence[Any], *, memoise: bool) -> list[Row]:
    """The rows of `module(*inputs)`; parameters, buffers and inputs that are not on meta are replaced for the run."""
    tensors = dict((*module.named_parameters(), *module.named_buffers()))
    meta = {name: x.detach().to("meta") for name, x in tensors.items() if x.device.type != "meta"}
    arguments = tree_map_only(Tensor, lambda x: x.to("meta"), tuple(inputs))
    for structures in (Structures(), None) if memoise else (None,):
        recorder = _Recorder((tensors | meta).values())
        watch = _Watch(recorder, structures)
        with _watched(module, watch), torch.inference_mode(), recorder:
            torch.func.functional_call(module, meta, arguments) if meta else module(*arguments)
        if structures is None or not (watch.changed or any(structures.changed(part) for part in module.modules())):
            return recorder.rows
    raise AssertionError("unreachable: the run without structures returns")


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Writes a row for every operator that computes or writes something, at the place whose forward runs."""

    def __init__(self, weights: Iterable[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.rows: list[Row] = []
        self.places = [""]
        self._weights = {x.untyped_storage()._cdata for x in weights}

    def is_weight(self, x: Tensor) -> bool:
        """Whether x is a parameter or buffer, or a view of one: its matmul is a linear layer's, not attention's."""
        return x.untyped_storage()._cdata in self._weights

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        operator = _operator_name(func)
        inputs = [(x, x.untyped_storage()._cdata) for x in tree_leaves(args) if isinstance(x, Tensor)]
        written = 0 if operator in RESERVING else _written(out, {memory for _, memory in inputs})
        if operator not in ZERO_COST or written:
            cost = cost_of(operator, Call(func._overloadname, args, kwargs or {}, out, self.is_weight))
            reads = tuple(tuple(x.shape) for x, memory in inputs if memory not in self._weights)
            weights = tuple(tuple(x.shape) for x, memory in inputs if memory in self._weights)
            writes = tuple(tuple(x.shape) for x in tree_leaves(out) if isinstance(x, Tensor))
            cost = cost._replace(activations=written)
            self.rows.append(Row(self.places[-1], operator, cost, reads, weights, writes))
        return out


def _written(out: Any, argument_memory: set[int]) -> int:
    """Numbers in `out` that are not in the memory of an argument, as those of a view or an in-place result are."""
    outputs = (x for x in tree_leaves(out) if isinstance(x, Tensor))
    return sum(x.numel() for x in outputs if x.untyped_storage()._cdata not in argument_memory)


RESERVING = frozenset({"empty", "empty_like", "empty_strided", "new_empty"})
"""Operators that write nothing; also what answers for a block that ran before."""


@functools.cache
def _operator_name(func: Any) -> str:
    """`linear` for `aten::linear`; operators of other libraries keep their namespace."""
    return str(func._schema.name).removeprefix("aten::")


class _Result(NamedTuple):
    """What a block's run left: its rows, with places relative to the block, and the shape of what it returned."""

    rows: list[Row]
    kind: type  # Tensor, tuple or list
    tensors: list[tuple[torch.Size, tuple[int, ...], torch.dtype] | None]

    def again(self) -> Any:
        """New empty tensors: never the recorded ones, which a caller may change in place."""
        tensors = [x and torch.empty_strided(x[0], x[1], dtype=x[2], device="meta") for x in self.tensors]
        return tensors[0] if self.kind is Tensor else self.kind(tensors)


class _Watch:
    """Stands in for the forward of every submodule: notes the place, answers what it has seen before."""

    def __init__(self, recorder: _Recorder, structures: Structures | None) -> None:
        self._recorder, self._structures = recorder, structures
        self._results: dict[Hashable, _Result] = {}
        self.changed = False  # a module's own attributes changed while it ran

    def call(self, module: nn.Module, place: str, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        rows = self._recorder.rows
        key = self._key(module, args, kwargs)
        earlier = self._results.get(key)
        if earlier is not None:
            rows.extend(row._replace(place=place + row.place) for row in earlier.rows)
            return earlier.again()
        start = len(rows)
        self._recorder.places.append(place)
        try:
            out = forward(*args, **kwargs)
        finally:
            self._recorder.places.pop()
        result = _result(place, rows[start:], out, (*args, *kwargs.values()))
        self.changed = self.changed or (self._structures is not None and self._structures.changed(module))
        if key is not None and result is not None:
            self._results[key] = result
        return out

    def _key(self, module: nn.Module, args: Any, kwargs: Any) -> Hashable | None:
        if self._structures is None:
            return None
        structure = self._structures.of(module)
        if structure is None:
            return None
        try:
            tensors: list[Tensor] = []
            return structure, self._argument(args, tensors), self._argument(kwargs, tensors)
        except NoStructureError:
            return None

    def _argument(self, value: Any, tensors: list[Tensor]) -> Hashable:
        """Shapes for tensors, values for the rest; which arguments are the same tensor is part of it."""
        if isinstance(value, Tensor):
            if value.device.type != "meta":
                raise NoStructureError("a real tensor's values may steer the forward pass")
            tensors.append(value)
            first = next(i for i, other in enumerate(tensors) if other is value)
            return value.shape, value.stride(), value.dtype, first, self._recorder.is_weight(value)
        if isinstance(value, tuple | list):
            return type(value), tuple(self._argument(item, tensors) for item in value)
        if dataclasses.is_dataclass(value):
            parts = (getattr(value, field.name) for field in dataclasses.fields(value))
            return type(value), tuple(self._argument(part, tensors) for part in parts)
        if type(value) is dict:
            return dict, tuple((name, self._argument(item, tensors)) for name, item in value.items())
        return value_structure(value)


def _result(place: str, rows: list[Row], out: Any, args: tuple[Any, ...]) -> _Result | None:
    """The run as something to repeat; None where it called modules outside itself or returned anything unusual."""
    outputs = (out,) if isinstance(out, Tensor) else out
    kind = Tensor if isinstance(out, Tensor) else type(out)
    if kind not in (Tensor, tuple, list) or any(x is arg for x in outputs for arg in args):
        return None
    if not all(x is None or (isinstance(x, Tensor) and x.device.type == "meta") for x in outputs):
        return None
    if not all(row.place == place or row.place.startswith(f"{place}.") for row in rows):
        return None
    relative = [row._replace(place=row.place[len(place) :]) for row in rows]
    return _Result(relative, kind, [None if x is None else (x.shape, x.stride(), x.dtype) for x in outputs])


@contextmanager
def _watched(module: nn.Module, watch: _Watch) -> Iterator[None]:
    """Inside, each submodule's `forward` is an attribute of the instance that goes through the watch."""
    forwards = {part: vars(part)["forward"] for part in module.modules() if "forward" in vars(part)}
    try:
        for place, part in module.named_modules():
            if place:
                part.__dict__["forward"] = _forward_through(watch, part, place, part.forward)
        yield
    finally:
        for part in module.modules():
            vars(part).pop("forward", None)
            if part in forwards:
                part.__dict__["forward"] = forwards[part]


def _forward_through(watch: _Watch, part: nn.Module, place: str, forward: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *args, **kwargs: watch.call(part, place, forward, args, kwargs)
