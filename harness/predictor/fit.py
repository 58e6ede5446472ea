"""The parameters of the physics from measured latencies: robust least squares in log space, held to plausible values.

    minimise sum over points of rho(log(predicted / measured) / NOISE)
           + sum over pairs of rho(log(predicted ratio / printed ratio) / PAIR_NOISE)
           + sum over parameters of (log(p / prior) / width)^2

rho is SciPy's soft L1, so that a few models that Core ML runs off the Neural Engine do not decide. Every parameter is
a positive number with a prior: physics shared by the chips, and two scales a chip around its public numbers. Pairs
tell what absolute times cannot: how much of an attention is its matmuls and how much its scores.
"""

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from functools import cache

import numpy as np
from numpy.typing import NDArray

from harness.predictor.chips import CHIPS
from harness.predictor.operators import Operators
from harness.predictor.roofline import ChipScale, Physics, milliseconds, operators_ms, scale_of
from harness.records.errors import UserError

Vector = NDArray[np.float64]
NOISE = 0.12  # log of the spread between publications of one model on one chip; chosen, not fitted
PAIR_NOISE = 0.1  # of a ratio of two times from one source on one chip; chosen
CHIP_WIDTH = 0.15  # log: a chip's scales stay near its public numbers; chosen

PRIOR = Physics(
    dense=0.4, depthwise=0.05, attention=0.2, vector=200.0, norm=100.0, score_bytes=10.0,
    bandwidth=0.6, on_chip_mb=8.0, launch_ms=0.001, attention_ms=0.1, fixed_ms=0.3,
)  # fmt: skip
"""Where the fit starts and is drawn to: chosen orders of magnitude, from what is said of the Neural Engine: a
convolution engine whose matmuls are slower than its convolutions, some MB on the chip, a floor of 0.1 to 0.3 ms; scores
of two bytes are written, read and written by a softmax, and read: 8 bytes each, or 12 where it goes over them twice.
Layers of transformers over few tokens cost about 0.1 ms beyond their weights."""
WIDTH = Physics(
    dense=0.7, depthwise=1.0, attention=1.0, vector=1.0, norm=1.0, score_bytes=0.47,
    bandwidth=0.5, on_chip_mb=1.0, launch_ms=1.0, attention_ms=0.7, fixed_ms=0.7,
)  # fmt: skip
"""How far, in logs, a parameter may go before it costs as much as one standard deviation of noise."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Point:
    """One measured latency of one model, with what the physics needs to predict it."""

    model: str  # points of one model are left out together
    network: str  # the model at a size: on one chip, at equal bits, several sources measure the same
    family: str
    series: str  # points of one series are left out together where the report asks for it
    chip: str
    latency_ms: float
    weight_bits: float
    operators: Operators

    def __post_init__(self) -> None:
        if self.latency_ms <= 0:
            raise UserError(f"a latency is above 0 ms, and {self.model} has {self.latency_ms:g}")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Pair:
    """Two networks on one chip, of whose times the ratio is printed. Their own latencies are not used."""

    a: Point
    b: Point
    ratio: float  # of a's time to b's


@dataclass(frozen=True, kw_only=True, slots=True)
class Fitted:
    physics: Physics
    scales: Mapping[str, ChipScale]

    def predict(self, operators: Operators, chip: str, weight_bits: float) -> float:
        """Milliseconds."""
        return milliseconds(operators, self.physics, CHIPS[chip], scale_of(self.scales, CHIPS[chip]), weight_bits)


def fit(points: Sequence[Point], pairs: Sequence[Pair] = (), start: Fitted | None = None) -> Fitted:
    """The parameters for these points; without points the priors. Of the pairs those count whose series and chip are
    among the points', so that what is left out is left out of both. `start` saves time and nothing else."""
    from scipy.optimize import least_squares

    pairs = _among(points, pairs)
    both = [*points, *(one for pair in pairs for one in (pair.a, pair.b))]
    stacks, target = _stacks(both), np.concatenate([_measured(points), np.log([pair.ratio for pair in pairs])])
    noise = np.array([NOISE] * len(points) + [PAIR_NOISE] * len(pairs))
    chips, compared = [stack.chip for stack in stacks], _compared(len(points), len(pairs))
    prior, width = _logs(Fitted(physics=PRIOR, scales={}), chips), _widths(len(chips))

    def misses(theta: Vector) -> Vector:
        return np.asarray((compared @ _predicted(_fitted(theta, chips), stacks, len(both)) - target) / noise)

    def residuals(theta: Vector) -> Vector:
        return np.concatenate([_robust(misses(theta)), (theta - prior) / width])

    def slopes(theta: Vector) -> Vector:
        base = _predicted(_fitted(theta, chips), stacks, len(both))
        changes = np.stack([_change(theta, index, chips, stacks, base) for index in range(len(theta))], axis=1)
        bent = _robust_slope(misses(theta)) / noise
        return np.concatenate([bent[:, None] * (compared @ changes), np.diag(1 / width)])

    begin = prior if start is None else _logs(start, chips)
    return _fitted(least_squares(residuals, begin, jac=slopes, max_nfev=60).x, chips)


