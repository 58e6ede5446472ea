"""Which tensors bear few bits: 4, 6 or 8 for each, so that the package has at most some size and errs least.

A tensor's error at some bits is what the output loses when it alone is palettized: the mean over inputs of
|output - whole|^2 / |whole|^2, both computed in float32 on the package's own constants. Errors of several tensors are
taken to add up. All begin at 4 bits; then, as long as it fits, the step up that takes away most error a byte is taken,
along each tensor's convex hull, which is the best but for the last step; and never more than equal bits that fit. The
plan is YAML, and anyone's to edit.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from torch import Tensor

from harness.coreml.interpreter import run_program
from harness.coreml.mil_program import Program
from harness.coreml.palettize import PaletteBits, Palettes
from harness.records.errors import UserError
from harness.records.plain import from_plain
from harness.records.yaml_text import read_yaml, write_yaml

SMALLEST = 2048
"""coremltools leaves tensors of up to so many weights in fp16."""

Inputs = Sequence[Sequence[Tensor]]
"""Each an input of the program, in its order."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Layer:
    name: str
    """Of the tensor, as the fp16 package calls it."""
    size: int
    """Weights."""
    errors: Mapping[PaletteBits, float]
    """Above."""

    def bytes_at(self, bits: int) -> int:
        """Indices and the table of fp16 values."""
        return (self.size * bits + 7) // 8 + (2 << bits)


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanFile:
    bits: Palettes


def layers_of(whole: Program, palettized: Mapping[PaletteBits, Program], inputs: Inputs) -> Iterator[Layer]:
    """Each of `large_weights` with its errors; `palettized` are the same program with all tensors at some bits."""
    references = [_output(whole, each) for each in inputs]
    for operation, argument, name in large_weights(whole):
        errors: dict[PaletteBits, float] = {}
        for bits, other in palettized.items():
            (there,) = other.operations[operation].arguments[argument]
            changed = replace(whole, constants={**whole.constants, name: other.constants[there]})
            errors[bits] = _error(changed, inputs, references)
        yield Layer(name=name, size=_size(whole, name), errors=errors)


def cheapest(layers: Sequence[Layer], at_most_bytes: int) -> Palettes:
    """Bits by which the tensors' indices and tables take at most so many bytes, and their errors add up to little.

    UserError where even the fewest bits take more.
    """
    chosen = {layer.name: min(layer.errors) for layer in layers}
    left = at_most_bytes - sum(layer.bytes_at(chosen[layer.name]) for layer in layers)
    if left < 0:
        least = at_most_bytes - left
        raise UserError(f"the tensors take {least:,} bytes at the fewest bits, and at most {at_most_bytes:,} are asked")
    steps = sorted((step for layer in layers for step in _steps(layer)), key=lambda step: -step.gain)
    for step in steps:  # a tensor's own come in order, since its hull's gains fall
        if step.cost <= left and chosen[step.name] == step.before:
            chosen[step.name], left = step.after, left - step.cost
    alike = [dict.fromkeys(chosen, bits) for bits in layers[0].errors]
    fitting = [plan for plan in alike if sum(layer.bytes_at(plan[layer.name]) for layer in layers) <= at_most_bytes]
    return min((chosen, *fitting), key=lambda plan: sum(layer.errors[plan[layer.name]] for layer in layers))


@dataclass(frozen=True, kw_only=True, slots=True)
class _Step:
    name: str
    before: PaletteBits
    after: PaletteBits
    cost: int  # bytes
    gain: float  # error a byte


def _steps(layer: Layer) -> Iterator[_Step]:
    """From the fewest bits up, along the lower convex hull of error over bytes."""
    at = min(layer.errors)
    while others := [bits for bits in layer.errors if bits > at and layer.errors[bits] < layer.errors[at]]:
        steps = [
            _Step(
                name=layer.name,
                before=at,
                after=bits,
                cost=layer.bytes_at(bits) - layer.bytes_at(at),
                gain=(layer.errors[at] - layer.errors[bits]) / (layer.bytes_at(bits) - layer.bytes_at(at)),
            )
            for bits in others
        ]
        best = max(steps, key=lambda step: step.gain)
        yield best
        at = best.after


def write_plan(path: Path, plan: Palettes, layers: Sequence[Layer], about: str) -> None:
    """YAML that `read_plan` reads, with `about` and each tensor's errors as comments."""
    several = ", ".join(map(str, sorted(layers[0].errors)))
    lines = [
        f"# {about}",
        f"bits:  # of each tensor; behind it its weights, and the output's squared error at {several} bits",
    ]
    for layer in layers:
        errors = ", ".join(f"{layer.errors[bits]:.2g}" for bits in sorted(layer.errors))
        lines.append(f"  {write_yaml({layer.name: plan[layer.name]}).strip()}  # {layer.size:,}; {errors}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def read_plan(path: Path) -> Palettes:
    """UserError for what is no plan."""
    plan = from_plain(PlanFile, read_yaml(path, "a palette plan"), where=str(path)).bits
    if not plan:
        raise UserError(f"{path} names no tensor; write one with `harness export WEIGHTS --at-most-mb SIZE`")
    return plan


def large_weights(program: Program) -> list[tuple[int, str, str]]:
    """(operation, its argument, the constant) of every tensor that coremltools palettizes, each once."""
    places, seen = [], set()
    for number, operation in enumerate(program.operations):
        for argument, names in operation.arguments.items():
            if len(names) == 1 and names[0] in program.constants and names[0] not in seen:
                seen.add(names[0])
                if _size(program, names[0]) > SMALLEST:
                    places.append((number, argument, names[0]))
    return places


def _size(program: Program, name: str) -> int:
    value = program.constants[name]()
    is_weight = not isinstance(value, str) and np.issubdtype(np.asarray(value).dtype, np.floating)
    return int(np.asarray(value).size) if is_weight else 0


def _error(program: Program, inputs: Inputs, references: Sequence[Tensor]) -> float:
    lost = (_output(program, each) - reference for each, reference in zip(inputs, references, strict=True))
    shares = [float(each.square().sum() / of.square().sum()) for each, of in zip(lost, references, strict=True)]
    return sum(shares) / len(shares)


def _output(program: Program, values: Sequence[Tensor]) -> Tensor:
    return next(iter(run_program(program, program.named(values), "float32").values()))
