"""How good the predictor is where it has not looked: every model left out in turn, all its chips and sizes together.

Beside it, under the same rule, the two things a phone is usually judged by: multiply-adds alone (a power law and an
offset a chip), and a plain roofline (peak and bandwidth as announced, one common factor).
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, log

import numpy as np

from harness.predictor.chips import CHIPS
from harness.predictor.fit import Fitted, Point, Vector, fit
from harness.predictor.roofline import ACTIVATION_BYTES, INDEX
from harness.records.eta import with_eta

NOMINAL = 0.9  # the share of new models that an interval is meant to hold
Method = Callable[[Sequence[Point], Sequence[Point]], Vector]
"""From the points that it may look at, and others, to the logs of the predicted milliseconds of the others."""


def left_out(points: Sequence[Point], method: Method, by: Callable[[Point], str] = lambda p: p.model) -> Vector:
    """log(predicted / measured) of every point, predicted without the points that are equal in `by`."""
    errors = np.zeros(len(points))
    groups = sorted({by(point) for point in points})
    for group in with_eta(groups, "predicting each group without it", len(groups)):
        inside = [index for index, point in enumerate(points) if by(point) == group]
        seen = [point for point in points if by(point) != group]
        unseen = [points[index] for index in inside]
        errors[inside] = method(seen, unseen) - np.log([point.latency_ms for point in unseen])
    return errors


def predictor_method(start: Fitted | None = None) -> Method:
    """The predictor itself; `start` saves time."""

    def method(seen: Sequence[Point], unseen: Sequence[Point]) -> Vector:
        fitted = fit(seen, start)
        return np.array([log(fitted.predict(p.operators, p.chip, p.weight_bits)) for p in unseen])

    return method


def multiply_adds_only(seen: Sequence[Point], unseen: Sequence[Point]) -> Vector:
    """log ms = a + b log(multiply-adds) + an offset of the chip, which is drawn to 0."""
    chips = list(CHIPS)

    def features(points: Sequence[Point]) -> Vector:
        return np.array([[1.0, log(_macs(p).sum()), *(float(p.chip == chip) for chip in chips)] for p in points])

    shrinkage = np.diag([0.0, 0.0, *(0.5 for _ in chips)])
    target = np.concatenate([np.log([p.latency_ms for p in seen]), np.zeros(len(shrinkage))])
    weights = np.linalg.lstsq(np.vstack([features(seen), shrinkage]), target, rcond=None)[0]
    return np.asarray(features(unseen) @ weights)


def plain_roofline(seen: Sequence[Point], unseen: Sequence[Point]) -> Vector:
    """Each operator takes max(multiply-adds / peak, bytes / bandwidth); one factor for all, the median one."""
    factor = np.median([log(p.latency_ms) - _plain(p) for p in seen])
    return np.array([factor + _plain(p) for p in unseen])


def _plain(point: Point) -> float:
    chip, table = CHIPS[point.chip], point.operators
    moved = table[:, INDEX["weights"]] * point.weight_bits / 8 + table[:, INDEX["activations"]] * ACTIVATION_BYTES
    each = np.maximum(_macs(point, times=False) / (chip.tera_macs * 1e9), moved / (chip.bandwidth_gb_s * 1e6))
    return log(float(table[:, 0] @ each))


def _macs(point: Point, *, times: bool = True) -> Vector:
    table = point.operators
    macs = table[:, [INDEX[kind] for kind in ("dense", "depthwise", "attention")]].sum(1)
    return np.asarray(macs * table[:, 0] if times else macs)


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """Of one method, from its left-out errors."""

    median_error: float  # of |predicted / measured - 1|
    tau: float  # Kendall's, over all pairs of points within one (chip, family)
    taus: Mapping[str, float]  # by "chip, family", where it has three points or more


def score(points: Sequence[Point], errors: Vector) -> Score:
    groups: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for point, error in zip(points, errors, strict=True):
        groups[f"{point.chip}, {point.family}"].append((log(point.latency_ms) + error, point.latency_ms))
    from harness.measure.statistics_ranks import agreements  # SciPy, which a phone's agent does without

    signs = {name: list(agreements(*zip(*pairs, strict=True))) for name, pairs in groups.items()}
    return Score(
        median_error=float(np.median(np.abs(np.expm1(errors)))),
        tau=_mean(sign for of_group in signs.values() for sign in of_group),
        taus={name: _mean(of_group) for name, of_group in signs.items() if len(groups[name]) > 2},
    )


def _mean(values: Iterable[float]) -> float:
    numbers = list(values)
    return float(np.mean(numbers)) if numbers else float("nan")


def half_width(errors: Vector, nominal: float = NOMINAL) -> float:
    """The log by which an interval reaches up and down: the smallest left-out |error| that holds the nominal share of
    a new one, by the rank that split conformal prediction takes (Vovk et al. 2005): ceil((n + 1) nominal) of n."""
    sizes = np.sort(np.abs(errors))
    return float(sizes[min(ceil((len(sizes) + 1) * nominal), len(sizes)) - 1])


def left_out_half_widths(points: Sequence[Point], errors: Vector, nominal: float = NOMINAL) -> Vector:
    """Of each point, the half width of an interval that was made from the left-out errors of other models only."""
    models = np.array([point.model for point in points])
    return np.array([half_width(errors[models != model], nominal) for model in models])


def coverage(points: Sequence[Point], errors: Vector, nominal: float = NOMINAL) -> float:
    """The share of points inside the intervals of `left_out_half_widths`."""
    return float(np.mean(np.abs(errors) <= left_out_half_widths(points, errors, nominal)))
