"""The MIL program of a saved Core ML package: its operations in order, and its constants, read when they are needed.

MIL is Core ML's intermediate language (https://apple.github.io/coremltools/docs-guides/source/model-intermediate-language.html).
Constants lie in the specification itself or in `weight.bin`; compressed ones are unpacked as they are read.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from harness.coreml.export import read_package, unreadable
from harness.records.errors import UserError, unknown_name

if TYPE_CHECKING:
    from torch import Tensor

WEIGHTS = Path("Data", "com.apple.CoreML", "weights")  # where a package has them

Constant: TypeAlias = Callable[[], Any]
"""Reads one constant: a NumPy array or scalar, or a text."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Variable:
    """What an operation writes, as the program declares it."""

    name: str
    dtype: str  # MIL's name: FLOAT16, FLOAT32, INT32, BOOL, ...
    shape: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Operation:
    operator: str  # "conv", "matmul", ...
    arguments: Mapping[str, tuple[str, ...]]  # name of the argument -> variables or constants; several: a list
    outputs: tuple[Variable, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Program:
    """One function without control flow, its shapes fixed."""

    inputs: tuple[Variable, ...]
    operations: tuple[Operation, ...]  # in an order in which they can be run
    constants: Mapping[str, Constant]
    outputs: tuple[str, ...]

    def named(self, values: Sequence["Tensor"]) -> dict[str, "Tensor"]:
        """The inputs by their names; values in the program's order, one for each."""
        return {variable.name: value for variable, value in zip(self.inputs, values, strict=True)}


def read_program(path: Path) -> Program:
    """The program of the package at `path`. UserError where it is none or holds what is not read here."""
    spec = read_package(path)
    if spec.WhichOneof("Type") != "mlProgram":
        raise UserError(f"{path} is no ML program but a {spec.WhichOneof('Type')}; export it with this harness")
    if sorted(spec.mlProgram.functions) != ["main"]:
        raise UserError(f"{path} has the functions {sorted(spec.mlProgram.functions)}; one, named main, is read")
    function = spec.mlProgram.functions["main"]
    block = function.block_specializations[function.opset]
    constants: dict[str, Constant] = {}
    operations = tuple(_operations(block, constants, _reader(path)))
    inputs = tuple(_variable(value) for value in function.inputs)
    return Program(inputs=inputs, operations=operations, constants=constants, outputs=tuple(block.outputs))


def kept(program: Program) -> Program:
    """The same, in which a constant that was read once is kept, for programs that are run many times."""
    return replace(program, constants={name: cache(read) for name, read in program.constants.items()})


def _operations(block: Any, constants: dict[str, Constant], read: Callable[[Any], Any]) -> Iterator[Operation]:
    """The operations that compute something; the rest is added to `constants`."""
    for operation in block.operations:
        if operation.blocks:
            raise UserError(f"the operator '{operation.type}' holds blocks of its own, which are not read here")
        outputs = tuple(_variable(output) for output in operation.outputs)
        if operation.type == "const":
            constants[outputs[0].name] = _lazily(read, operation.attributes["val"])
            continue
        arguments = _arguments(operation, outputs[0].name, constants, read)
        if operation.type.startswith("constexpr_"):
            constants[outputs[0].name] = _unpacked(operation.type, arguments, constants)
        else:
            yield Operation(operator=operation.type, arguments=arguments, outputs=outputs)


def _arguments(
    operation: Any, name: str, constants: dict[str, Constant], read: Callable[[Any], Any]
) -> dict[str, tuple[str, ...]]:
    """Names of what goes in; a value that stands in the operation itself becomes a constant."""
    arguments = {}
    for key, argument in operation.inputs.items():
        names = []
        for index, binding in enumerate(argument.arguments):
            names.append(binding.name or f"{name}/{key}/{index}")
            if not binding.name:
                constants[names[-1]] = _lazily(read, binding.value)
        arguments[key] = tuple(names)
    for key, value in operation.attributes.items():  # before iOS18, what a compressed weight is made of
        if key != "name":
            constants[f"{name}/{key}"] = _lazily(read, value)
            arguments[key] = (f"{name}/{key}",)
    return arguments


def _unpacked(operator: str, arguments: Mapping[str, tuple[str, ...]], constants: Mapping[str, Constant]) -> Constant:
    """A compressed weight, unpacked by coremltools' own definition of the operator."""
    decompress = _decompressions(operator, ios18="shape" not in arguments)
    return lambda: decompress(**{key: constants[name]() for key, (name,) in arguments.items()})


def _decompressions(operator: str, *, ios18: bool) -> Callable[..., Any]:
    from coremltools.converters.mil.mil.ops.defs.iOS16 import constexpr_ops as before
    from coremltools.converters.mil.mil.ops.defs.iOS18 import compression as since

    decompressors: dict[str, Callable[..., Any]] = {
        "constexpr_affine_dequantize": before.constexpr_affine_dequantize.decompress,
        "constexpr_blockwise_shift_scale": _blockwise(since.constexpr_blockwise_shift_scale.decompress),
        "constexpr_lut_to_dense": _vectors(since.constexpr_lut_to_dense.decompress)
        if ios18
        else before.constexpr_lut_to_dense.decompress,
    }
    if operator not in decompressors:
        raise unknown_name("way to compress weights", operator, decompressors)
    return decompressors[operator]


def _blockwise(decompress: Callable[..., Any]) -> Callable[..., Any]:
    return lambda data, scale, offset=None: decompress(data, scale, offset)


def _vectors(decompress: Callable[..., Any]) -> Callable[..., Any]:
    return lambda indices, lut, vector_axis=None: decompress(indices, lut, vector_axis)


def _lazily(read: Callable[[Any], Any], value: Any) -> Constant:
    return lambda: read(value)


def _reader(path: Path) -> Callable[[Any], Any]:
    """From a value of the specification to NumPy, out of the specification or the package's blob file."""
    from coremltools.converters.mil.frontend.milproto import load

    context = load.TranscriptionContext(str(path / WEIGHTS))

    def read(value: Any) -> Any:
        with unreadable(path):
            return load._load_value(context, value)

    return read


def _variable(value: Any) -> Variable:
    from coremltools.proto import MIL_pb2

    tensor = value.type.tensorType
    shape = tuple(int(dimension.constant.size) for dimension in tensor.dimensions)
    return Variable(name=value.name, dtype=MIL_pb2.DataType.Name(tensor.dataType), shape=shape)
