"""Whether an exported package computes what the module computes, found without a phone.

Two numbers, each a peak signal-to-noise ratio of the package's output against the module's in float32:

float32   the program computed in float32 on its stored fp16 constants. What is missing to exactness are the rounded
          weights, and what is wrong in the graph.
float16   every value that the program declares fp16 rounded to fp16: what the format itself costs.

Rounded weights alone keep the first at 60 to 85 dB, so a mistake smaller than that, such as one GELU of many in its
tanh form, is not told apart; a package of float32 weights (`precision="fp32"`) reaches 108 dB and shows it.

It proves the graph, not the Neural Engine's arithmetic (`harness.coreml.interpreter`): a real prediction on the device
has to pass the same gate before its time counts (`harness.device`).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from harness.coreml.interpreter import Mode, run_program
from harness.coreml.mil_program import Program, Variable
from harness.device.benchmark import psnr_db as decibels
from harness.measure.evaluating import evaluating
from harness.records.errors import UserError
from harness.records.quantity import Measured

EXPECTED_DB = 50.0  # what Apple expects of fp16 (github.com/apple/coreai-models, model-authoring); no gate
FLOAT32_GATE_DB = 60.0  # chosen: an error of a thousandth of the peak; fp16 weights alone keep small networks above
FLOAT16_GATE_DB = 35.0  # Apple's own, of ml-stable-diffusion's conversion (python_coreml_stable_diffusion/torch2coreml)
RESOLUTION_DB = -20 * math.log10(torch.finfo(torch.float32).eps)  # 138: a smaller error is float32's own


class ParityError(UserError):
    """The package does not compute what the module computes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ParityResult:
    """Of the worst output, if there are several."""

    float32_db: float
    float16_db: float

    @property
    def passed(self) -> bool:
        return self.float32_db >= FLOAT32_GATE_DB and self.float16_db >= FLOAT16_GATE_DB

    @property
    def quantities(self) -> Mapping[str, Measured]:
        """`coreml_parity_float32` and `coreml_parity_float16`, in dB."""
        return {
            f"coreml_parity_{name}": Measured(value=value, unit="dB", conditions={"gate_db": gate})
            for name, value, gate in (
                ("float32", self.float32_db, FLOAT32_GATE_DB),
                ("float16", self.float16_db, FLOAT16_GATE_DB),
            )
        }

    def check(self) -> None:
        """ParityError if a gate is missed."""
        for name, reached, gate in (
            ("computed in float32", self.float32_db, FLOAT32_GATE_DB),
            ("rounded to fp16", self.float16_db, FLOAT16_GATE_DB),
        ):
            if not reached >= gate:
                raise ParityError(
                    f"the exported graph, {name}, reaches {reached:.1f} dB of the module's output and {gate:g} dB are "
                    "asked: it is another network; do not time it"
                )


def parity(module: nn.Module, inputs: Sequence[Any], program: Program) -> ParityResult:
    """`module(*inputs)` in float32 against the program of the package that was exported from it.

    Last inputs of None are left out, as in `export_package`. UserError where the module's output is constant: it has
    weights of zero, and any graph computes that (`fill_weights`, before the export).
    """
    tensors, references = _held_against(module, inputs)
    return ParityResult(
        float32_db=program_psnr_db(program, tensors, references, "float32"),
        float16_db=program_psnr_db(program, tensors, references, "float16"),
    )


def _held_against(module: nn.Module, inputs: Sequence[Any]) -> tuple[list[Tensor], list[Tensor]]:
    """What goes in, and what the module makes of it."""
    tensors = [value for value in inputs if value is not None]
    with evaluating(module), torch.no_grad():
        returned = module(*tensors)
    return tensors, list(returned) if isinstance(returned, tuple | list) else [returned]


def program_psnr_db(program: Program, inputs: Sequence[Tensor], references: Sequence[Tensor], mode: Mode) -> float:
    """The lowest PSNR of the program's outputs; inputs and references in the program's order."""
    outputs = run_program(program, program.named(inputs), mode).values()
    return min(psnr_db(reference, output) for reference, output in zip(references, outputs, strict=True))


def costliest_operator(module: nn.Module, inputs: Sequence[Any], program: Program) -> tuple[str, float]:
    """The operator whose results alone, rounded to fp16 where they are declared so, cost the most, and the PSNR that
    they leave, in dB: where to look when the whole has less than it should."""
    tensors, references = _held_against(module, inputs)
    operators = sorted({operation.operator for operation in program.operations})
    left = {each: program_psnr_db(_rounding(program, each), tensors, references, "float16") for each in operators}
    worst = min(left, key=left.__getitem__)
    return worst, left[worst]


def _rounding(program: Program, operator: str) -> Program:
    """The program in which the results of one operator alone are fp16."""
    operations = tuple(
        operation
        if operation.operator == operator
        else replace(operation, outputs=tuple(map(_kept, operation.outputs)))
        for operation in program.operations
    )
    return replace(program, operations=operations, inputs=tuple(map(_kept, program.inputs)))


def _kept(variable: Variable) -> Variable:
    return replace(variable, dtype="FLOAT32") if variable.dtype == "FLOAT16" else variable


def psnr_db(reference: Tensor, output: Tensor) -> float:
    """20 log10(max |reference| / root mean square error), as ml-stable-diffusion has it, at most float32's 138 dB.

    Minus infinity where the output is not finite. UserError where the reference is constant or not finite: parity with
    it would prove nothing.
    """
    if reference.shape != output.shape:
        raise UserError(f"the package's output has the shape {(*output.shape,)}, the module's {(*reference.shape,)}")
    if not torch.isfinite(reference).all() or reference.max() == reference.min():
        raise UserError(
            "the module's output is constant or not finite, so parity with it proves nothing; give every weight a "
            "value other than zero before the export (fill_weights)"
        )
    if not torch.isfinite(output).all():
        return -math.inf
    return min(decibels(output.numpy(), reference.detach().numpy()), RESOLUTION_DB)
