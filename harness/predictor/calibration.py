"""A calibration: fitted parameters, how far they can be trusted, and what they were fitted on; a YAML file.

The package carries one, fitted on the published latencies. `harness latency calibrate` writes it again, also with the
user's own measurements.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from harness.predictor.evaluation import NOMINAL, half_width, left_out, predictor_method
from harness.predictor.fit import Fitted, Point, Vector, fit
from harness.predictor.operators import Operators
from harness.predictor.roofline import INDEX, ChipScale, Physics
from harness.records.errors import UserError
from harness.records.plain import fingerprint, from_plain, to_plain
from harness.records.store import write_atomic
from harness.records.yaml_text import read_yaml, write_yaml

PACKAGED = Path(__file__).parent / "calibration.yaml"
FEW_POINTS = 5
FEWEST_POINTS = 10  # in all: fewer than there are parameters, and left out in turn they say little


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibration:
    physics: Physics
    scales: Mapping[str, ChipScale]  # by chip
    half_width: float  # log: an interval is value / exp(it) to value * exp(it)
    half_width_extrapolated: float
    nominal: float  # the share of new models that the intervals are meant to hold
    few_points: int  # a chip with fewer is extrapolated to
    points: Mapping[str, int]  # by chip
    macs: tuple[float, float]  # of the smallest and the largest network in the data
    fitted_on: str
    data: str  # the fingerprint of the points

    @property
    def fitted(self) -> Fitted:
        return Fitted(physics=self.physics, scales=self.scales)

    @property
    def fingerprint(self) -> str:
        return fingerprint(self, schema="latency-calibration-1")


def calibrate(points: Sequence[Point], *, fitted_on: str) -> Calibration:
    """Fit, then leave out every model, and every chip, for the widths of the intervals."""
    return calibrate_and_test(points, fitted_on=fitted_on)[0]


def calibrate_and_test(points: Sequence[Point], *, fitted_on: str) -> tuple[Calibration, Vector]:
    """The calibration, and the log error of each point when its model is left out."""
    if len(points) < FEWEST_POINTS:
        raise UserError(f"a calibration needs at least {FEWEST_POINTS} latencies, not {len(points)}; add measurements")
    fitted = fit(points)
    by_model = left_out(points, predictor_method(fitted))
    return _calibration(points, fitted, by_model, fitted_on), by_model


def _calibration(points: Sequence[Point], fitted: Fitted, by_model: Vector, fitted_on: str) -> Calibration:
    by_chip = left_out(points, predictor_method(fitted), lambda point: point.chip)
    sizes = [total_macs(point.operators) for point in points]
    return Calibration(
        physics=fitted.physics,
        scales=fitted.scales,
        half_width=half_width(by_model),
        half_width_extrapolated=max(half_width(by_model), half_width(by_chip), _widest_on_rare_chips(points, by_model)),
        nominal=NOMINAL,
        few_points=FEW_POINTS,
        points=dict(Counter(point.chip for point in points)),
        macs=(min(sizes), max(sizes)),
        fitted_on=fitted_on,
        data=fingerprint([_identity(point) for point in points], schema="latency-points-1"),
    )


def total_macs(operators: Operators) -> float:
    kinds = [INDEX[kind] for kind in ("dense", "depthwise", "attention")]
    return float(operators[:, 0] @ operators[:, kinds].sum(1)) if len(operators) else 0.0


def _widest_on_rare_chips(points: Sequence[Point], by_model: Vector) -> float:
    """The largest error of a left-out model on a chip with few points: too few for a rank."""
    chips = Counter(point.chip for point in points)
    rare = [abs(error) for point, error in zip(points, by_model, strict=True) if chips[point.chip] < FEW_POINTS]
    return float(max(rare, default=0.0))


def _identity(point: Point) -> list[object]:
    return [point.model, point.chip, point.latency_ms, point.weight_bits, point.operators.tolist()]


def to_yaml(calibration: Calibration) -> str:
    return write_yaml(to_plain(calibration))


def write(calibration: Calibration, path: Path = PACKAGED) -> None:
    head = "# Written by `harness latency calibrate`: fitted numbers, not to be edited by hand.\n"
    write_atomic(path, (head + to_yaml(calibration)).encode())


@cache
def read(path: Path = PACKAGED) -> Calibration:
    """The calibration in that file; the package's by default."""
    try:
        return from_plain(Calibration, read_yaml(path))
    except UserError as error:
        raise UserError(f"{path} is not a calibration ({error}); `harness latency calibrate` writes one") from error
