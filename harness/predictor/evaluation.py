"""How good the predictor is where it has not looked: every series of models left out in turn, or every model, with all
its chips and sizes.

Sources differ: two that measured one network on one chip are a range, and a prediction inside of it has no error.
Beside it, under the same rule, the two things a phone is usually judged by: multiply-adds alone (a power law and an
offset a chip), and a plain roofline (peak and bandwidth as announced, one common factor).
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import ceil, log

import numpy as np
from numpy.typing import NDArray

from harness.predictor.chips import CHIPS
from harness.predictor.fit import Fitted, Pair, Point, Vector, fit
from harness.predictor.roofline import ACTIVATION_BYTES, INDEX
from harness.records.eta import with_eta

NOMINAL = 0.9  # the share of new models that an interval is meant to hold
Method = Callable[[Sequence[Point], Sequence[Point]], Vector]
"""From the points that it may look at, and others, to the logs of the predicted milliseconds of the others."""


def left_out(points: Sequence[Point], method: Method, by: Callable[[Point], str] = lambda p: p.series) -> Vector:
    """log(predicted / measured) of every point, predicted without the points that are equal in `by`: its series."""
    errors = np.zeros(len(points))
    groups = sorted({by(point) for point in points})
    for group in with_eta(groups, "predicting each group without it", len(groups)):
        inside = [index for index, point in enumerate(points) if by(point) == group]
        seen = [point for point in points if by(point) != group]
        unseen = [points[index] for index in inside]
        errors[inside] = method(seen, unseen) - np.log([point.latency_ms for point in unseen])
    return errors


def predictor_method(pairs: Sequence[Pair] = (), start: Fitted | None = None) -> Method:
    """The predictor itself; of the pairs those are used whose series are seen. `start` saves time."""

    def method(seen: Sequence[Point], unseen: Sequence[Point]) -> Vector:
        fitted = fit(seen, pairs, start)
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


def judged(points: Sequence[Point], errors: Vector) -> Vector:
    """The errors against the range of what is measured of one network on one chip at equal bits: 0 inside of it."""
    predicted = np.log([point.latency_ms for point in points]) + errors
    ranges: dict[tuple[str, str, float], list[float]] = defaultdict(list)
    for point in points:
        ranges[_measured_thing(point)].append(log(point.latency_ms))
    ends = np.array([(min(ranges[key]), max(ranges[key])) for key in map(_measured_thing, points)])
    return np.asarray(predicted - np.clip(predicted, ends[:, 0], ends[:, 1]))


def _measured_thing(point: Point) -> tuple[str, str, float]:
    return point.network, point.chip, point.weight_bits


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """Of one method, from its left-out errors."""

    rows: int
    series: int
    median_error: float  # of |predicted / measured - 1|, against ranges where sources differ
    tau: float  # Kendall's, over all pairs of networks on one chip at equal weights; sources that differ are no pair
    tau_in_family: float  # over those of them that are of one family
    coverage: float  # the share inside their intervals, which are made from the errors of other series
    band: tuple[float, float]  # where 95 of 100 such shares lie if intervals hold and each row errs for itself, which
    # rows of one series do not: shares spread more than it says


def score(points: Sequence[Point], errors: Vector, inside: NDArray[np.bool_] | None = None) -> Score:
    """Of the points in `inside`, or of all; the intervals are made from all errors."""
    from scipy.stats import binom  # SciPy, which a phone's agent does without

    chosen = np.flatnonzero(np.ones(len(points), bool) if inside is None else inside).tolist()
    held = np.abs(errors) <= left_out_half_widths(points, errors)
    low, high = binom.interval(0.95, len(chosen), NOMINAL)
    return Score(
        rows=len(chosen),
        series=len({points[index].series for index in chosen}),
        median_error=float(np.median(np.abs(np.expm1(judged(points, errors)[chosen])))),
        tau=_tau([points[index] for index in chosen], errors[chosen], lambda point: point.chip),
        tau_in_family=_tau([points[index] for index in chosen], errors[chosen], lambda p: f"{p.chip} {p.family}"),
        coverage=float(np.mean(held[chosen])),
        band=(float(low) / len(chosen), float(high) / len(chosen)),
    )


def _tau(points: Sequence[Point], errors: Vector, within: Callable[[Point], str]) -> float:
    """Kendall's tau of predicted and measured times over all pairs that are equal in `within`; NaN without a pair.

    One network that several sources measured on one chip at equal bits is predicted once: which of them is slower is no
    question of an order.
    """
    from harness.measure.statistics_ranks import agreements

    signs = [
        sign
        for (a, error), (b, other) in combinations(zip(points, errors.tolist(), strict=True), 2)
        if within(a) == within(b) and _measured_thing(a) != _measured_thing(b)
        for sign in agreements((log(a.latency_ms) + error, log(b.latency_ms) + other), (a.latency_ms, b.latency_ms))
    ]
    return float(np.mean(signs)) if signs else float("nan")


def scores_by(points: Sequence[Point], errors: Vector, key: Callable[[Point], str]) -> dict[str, Score]:
    """By what `key` gives, the largest group first."""
    keys = np.array([key(point) for point in points])
    names = sorted(dict.fromkeys(keys), key=lambda name: -np.count_nonzero(keys == name))
    return {str(name): score(points, errors, keys == name) for name in names}


def half_width(errors: Vector, nominal: float = NOMINAL) -> float:
    """The log by which an interval reaches up and down: the smallest left-out |error| that holds the nominal share of
    a new one, by the rank that split conformal prediction takes (Vovk et al. 2005): ceil((n + 1) nominal) of n."""
    sizes = np.sort(np.abs(errors))
    return float(sizes[min(ceil((len(sizes) + 1) * nominal), len(sizes)) - 1])


def left_out_half_widths(points: Sequence[Point], errors: Vector, nominal: float = NOMINAL) -> Vector:
    """Of each point, the half width of an interval that was made from the left-out errors of other series only."""
    series = np.array([point.series for point in points])
    widths = {name: half_width(errors[series != name], nominal) for name in dict.fromkeys(series)}
    return np.array([widths[name] for name in series])
