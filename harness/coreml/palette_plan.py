"""Which tensors bear few bits: 2, 4, 6 or 8 for each, so that the package has at most some size and errs least.

A tensor's error at some bits is what the output loses when it alone is palettized (`harness.coreml.palette_measure`).
Errors of several tensors are taken to add up. All begin at the fewest bits; then, as long as it fits, the step up that
takes away most error a byte is taken, along each tensor's convex hull, which is the best but for the last step; and
never more than equal bits that fit. The plan is YAML, and anyone's to edit. No torch, no coremltools.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.coreml.palettize import PaletteBits, Palettes
from harness.records.errors import UserError
from harness.records.plain import from_plain
from harness.records.yaml_text import read_yaml, write_yaml

SMALLEST = 2048
"""coremltools leaves tensors of up to so many weights in fp16."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Layer:
    name: str
    """Of the tensor, as the fp16 package calls it."""
    size: int
    """Weights."""
    errors: Mapping[PaletteBits, float]
    """Above."""

    def bytes_at(self, bits: int) -> int:
        return palette_bytes(self.size, bits)


def palette_bytes(size: int, bits: int) -> int:
    """Of so many weights: indices and the table of fp16 values."""
    return (size * bits + 7) // 8 + (2 << bits)


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanFile:
    bits: Palettes


def cheapest(layers: Sequence[Layer], at_most_bytes: int) -> Palettes:
    """Bits by which the tensors' indices and tables take at most so many bytes, and their errors add up to little.

    UserError: as `check_limit`.
    """
    fewest = min((min(layer.errors) for layer in layers), default=0)
    check_limit([layer.size for layer in layers], fewest, at_most_bytes)
    chosen = {layer.name: min(layer.errors) for layer in layers}
    left = at_most_bytes - bytes_of(layers, chosen)
    steps = sorted((step for layer in layers for step in _steps(layer)), key=lambda step: -step.gain)
    for step in steps:  # a tensor's own come in order, since its hull's gains fall
        if step.cost <= left and chosen[step.name] == step.before:
            chosen[step.name], left = step.after, left - step.cost
    alike = [dict.fromkeys(chosen, bits) for bits in layers[0].errors]
    fitting = [plan for plan in alike if bytes_of(layers, plan) <= at_most_bytes]
    return min((chosen, *fitting), key=lambda plan: sum(layer.errors[plan[layer.name]] for layer in layers))


def check_limit(sizes: Sequence[int], fewest: int, at_most_bytes: int) -> None:
    """Before anything is measured, which may take hours: UserError where there is no tensor to give bits to, and where
    all at the fewest bits take more than is asked."""
    if not sizes:
        raise UserError(
            f"the network has no tensor of more than {SMALLEST:,} weights, and smaller ones stay fp16: nothing is "
            "palettized; leave out --at-most-mb"
        )
    least = sum(palette_bytes(size, fewest) for size in sizes)
    if least > at_most_bytes:
        raise UserError(f"the tensors take {least:,} bytes at the fewest bits, and at most {at_most_bytes:,} are asked")


def bytes_of(layers: Sequence[Layer], plan: Palettes) -> int:
    """What the tensors take by a plan."""
    return sum(layer.bytes_at(plan[layer.name]) for layer in layers)


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
    plan = from_plain(PlanFile, read_yaml(path, "the palette plan "), where=str(path)).bits
    if not plan:
        raise UserError(f"{path} names no tensor; write one with `harness export WEIGHTS --at-most-mb SIZE`")
    return plan
