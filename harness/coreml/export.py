"""Core ML: the package that a phone loads, converted from the module itself and read back as a specification.

The way in is `torch.export` with all decompositions; the converter writes an ML program. Nothing is compiled or run:
that needs a Mac.
"""

import contextlib
import io
import os
import shutil
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from harness.coreml.config import Mlprogram, WeightBits
from harness.coreml.layout import for_export
from harness.coreml.palettize import PaletteBits, Palettes, palettized
from harness.coreml.precision import compute_precision
from harness.measure.evaluating import evaluating
from harness.records.errors import UserError
from harness.records.quantity import Counted
from harness.records.store import check_writable, unwritable


class CoremlExportError(UserError):
    """The module did not convert; the message is the converter's."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportSummary:
    """What the saved package contains, read back from disk."""

    path: Path
    target: str
    precision: str
    layout: str
    bits: WeightBits | PaletteBits | Literal["mixed"]
    bytes: int
    operators: Mapping[str, int]  # MIL operator -> how often, without constants; the most frequent first
    inputs: Mapping[str, tuple[int, ...]]  # name -> shape
    outputs: Mapping[str, tuple[int, ...]]
    seconds: float  # to export and convert
    versions: Mapping[str, str]

    @property
    def quantity(self) -> Counted:
        """`coreml_bytes`."""
        shapes = {name: list(shape) for name, shape in self.inputs.items()}
        settings = {name: getattr(self, name) for name in ("target", "precision", "layout", "bits")}
        conditions = {**settings, "inputs": shapes, **self.versions}
        return Counted(value=self.bytes, unit="bytes", conditions=conditions)


@dataclass(frozen=True, kw_only=True, slots=True)
class Converted:
    """A module as an ML program in memory, its weights of 16 bits: packages by several palettes are written of one."""

    model: Any  # coremltools' MLModel
    config: Mlprogram
    seconds: float  # to export and convert


def export_package(
    module: nn.Module,
    inputs: Sequence[Any],
    path: Path,
    config: Mlprogram | None = None,
    *,
    about: Mapping[str, str] | None = None,
) -> ExportSummary:
    """Convert `module(*inputs)` to an ML program at `path` (`....mlpackage`), replacing one that is there.

    Inputs, `about` and errors: as `convert` and `write_package`. The module is left as it was.
    """
    config = config or Mlprogram()
    check_package_place(path)
    return write_package(convert(module, inputs, config), path, config.bits, about=about)


def convert(module: nn.Module, inputs: Sequence[Any], config: Mlprogram) -> Converted:
    """`module(*inputs)` as an ML program, whatever the config's bits.

    Inputs fix the shapes; last inputs of None, arguments not given, are left out. CoremlExportError where it does not
    convert. The module is left as it was.
    """
    started = time.perf_counter()
    with _converters_failures(), evaluating(module), torch.no_grad():
        model = _mlmodel(module, tuple(inputs), config)
    return Converted(model=model, config=config, seconds=time.perf_counter() - started)


def write_package(
    converted: Converted,
    path: Path,
    weights: WeightBits | PaletteBits | Palettes = 16,
    *,
    about: Mapping[str, str] | None = None,
) -> ExportSummary:
    """The package at `path`, replacing one that is there; its weights all of so many bits, or palettized by a plan.

    `about` is written into the package's metadata. UserError where the path cannot be written, and for a plan of
    another network. What was converted is left as it was.
    """
    check_package_place(path)
    started = time.perf_counter()
    with _converters_failures():
        model = converted.model if weights == 16 else palettized(converted.model, weights)
    seconds = converted.seconds + time.perf_counter() - started
    model.user_defined_metadata.update(about or {})
    try:
        with without_remarks():
            _save(model, path)
    finally:
        for name in about or ():  # with weights of 16 bits it is the converted model itself
            del model.user_defined_metadata[name]
    return _summary(path, converted.config, weights, seconds)


@contextlib.contextmanager
def _converters_failures() -> Iterator[None]:
    """What is raised while a network is converted, as a sentence: the network's failure, or the machine's."""
    try:
        with without_remarks():
            yield
    except UserError:
        raise
    except (OSError, MemoryError) as error:  # the machine's failure, not the network's: no result to keep
        raise UserError(
            f"the Core ML conversion could not finish here ({one_line(error)}); free disk space and memory and "
            "run the same command again, or set coreml=none"
        ) from error
    except Exception as error:  # whatever the exporter or the converter raises
        raise CoremlExportError(one_line(error)) from error


def check_package_place(path: Path) -> None:
    """UserError before the conversion, which takes minutes, and not after it."""
    if path.suffix != ".mlpackage":
        raise UserError(f"a Core ML package's name ends in .mlpackage, not '{path.name}'")
    if path.exists() and not path.is_dir():
        raise UserError(f"{path} is a file and no Core ML package; move it away, or choose another place with --to")
    check_writable(path)


def read_package(path: Path) -> Any:
    """The package's specification (coremltools' protobuf), without compiling it. UserError where it is damaged."""
    with unreadable(path), without_remarks():
        import coremltools

        return coremltools.models.MLModel(str(path), skip_model_load=True).get_spec()


@contextlib.contextmanager
def unreadable(path: Path) -> Iterator[None]:
    """Whatever coremltools raises at what is no package, or a part of one, as a sentence."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:
        raise UserError(
            f"{path} cannot be read as a Core ML package ({one_line(error)}); copy or export it anew"
        ) from error


