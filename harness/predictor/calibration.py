"""A calibration: fitted parameters, how far they can be trusted, and what they were fitted on; a YAML file.

The package carries one, fitted on the published latencies. `harness latency calibrate` writes it again, also with the
user's own measurements.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from math import exp
from pathlib import Path

from harness.predictor.evaluation import NOMINAL, half_width, left_out, predictor_method
from harness.predictor.fit import Fitted, Pair, Point, Vector, fit
from harness.predictor.operators import Operators
from harness.predictor.roofline import INDEX, ChipScale, Physics
from harness.records.errors import UserError
from harness.records.plain import fingerprint, from_plain, to_plain
from harness.records.store import write_atomic
from harness.records.yaml_text import read_yaml, write_yaml

PACKAGED = Path(__file__).parent / "calibration.yaml"
FEW_POINTS = 5
FEWEST_POINTS = 10  # in all: fewer than there are parameters, and left out in turn they say little


@dataclass(frozen=True, kw_only=True)
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
    networks: Mapping[str, str]  # by `network_key`, what of the network is in the data: no prediction tests it

    @property
    def fitted(self) -> Fitted:
        return Fitted(physics=self.physics, scales=self.scales)

    @cached_property
    def fingerprint(self) -> str:
        """Of all but `networks`, which follow from the rest."""
        return fingerprint(replace(self, networks={}), schema="latency-calibration-2")


def calibrate_and_test(
    points: Sequence[Point], pairs: Sequence[Pair] = (), *, fitted_on: str
) -> tuple[Calibration, Vector]:
    """Fit, then leave out every series, and every chip, for the widths of the intervals: the calibration, and the log
    error of each point when its series is left out."""
    if len(points) < FEWEST_POINTS:
        raise UserError(f"a calibration needs at least {FEWEST_POINTS} latencies, not {len(points)}; add measurements")
    fitted = fit(points, pairs)
    method = predictor_method(pairs, fitted)
    by_series, by_chip = left_out(points, method), left_out(points, method, lambda point: point.chip)
    return _calibration(points, fitted, by_series, by_chip, fitted_on), by_series


def _calibration(
    points: Sequence[Point], fitted: Fitted, by_series: Vector, by_chip: Vector, fitted_on: str
) -> Calibration:
    sizes = [total_macs(point.operators) for point in points]
    return Calibration(
        physics=fitted.physics,
        scales=fitted.scales,
        half_width=half_width(by_series),
        half_width_extrapolated=max(half_width(by_series), half_width(by_chip)),
        nominal=NOMINAL,
        few_points=FEW_POINTS,
        points=dict(Counter(point.chip for point in points)),
        macs=(min(sizes), max(sizes)),
        fitted_on=fitted_on,
        data=fingerprint([_identity(point) for point in points], schema="latency-points-1"),
        networks=_networks(points, by_series),
    )


def total_macs(operators: Operators) -> float:
    kinds = [INDEX[kind] for kind in ("dense", "depthwise", "attention")]
    return float(operators[:, 0] @ operators[:, kinds].sum(1)) if len(operators) else 0.0


def _networks(points: Sequence[Point], by_series: Vector) -> dict[str, str]:
    texts: dict[str, list[str]] = {}
    for point, error in zip(points, by_series, strict=True):
        without = f"{point.latency_ms * exp(error):.3g} predicted without its series"
        text = f"{point.latency_ms:g} ms on the {point.chip} at {point.weight_bits:g} bits ({without})"
        texts.setdefault(network_key(point.operators), [point.network]).append(text)
    return {key: f"{name}: {', '.join(dict.fromkeys(parts))}" for key, (name, *parts) in texts.items()}


def network_key(operators: Operators) -> str:
    """What tells a network from another, whatever the order of its operators: its totals of every column."""
    return " ".join(f"{total:.0f}" for total in operators[:, 0] @ operators[:, 1:])


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
