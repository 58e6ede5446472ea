"""Packages for tests: written with coremltools' own builder of MIL programs, or exported from a small network."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harness.architecture.catalogue import architecture
from harness.architecture.config import ArchitectureConfig
from harness.architecture.edits import with_edits
from harness.coreml.config import Mlprogram
from harness.coreml.export import ExportSummary, export_package
from harness.coreml.mil_program import Program, read_program
from harness.models.build import build, example_inputs
from harness.models.parameters import fill_weights

LAST_RUNG = {  # of the ladder, with two stages: MQA, RMSNorm of queries and keys, RoPE, separable convolutions, GEGLU
    "stages": [
        {"channels": 16, "down_blocks": 1, "up_blocks": 1, "block": {"kind": "transformer", "depth": 1,
         "self_attention": False, "projections": False}},
        {"channels": 32, "down_blocks": 1, "up_blocks": 1, "block": {"kind": "residual_transformer", "depth": 1,
         "self_attention": True}},
    ],
    "middle": None, "context_width": 24, "context_length": 5, "feed_forward.ratio": 3, "qk_norm": "rms",
    "self_attention": "mqa", "cross_attention": "mqa", "position": {"kind": "rope_2d", "base": 10000},
    "convolution": {"kind": "separable", "kernel_size": 5, "expansion": 2, "relative_to": "widest", "resampling": "up"},
}  # fmt: skip


def small_last_rung() -> ArchitectureConfig:
    return with_edits(architecture("laptop/thin_sdxl"), LAST_RUNG)


def exported(config: ArchitectureConfig, folder: Path, settings: Mlprogram) -> tuple[Any, Any, ExportSummary]:
    """The module, its weights filled, its inputs, and the summary of its package."""
    module, inputs = build(config), example_inputs(config, latent=8)
    fill_weights(module)
    return module, inputs, export_package(module, inputs, folder / "network.mlpackage", settings)


def built(body: Callable[..., Any], inputs: Sequence[Tensor], path: Path, *, precision="FLOAT32", target="iOS17"):
    """The package of an `mb` program whose body takes and gives variables; its inputs are x0, x1, ..."""
    import coremltools as ct
    from coremltools.converters.mil.mil import Builder as mb  # noqa: N813

    names = [f"x{index}" for index in range(len(inputs))]
    specs = [mb.TensorSpec(shape=tuple(value.shape)) for value in inputs]
    opset = getattr(ct.target, target)
    arguments = ", ".join(names)
    function = eval(f"lambda {arguments}: body({arguments})", {"body": body})  # the builder reads parameters' names
    program = mb.program(input_specs=specs, opset_version=opset)(function)
    model = ct.convert(
        program,
        convert_to="mlprogram",
        minimum_deployment_target=opset,
        compute_precision=getattr(ct.precision, precision),
        pass_pipeline=ct.PassPipeline.EMPTY if precision == "FLOAT32" else None,  # else constants are folded away
        skip_model_load=True,
    )
    model.save(str(path))
    return read_program(path)


def with_argument(program: Program, index: int, key: str, value: Any) -> Program:
    """The program in which argument `key` of operation `index` is another constant."""
    operation = program.operations[index]
    changed = replace(operation, arguments={**operation.arguments, key: ("changed",)})
    return with_operation(replace(program, constants={**program.constants, "changed": lambda: value}), index, changed)


def with_operation(program: Program, index: int, operation: Any) -> Program:
    operations = (*program.operations[:index], operation, *program.operations[index + 1 :])
    return replace(program, operations=operations)


def places(program: Program, operator: str) -> list[int]:
    return [index for index, operation in enumerate(program.operations) if operation.operator == operator]


def run_on(program: Program, inputs: Sequence[Tensor], mode="float32") -> Tensor:
    """The program's only output."""
    from harness.coreml.interpreter import run_program

    named = {variable.name: value for variable, value in zip(program.inputs, inputs, strict=True)}
    (output,) = run_program(program, named, mode).values()
    return output


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))
