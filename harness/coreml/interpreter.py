"""Runs the MIL program of an exported package in torch, on any machine.

It proves the graph: that the operators, their settings and the stored constants compute what the module computes. It
does not prove the Neural Engine's arithmetic: there, sums may be accumulated in fp16 and functions come from tables,
which no reference on another machine reproduces. On a Mac, the device's agent holds real predictions against the same
gate before a time counts.
"""

import inspect
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from harness.coreml import mil_shape_operators  # noqa: F401  # registers them
from harness.coreml.mil_operators import OPERATORS, Values
from harness.coreml.mil_program import Operation, Program, Variable
from harness.records.errors import UserError, unknown_name

Mode: TypeAlias = Literal["float32", "float16"]
"""float32: everything is computed and kept in float32, on the constants as they are stored.
float16: so too, but what is declared fp16, input, constant or output of an operator, is rounded to fp16."""


def run_program(program: Program, inputs: Mapping[str, Tensor], mode: Mode) -> dict[str, Tensor]:
    """The program's outputs by name, in float32. UserError that names an operator that is not known."""
    check_operators(program)
    tensors = {variable.name: _input(variable, inputs, mode) for variable in program.inputs}
    uses = Counter(name for operation in program.operations for name in _names(operation))
    uses.update(program.outputs)
    with torch.no_grad():
        for operation in program.operations:
            tensors.update(_computed(operation, program, tensors, mode))
            for name in _names(operation):  # what no operation reads any more is freed
                uses[name] -= 1
                if not uses[name]:
                    tensors.pop(name, None)
    return {name: tensors[name] for name in program.outputs}


def check_operators(program: Program) -> None:
    """UserError if an operator of the program has no function in OPERATORS."""
    for operation in program.operations:
        if operation.operator not in OPERATORS:
            raise unknown_name("MIL operator", operation.operator, OPERATORS)


def _input(variable: Variable, inputs: Mapping[str, Tensor], mode: Mode) -> Tensor:
    if variable.name not in inputs:
        raise unknown_name("input of the package", ", ".join(inputs) or "none", [variable.name])
    value = inputs[variable.name]
    if tuple(value.shape) != variable.shape:
        raise UserError(f"the package's input '{variable.name}' has the shape {variable.shape}, not {(*value.shape,)}")
    return _as_stored(value, variable, mode)


def _names(operation: Operation) -> Iterator[str]:
    for names in operation.arguments.values():
        yield from names


def _computed(operation: Operation, program: Program, tensors: Mapping[str, Tensor], mode: Mode) -> dict[str, Tensor]:
    """The operation's outputs by name."""
    function = OPERATORS[operation.operator]
    arguments = {key: _argument(names, program, tensors) for key, names in operation.arguments.items()}
    unknown = set(arguments) - _parameters(function)
    if unknown:
        raise UserError(f"the MIL operator '{operation.operator}' has the arguments {sorted(unknown)}, not read here")
    returned: Values = function(**arguments)
    values = returned if isinstance(returned, tuple) else (returned,)
    pairs = zip(operation.outputs, values, strict=True)
    return {
        variable.name: _as_stored(_declared(value, variable, operation), variable, mode) for variable, value in pairs
    }


@cache
def _parameters(function: Callable[..., Values]) -> frozenset[str]:
    return frozenset(inspect.signature(function).parameters)


def _argument(names: tuple[str, ...], program: Program, tensors: Mapping[str, Tensor]) -> Any:
    values = tuple(tensors[name] if name in tensors else _constant(program.constants[name]()) for name in names)
    return values[0] if len(values) == 1 else values


def _constant(value: Any) -> Any:
    """A text as it is, a number as a tensor; fp16 becomes float32 of the same value."""
    if isinstance(value, str):
        return value
    tensor = torch.as_tensor(value)
    return tensor.float() if tensor.is_floating_point() else tensor


def _declared(value: Tensor, variable: Variable, operation: Operation) -> Tensor:
    """The value, if it has the shape that the package declares."""
    if tuple(value.shape) != variable.shape:
        raise UserError(
            f"'{variable.name}' came out of the MIL operator '{operation.operator}' with the shape {(*value.shape,)}, "
            f"and the package declares {variable.shape}; its definition here does not fit the package"
        )
    return value


def _as_stored(value: Tensor, variable: Variable, mode: Mode) -> Tensor:
    """As it would be stored: rounded to fp16 if it is declared so and the mode asks; above 65504 that is infinite."""
    if not value.is_floating_point():
        return value
    return value.half().float() if mode == "float16" and variable.dtype == "FLOAT16" else value.float()