def package_bytes(path: Path) -> int:
    """Of all its files."""
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def metadata_of(path: Path) -> dict[str, str]:
    """What an export wrote about the package into it; empty for one of another tool."""
    return dict(read_package(path).description.metadata.userDefined)


def _mlmodel(module: nn.Module, inputs: tuple[Any, ...], config: Mlprogram) -> Any:
    import coremltools

    while inputs and inputs[-1] is None:  # the exporter takes tensors only
        inputs = inputs[:-1]
    program = torch.export.export(for_export(module, config.layout), inputs)
    return coremltools.convert(
        program.run_decompositions({}),
        convert_to="mlprogram",
        minimum_deployment_target=getattr(coremltools.target, config.target),
        compute_precision=compute_precision(config.precision),
        skip_model_load=True,
    )


def _save(model: Any, path: Path) -> None:
    """Beside its place first, so that a half-written package never has the final name."""
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.mlpackage")
    try:
        model.save(str(temporary))
        if path.exists():
            shutil.rmtree(path)
        temporary.rename(path)
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _summary(
    path: Path, config: Mlprogram, weights: WeightBits | PaletteBits | Palettes, seconds: float
) -> ExportSummary:
    import coremltools

    spec = read_package(path)
    blocks = [
        block for function in spec.mlProgram.functions.values() for block in function.block_specializations.values()
    ]
    types = (operation.type for block in blocks for operation in block.operations)
    operators = Counter(name for name in types if not name.startswith("const"))  # constants, and tables of them
    return ExportSummary(
        path=path,
        target=config.target,
        precision=config.precision,
        layout=config.layout,
        bits="mixed" if isinstance(weights, Mapping) else weights,
        bytes=package_bytes(path),
        operators=dict(operators.most_common()),
        inputs={x.name: tuple(x.type.multiArrayType.shape) for x in spec.description.input},
        outputs={x.name: tuple(x.type.multiArrayType.shape) for x in spec.description.output},
        seconds=seconds,
        versions={"coremltools": coremltools.__version__, "torch": torch.__version__},
    )


def one_line(error: Exception) -> str:
    """Of a converter's error."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:300]}" if text else type(error).__name__


@contextlib.contextmanager
def without_remarks() -> Iterator[None]:
    """Without coremltools' remarks about versions and absent Mac libraries, and its progress bars."""
    with contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
