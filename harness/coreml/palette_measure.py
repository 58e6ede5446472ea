"""What a network's output loses when one tensor alone is palettized, at each number of bits: what a plan is made of.

The mean over inputs of |output - whole|^2 / |whole|^2, both computed in float32 on the package's own constants. The
network is converted once and palettized once at each number of bits; a tensor's errors are then runs of the program in
which it alone is another, by all inputs together (`torch.vmap`): one run a tensor and a number of bits, seconds at
laptop size, hours at full size. What is measured is written down tensor by tensor, so that neither a measuring that was
stopped nor a plan of another size asks for it again.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor

from harness.coreml.export import Converted, write_package
from harness.coreml.interpreter import run_program
from harness.coreml.mil_program import Program, kept, read_program
from harness.coreml.palette_plan import SMALLEST, Layer, check_limit
from harness.coreml.palettize import MODES, PaletteBits
from harness.device.request import package_hash
from harness.records.eta import with_eta
from harness.records.plain import fingerprint, to_plain
from harness.records.provenance import versions

Inputs = Sequence[Sequence[Tensor]]
"""Each an input of the program, in its order."""

Place = tuple[int, str, str]
"""An operation, its argument, and the constant that it is."""


def measured_layers(
    converted: Converted, inputs: Inputs, folder: Path, at_most_bytes: int | None = None
) -> list[Layer]:
    """Every large tensor's errors, in the program's order; those that `folder` holds of this program and these inputs
    are read, the others measured and written into it. UserError, before that, where no plan of `at_most_bytes` is."""
    with TemporaryDirectory(prefix="harness-palettes-") as temporary:
        packages = Path(temporary)
        path = write_package(converted, packages / "16.mlpackage").path
        whole, file = read_program(path), folder / f"{_key(path, inputs)}.jsonl"
        if at_most_bytes is not None:
            check_limit([_size(whole, name) for _, _, name in large_weights(whole)], min(MODES), at_most_bytes)
        known = _read(file)
        missing = [place for place in large_weights(whole) if place[2] not in known]
        if missing:
            palettized = {
                bits: read_program(write_package(converted, packages / f"{bits}.mlpackage", bits).path)
                for bits in MODES
            }
            measured = layers_of(whole, palettized, inputs, missing)
            for layer in with_eta(measured, "tensors palettized alone", len(missing)):
                _append(file, layer)
                known[layer.name] = layer
    return [known[name] for _, _, name in large_weights(whole)]


def layers_of(
    whole: Program, palettized: Mapping[PaletteBits, Program], inputs: Inputs, places: Iterable[Place]
) -> Iterator[Layer]:
    """Each of the places with its errors; `palettized` are the same program with all tensors at some bits."""
    whole, stacked = kept(whole), [torch.stack(several) for several in zip(*inputs, strict=True)]
    reference = _outputs(whole, stacked)
    for operation, argument, name in places:
        errors: dict[PaletteBits, float] = {}
        for bits, other in palettized.items():
            (there,) = other.operations[operation].arguments[argument]
            changed = replace(whole, constants={**whole.constants, name: other.constants[there]})
            errors[bits] = _error(_outputs(changed, stacked), reference)
        yield Layer(name=name, size=_size(whole, name), errors=errors)


def _key(package: Path, inputs: Inputs) -> str:
    """Of all that errors are functions of: the program with its weights, the inputs, the palettes, the converter."""
    digest = hashlib.sha256()
    for each in inputs:
        for tensor in each:
            digest.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode() + tensor.numpy().tobytes())
    what = [package_hash(package), digest.hexdigest(), [*MODES.items()], versions(("coremltools",))]
    return fingerprint(to_plain(what), schema="palette-errors-1")


def _read(file: Path) -> dict[str, Layer]:
    """By name. A line that was cut short, by whatever killed its process, is measured again."""
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    layers = filter(None, map(_layer, lines))
    return {layer.name: layer for layer in layers}


def _layer(line: str) -> Layer | None:
    try:
        plain = json.loads(line)
        errors: dict[PaletteBits, float] = {bits: float(plain["errors"][str(bits)]) for bits in MODES}
        return Layer(name=str(plain["name"]), size=int(plain["size"]), errors=errors)
    except (ValueError, TypeError, KeyError):
        return None


def _append(file: Path, layer: Layer) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    torn = file.is_file() and not file.read_bytes().endswith(b"\n")
    with file.open("a", encoding="utf-8") as stream:
        stream.write("\n" * torn + json.dumps(to_plain(layer)) + "\n")


def large_weights(program: Program) -> list[Place]:
    """The place of every tensor that coremltools palettizes, each once."""
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


def _error(outputs: Tensor, references: Tensor) -> float:
    """Both (N, 1, ...), of N inputs."""
    lost, of = ((outputs - references).flatten(1).square().sum(1), references.flatten(1).square().sum(1))
    return float((lost / of).mean())


def _outputs(program: Program, stacked: Sequence[Tensor]) -> Tensor:
    """The program's first output for each of N inputs, in float32; each argument (N, ...)."""

    def one(*values: Tensor) -> Tensor:
        return next(iter(run_program(program, program.named(values), "float32").values()))

    out: Tensor = torch.vmap(one)(*stacked)
    return out
