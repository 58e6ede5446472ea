"""What few bits cost: one trained network's packages of several sizes, each scored by samples of the same noise.

    OUT/packages/KEY/16.mlpackage              weights of 16 bits; so 8, 6 and 4
    OUT/packages/KEY/mixed-6.mlpackage         bits by sensitivity, its tensors at most as large as all at 6; so mixed-4
    OUT/packages/KEY/mixed-6.palettes.yaml     its plan

A package that is there, of the same weights and converter, is kept, and so is each score (`score`) and each measured
tensor (`harness.coreml.palette_measure`): what was killed goes on.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from harness.coreml.config import Mlprogram, WeightBits
from harness.coreml.export import Converted, convert, metadata_of, package_bytes, write_package
from harness.coreml.mil_program import read_program
from harness.coreml.palette_plan import Layer, bytes_of, cheapest, write_plan
from harness.coreml.palettize import PaletteBits, Palettes
from harness.coreml.parity import parity
from harness.measure.quality import DISTANCES
from harness.measure.statistics import LEVEL, Interval, sampling_difference
from harness.records.plain import fingerprint, to_plain
from harness.records.provenance import versions
from harness.records.quantity import Measured, Quantity
from harness.records.store import file_sha256
from harness.trials.scores.request import ScoreRequest
from harness.trials.scores.workers import scores
from harness.trials.settings import Settings
from harness.trials.shipping import Subject, of_trained, palette_errors
from harness.trials.trained import BITS, TrainedNetwork

MADE = "harness.made"
"""In a package's metadata: what it was made of and by."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Arm:
    """One way to ship the network."""

    name: str
    bits: WeightBits | None = None  # of all large tensors; None: mixed
    within: PaletteBits | None = None  # of mixed ones: their tensors take no more than all at so many bits
    against: str  # the arm that its score is held against

    @property
    def file(self) -> str:
        return f"{self.bits}.mlpackage" if self.bits is not None else f"mixed-{self.within}.mlpackage"


NETWORK = "the network itself"
ARMS = (
    Arm(name="16 bits", bits=16, against=NETWORK),
    Arm(name="8 bits", bits=8, against="16 bits"),
    Arm(name="6 bits", bits=6, against="16 bits"),
    Arm(name="mixed, within 6", within=6, against="6 bits"),
    Arm(name="4 bits", bits=4, against="16 bits"),
    Arm(name="mixed, within 4", within=4, against="4 bits"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Shipped:
    """A package with its scores; the network itself has neither a size on the phone nor decibels."""

    name: str
    against: str = ""
    bytes: int | None = None
    psnr_db: float | None = None  # of one pass, of the worst input, against the network in float32
    scores: Mapping[str, Quantity]


def bits_curve(trained: TrainedNetwork, settings: Settings) -> list[Shipped]:
    """The network and each of ARMS, scored by the same noise and classes; standard error says how far it is.

    Errors: as `scores`, `of_trained` and `convert`.
    """
    packages = Packages(trained, settings)
    packaged = [(arm, packages.made(arm)) for arm in ARMS]
    curve = [Shipped(name=NETWORK, scores=_scores(trained, settings))]
    for number, (arm, path) in enumerate(packaged, 1):
        print(f"package {number} of {len(packaged)}: {arm.name}", file=sys.stderr)
        quantities = _scores(replace(trained, package=path), settings)
        curve.append(
            Shipped(
                name=arm.name,
                against=arm.against,
                bytes=package_bytes(path),
                psnr_db=packages.psnr_db(path),
                scores=quantities,
            )
        )
    return curve


def differences_of(curve: Sequence[Shipped]) -> dict[tuple[str, str], Interval]:
    """(arm, score) -> its score less that of the arm that it is held against, by the noise that they share; at 95% for
    all arms of a score together (Bonferroni)."""
    by_name = {each.name: each for each in curve}
    held = [each for each in curve if each.against]
    level = 1 - (1 - LEVEL) / len(held)
    pairs = ((each, score, by_name[each.against].scores.get(score)) for each in held for score in DISTANCES)
    return {
        (each.name, score): sampling_difference(one, other, level)
        for each, score, other in pairs
        if isinstance(one := each.scores.get(score), Measured) and isinstance(other, Measured)
    }


def _scores(what: TrainedNetwork, settings: Settings) -> Mapping[str, Quantity]:
    (scored,) = scores(ScoreRequest(what=what, settings=settings, grid=(settings.sampling,)))
    return scored.quantities


class Packages:
    """Of one trained network, in its folder. It is sampled, converted and measured when that is first needed."""

    def __init__(self, trained: TrainedNetwork, settings: Settings, config: Mlprogram | None = None) -> None:
        self.trained, self.settings, self.config = trained, settings, config or Mlprogram()
        self.folder = settings.out / "packages" / trained.key
        made_of = {
            "weights": file_sha256(trained.weights),
            "export": to_plain(self.config),
            "sampling": to_plain(settings.sampling),  # on whose inputs tensors are measured
            "versions": versions(("coremltools", "torch")),
        }
        self.made_of = fingerprint(made_of, schema="packages-1")

    @cached_property
    def subject(self) -> Subject:
        return of_trained(self.trained, self.settings)

    @cached_property
    def converted(self) -> Converted:
        print(f"converting {self.trained.title}", file=sys.stderr)
        return convert(self.subject.module, self.subject.inputs[0], self.config)

    @cached_property
    def layers(self) -> list[Layer]:
        return palette_errors(self.subject, self.converted)

    def made(self, arm: Arm) -> Path:
        """The arm's package, written unless it is there."""
        path = self.folder / arm.file
        if path.is_dir() and metadata_of(path).get(MADE) == self.made_of:
            return path
        weights = self._plan(arm, path) if arm.bits is None else arm.bits
        about = {**self.subject.about, BITS: "mixed" if arm.bits is None else str(arm.bits), MADE: self.made_of}
        return write_package(self.converted, path, weights, about=about).path

    def psnr_db(self, path: Path) -> float:
        program = read_program(path)
        return min(parity(self.subject.module, each, program).float16_db for each in self.subject.inputs)

    def _plan(self, arm: Arm, path: Path) -> Palettes:
        within = arm.within
        assert within is not None
        most = bytes_of(self.layers, {layer.name: within for layer in self.layers})
        plan = cheapest(self.layers, most)
        path.parent.mkdir(parents=True, exist_ok=True)
        about = f"At most {most / 1e6:g} MB, what all take at {within} bits; measured on {self.subject.source}"
        write_plan(path.with_suffix(".palettes.yaml"), plan, self.layers, about)
        return plan