def _among(points: Sequence[Point], pairs: Sequence[Pair]) -> list[Pair]:
    series, chips = {point.series for point in points}, {point.chip for point in points}
    return [pair for pair in pairs if {pair.a.series, pair.b.series} <= series and pair.a.chip in chips]


def _compared(points: int, pairs: int) -> Vector:
    """(points + pairs, points + 2 pairs): each point's log time as it is, each pair's first less its second."""
    compared = np.zeros((points + pairs, points + 2 * pairs))
    compared[:points, :points] = np.eye(points)
    for index in range(pairs):
        compared[points + index, points + 2 * index : points + 2 * index + 2] = 1, -1
    return compared


STEP = 1e-6  # of a parameter's log, for its slope


def _change(theta: Vector, index: int, chips: Sequence[str], stacks: Sequence["_Stack"], base: Vector) -> Vector:
    """By how much each log(milliseconds) rises per unit of that parameter. A chip's scale moves its own points only,
    which spares most of the work."""
    moved = theta.copy()
    moved[index] += STEP
    fitted, scale = _fitted(moved, chips), index - len(fields(Physics))
    if scale < 0:
        return (_predicted(fitted, stacks, len(base)) - base) / STEP
    of_chip = [stacks[scale // len(fields(ChipScale))]]
    change = np.zeros(len(base))
    inside = np.unique(of_chip[0].point)
    change[inside] = (_predicted(fitted, of_chip, len(base)) - base)[inside] / STEP
    return change


def errors(fitted: Fitted, points: Sequence[Point]) -> Vector:
    """log(predicted / measured) of each point."""
    return _predicted(fitted, _stacks(points), len(points)) - _measured(points)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Stack:
    """The operators of all points of one chip, so that a fit predicts thousands of times at one call a chip."""

    chip: str
    operators: Operators  # [rows, columns]
    weight_bits: Vector  # [rows]
    point: NDArray[np.intp]  # [rows], the point that the row is of


def _stacks(points: Sequence[Point]) -> list[_Stack]:
    stacks = []
    for chip in dict.fromkeys(point.chip for point in points):
        inside = [index for index, point in enumerate(points) if point.chip == chip]
        rows = [len(points[index].operators) for index in inside]
        stacks.append(
            _Stack(
                chip=chip,
                operators=np.concatenate([points[index].operators for index in inside]),
                weight_bits=np.repeat([points[index].weight_bits for index in inside], rows),
                point=np.repeat(inside, rows),
            )
        )
    return stacks


def _predicted(fitted: Fitted, stacks: Sequence[_Stack], count: int) -> Vector:
    """log(milliseconds) of each of `count` points."""
    total = np.full(count, fitted.physics.fixed_ms)
    for stack in stacks:
        chip = CHIPS[stack.chip]
        each = operators_ms(stack.operators, fitted.physics, chip, scale_of(fitted.scales, chip), stack.weight_bits)
        total += np.bincount(stack.point, weights=each, minlength=count)
    return np.asarray(np.log(total))


def _measured(points: Sequence[Point]) -> Vector:
    return np.asarray(np.log([point.latency_ms for point in points]))


def _robust(z: Vector) -> Vector:
    """Residuals whose squares are SciPy's soft L1 of z: like z near 0, like sqrt(2 z) far away."""
    return np.asarray(np.sign(z) * np.sqrt(2 * (np.sqrt(1 + z * z) - 1)))


def _robust_slope(z: Vector) -> Vector:
    """The derivative of `_robust`."""
    root = np.sqrt(1 + z * z)
    at_zero = np.abs(z) < 1e-9
    return np.where(at_zero, 1.0, np.abs(z) / (root * np.sqrt(np.where(at_zero, 1.0, 2 * (root - 1)))))


def _logs(fitted: Fitted, chips: Sequence[str]) -> Vector:
    scales = [scale_of(fitted.scales, CHIPS[chip]) for chip in chips]
    return np.log([*astuple(fitted.physics), *(value for scale in scales for value in astuple(scale))])


@cache
def _widths(chips: int) -> Vector:
    return np.array([*astuple(WIDTH), *[CHIP_WIDTH] * (chips * len(fields(ChipScale)))])


def _fitted(theta: Vector, chips: Sequence[str]) -> Fitted:
    """`theta`: the logs of the physics, then of each chip's scales."""
    values = [float(value) for value in np.exp(theta)]
    names, each = [field.name for field in fields(Physics)], [field.name for field in fields(ChipScale)]
    physics = Physics(**dict(zip(names, values, strict=False)))
    of_chips = np.reshape(values[len(names) :], (len(chips), len(each))).tolist()
    scales = {
        chip: ChipScale(**dict(zip(each, scale, strict=True))) for chip, scale in zip(chips, of_chips, strict=True)
    }
    return Fitted(physics=physics, scales=scales)
