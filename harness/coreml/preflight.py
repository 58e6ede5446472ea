"""What a network would be as a Core ML program, from shapes alone: in seconds, without weights and without converting.

The network, laid out as it would be exported, runs on the meta device; every operator that depends on an input is noted
under the name that MIL has for it. What depends on no input (rotary angles) is a constant of the program. The
converter then fuses some of them: norms that are written out, scales and shifts. `check_package` looks at the program
that it wrote.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.module_tracker import ModuleTracker

from harness.coreml.config import Mlprogram
from harness.coreml.layout import for_export, not_laid_out
from harness.coreml.limits import FP16_BYTES, Finding, Op, Shape, findings
from harness.coreml.mil_program import WEIGHTS, Operation, Program, read_program
from harness.coreml.precision import ANGLES

MIL_NAMES = {
    **dict.fromkeys(("conv2d", "convolution"), "conv"),
    **dict.fromkeys(("reshape", "view", "flatten", "unflatten", "_unsafe_view"), "reshape"),
    **dict.fromkeys(("transpose", "permute", "t", "movedim"), "transpose"),
    **dict.fromkeys(("chunk", "split", "split_with_sizes", "unbind"), "split"),
    **dict.fromkeys(("unsqueeze",), "expand_dims"),
    **dict.fromkeys(("slice", "select", "narrow"), "slice_by_index"),
    **dict.fromkeys(("cat", "stack"), "concat"),
    **dict.fromkeys(("repeat", "repeat_interleave"), "tile"),
    **dict.fromkeys(("index", "index_select", "embedding"), "gather"),
    **dict.fromkeys(("neg", "square"), "mul"),
    **dict.fromkeys(("masked_fill", "where"), "select"),
    "upsample_nearest2d": "upsample_nearest_neighbor",
    "mean": "reduce_mean",
    "sum": "reduce_sum",
    "prod": "reduce_prod",
    "div": "real_div",
    "_to_copy": "cast",
}
"""PyTorch's operator -> MIL's, where the names differ."""

UNWRITTEN = frozenset({"contiguous", "clone", "to", "detach", "alias", "dropout", "type_as", "expand", "identity"})
"""Operators that the converter drops; an expanded tensor is broadcast by what reads it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Preflight:
    operators: Mapping[str, int]  # MIL operator -> how often, before the converter's fusions; the most frequent first
    params: int
    weight_bytes: int  # of all parameters at the chosen bits
    largest_tensor: Shape
    largest_tensor_bytes: int  # in fp16
    not_laid_out: tuple[str, ...]  # classes of modules that stay in (B, S, C)
    findings: tuple[Finding, ...]


def preflight(module: nn.Module, inputs: Sequence[Any], config: Mlprogram) -> Preflight:
    """The program that exporting `module(*inputs)` would write, and the limits that it meets.

    Nothing is allocated if the module is on the meta device; the module is left as it was.
    """
    laid_out = for_export(module, config.layout)
    operations = operations_of(laid_out, inputs)
    params = sum(parameter.numel() for parameter in module.parameters())
    weight_bytes = params * (32 if config.precision == "fp32" else config.bits) // 8
    largest = max((shape for op in operations for shape in op.shapes), key=prod)
    return Preflight(
        operators=dict(Counter(op.kind for op in operations).most_common()),
        params=params,
        weight_bytes=weight_bytes,
        largest_tensor=largest,
        largest_tensor_bytes=FP16_BYTES * prod(largest),
        not_laid_out=tuple(not_laid_out(laid_out)) if config.layout == "ane" else (),
        findings=findings(operations, weight_bytes),
    )


def operations_of(module: nn.Module, inputs: Sequence[Any]) -> tuple[Op, ...]:
    """Every operator of `module(*inputs)` that depends on an input, in order."""
    tensors = dict((*module.named_parameters(), *module.named_buffers()))
    meta = {name: x.detach().to("meta") for name, x in tensors.items()}
    arguments = tree_map_only(Tensor, lambda x: x.detach().to("meta"), tuple(inputs))
    with ModuleTracker() as places, torch.inference_mode(), _Recorder(places, arguments) as recorder:
        torch.func.functional_call(module, meta, arguments)
    return tuple(recorder.operations)


def check_package(path: Path) -> tuple[Finding, ...]:
    """The limits that the program in the package meets."""
    weights = path / WEIGHTS
    size = sum(file.stat().st_size for file in weights.parent.glob("*"))
    program = read_program(path)
    return findings([*map(_written, program.operations), *_wide_constants(program)], size)


def _wide_constants(program: Program) -> Iterator[Op]:
    """Tensors in float32 that fp16 operators read; a single number is a setting of its operator."""
    for operation in program.operations:
        names = [name for several in operation.arguments.values() for name in several if name in program.constants]
        if all(output.dtype == "FLOAT16" for output in operation.outputs):
            values = [np.asarray(program.constants[name]()) for name in names]
            wide = [value.shape for value in values if value.dtype == np.float32 and value.size > 1]
            yield from (
                Op(kind="const", place=operation.outputs[0].name, shapes=(x,), dtypes=("float32",)) for x in wide
            )


def _written(operation: Operation) -> Op:
    return Op(
        kind=operation.operator,
        place=operation.outputs[0].name,
        shapes=tuple(output.shape for output in operation.outputs),
        dtypes=tuple(output.dtype.lower() for output in operation.outputs),
    )


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes operators on tensors that depend on the inputs; it keeps those tensors, so that no new one has their id."""

    def __init__(self, places: ModuleTracker, inputs: tuple[Any, ...]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations: list[Op] = []
        self._places = places
        self._known = {id(x): x for x in tree_leaves(inputs) if isinstance(x, Tensor)}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        if any(id(x) in self._known for x in tree_leaves((args, kwargs))):
            outputs = [x for x in tree_leaves(out) if isinstance(x, Tensor)]
            self._known.update((id(x), x) for x in outputs)
            self._note(str(func._schema.name).removeprefix("aten::"), args, outputs)
        return out

    def _note(self, name: str, args: tuple[Any, ...], outputs: list[Tensor]) -> None:
        name = name.removesuffix("_") if not name.startswith("_") else name
        if name in UNWRITTEN:
            return
        kind = MIL_NAMES.get(name, name)
        place = max(self._places.parents - {"Global"}, key=len, default="")
        convolution = kind == "conv"
        self.operations.append(
            Op(
                kind=kind,
                place=place.partition(".")[2],
                shapes=tuple(tuple(x.shape) for x in outputs),
                dtypes=tuple(_dtypes(kind, outputs)),
                kernel=tuple(args[1].shape[2:]) if convolution else (),
                dilated=convolution and len(args) > 5 and args[5] != [1, 1],
            )
        )


def _dtypes(kind: str, outputs: list[Tensor]) -> Iterator[str]:
    """As the program would have them: floating-point numbers in fp16, but for the angles of the time embedding."""
    for x in outputs:
        floating = "float32" if kind in ANGLES else "float16"
        yield floating if x.dtype.is_floating_point else str(x.dtype).removeprefix("torch.")
