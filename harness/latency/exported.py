"""The package that a device runs, with inputs and the outputs that it must give for them."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy
import torch
from torch import Tensor, nn

from harness.coreml.config import Mlprogram
from harness.coreml.export import export_package
from harness.coreml.interpreter import run_program
from harness.coreml.mil_program import read_program
from harness.device.benchmark import Arrays
from harness.latency.cpu import on_cpu, shape_of
from harness.measure.evaluating import evaluating
from harness.models.parameters import filled_copy


@dataclass(frozen=True, kw_only=True, slots=True)
class Exported:
    package: Path
    inputs: Arrays  # by the package's names
    reference: Arrays  # what the float32 module gives; of a palettized package, what its tables stand for give
    conditions: Mapping[str, Any]  # what of the export and the inputs a time is conditional on


@contextmanager
def exported(module: nn.Module, inputs: Sequence[Any], config: Mlprogram) -> Iterator[Exported]:
    """`module` as a package in a folder that is gone afterwards; CoremlExportError where it does not convert.

    Times do not depend on weights, so a copy of the module gets random ones, the same every time: an output of a
    network that begins with zeros would agree with anything, and the same architecture becomes the same package.
    """
    module, arguments = on_cpu(module, inputs)
    tensors = [x for x in arguments if x is not None]
    filled = filled_copy(module)
    with tempfile.TemporaryDirectory(prefix="latency-") as folder:
        package = Path(folder) / "model.mlpackage"
        summary = export_package(filled, tensors, package, config)
        named = dict(zip(summary.inputs, tensors, strict=True))
        if config.bits == 16:
            with evaluating(filled), torch.no_grad():
                result = filled(*tensors)
            outputs = result if isinstance(result, tuple | list) else [result]
        else:
            outputs = list(run_program(read_program(package), named, "float32").values())
        reference = dict(zip(summary.outputs, outputs, strict=True))
        conditions = {"weight_bits": config.bits, "target": config.target, **shape_of(tensors[0])}
        yield Exported(package=package, inputs=_arrays(named), reference=_arrays(reference), conditions=conditions)


def _arrays(tensors: dict[str, Tensor]) -> Arrays:
    """float32, and int32 for whole numbers: the types that a package takes."""
    return {
        name: tensor.detach().numpy().astype(numpy.float32 if tensor.is_floating_point() else numpy.int32)
        for name, tensor in tensors.items()
    }
