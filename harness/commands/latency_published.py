"""`harness latency published`: every published latency beside its prediction, the scores, and the ladder's changes."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from math import exp, isnan
from typing import TYPE_CHECKING

from harness.commands.report import published_numbers
from harness.commands.verb import Verb
from harness.records.errors import UserError
from harness.records.quantity import Predicted
from harness.records.terminal import table

if TYPE_CHECKING:
    from harness.predictor.calibration import Calibration
    from harness.predictor.evaluation import Score
    from harness.predictor.fit import Fitted, Point, Vector
    from harness.predictor.published import PublishedRow
    from harness.reporting.published import Published

GOAL = 0.2  # of the numbers on the paper's own networks
LADDER, LADDER_COLUMN, LADDER_CHIP = "fig3", "latency", "A17 Pro"  # the iPhone 15 Pro's


def run(arguments: argparse.Namespace) -> int:
    from harness.predictor.calibration import calibrate_and_test
    from harness.predictor.published import published_points, published_rows
    from harness.predictor.ratios import published_pairs

    if arguments.name is not None or arguments.overrides:
        word = arguments.name or arguments.overrides[0]
        raise UserError(f"`harness latency published` takes no name and no settings ('{word}'); leave it out")
    rows, points = published_rows(), published_points()
    fitted_on = f"{len(points)} published latencies"
    calibration, errors = calibrate_and_test(points, published_pairs(), fitted_on=fitted_on)
    print(_rows_table(rows, points, calibration.fitted, errors))
    print(_excluded(rows))
    print(f"\n{scores_table(points, left_out_errors(points, errors))}")
    for title in KEYS:
        print(f"\n{groups_table(points, errors, title)}")
    print(f"\n{_later(rows, calibration.fitted)}")
    print(f"\n{_on_device(rows, points, calibration.fitted, errors)}")
    print(f"\n{_ratios(points, calibration.fitted)}")
    print(f"\n{_direct(calibration.fitted)}")
    print(f"\n{_ladder(calibration)}")
    return 0


VERB = Verb(
    summary="show every published latency beside its prediction, and how good those are",
    name="",
    operands="",
    example="harness latency published",
    run=run,
)


def _rows_table(rows: Sequence[PublishedRow], points: Sequence[Point], fitted: Fitted, errors_left_out: Vector) -> str:
    """Left out: predicted without any latency of its series, with the interval that the other series' errors give. An
    excluded row of a network that is counted has a prediction too, which tests nothing."""
    import numpy as np

    from harness.predictor.evaluation import NOMINAL, left_out_half_widths
    from harness.predictor.fit import errors
    from harness.predictor.published import read_counts

    counts = read_counts()

    used = iter(
        zip(points, errors_left_out, left_out_half_widths(points, errors_left_out), errors(fitted, points), strict=True)
    )
    shown = []
    for row in rows:
        head = (row.model, row.input_px or "", row.chip, row.batch, f"{row.weight_bits:g}", f"{row.latency_ms:g}")
        if row.exclusion is not None:
            known = counts.get(row.network)
            whole = "" if known is None else f"{fitted.predict(known, row.chip, row.weight_bits):.3g}"
            shown.append((*head, "excluded", "", "", whole))
            continue
        point, error, reach, inside = next(used)
        assert (point.model, point.chip, point.latency_ms) == (row.model, row.chip, row.latency_ms)
        value = row.latency_ms * exp(error)
        interval = f"{value / exp(reach):.3g} to {value * exp(reach):.3g}"
        shown.append(
            (*head, f"{value:.3g}", f"{np.expm1(error):+.0%}", interval, f"{row.latency_ms * exp(inside):.3g}")
        )
    published_columns = ("model", "px", "chip", "batch", "bits", "published ms")
    columns = (*published_columns, "left out ms", "error", f"{NOMINAL:.0%} interval", "fitted ms")
    title = "published latencies; 'left out' is predicted without the model's series, 'fitted' by the fit of all"
    return table(columns, shown, title)


def _excluded(rows: Sequence[PublishedRow]) -> str:
    lines = [
        f"  {row.network}, {row.chip}, {row.latency_ms:g} ms: {row.exclusion}"
        for row in rows
        if row.exclusion is not None
    ]
    return "\n".join([f"excluded, {len(lines)} of {len(rows)}:", *lines])


def _ratios(points: Sequence[Point], fitted: Fitted) -> str:
    """Pairs that isolate one effect each: predicted beside printed; what is not counted says why."""
    import numpy as np

    from harness.predictor.ratios import predicted_ratios, published_ratios

    ratios = published_ratios()
    shown, counted, reasons = [], [], []
    for ratio, value in zip(ratios, predicted_ratios(ratios, points, fitted), strict=True):
        if ratio.out:
            reasons.append(f"  {ratio.what}: {ratio.out}")
        if ratio.pair is None or value is None:
            continue
        inside = ratio.of(fitted)
        if not ratio.out:
            counted.append((ratio.pair.ratio, value, inside))
        error = "not counted" if ratio.out else f"{value / ratio.pair.ratio - 1:+.0%}"
        seen = f"{inside:.2f}" + (", seen" if ratio.fitted else "")
        shown.append((ratio.what.partition(": ")[0], ratio.printed, f"{value:.2f}", error, seen))
    columns = ("ratio", "printed", "left out", "error", "fitted")
    right = sum((printed > 1) == (value > 1) for printed, value, _ in counted)
    typical = [np.median([abs(one[of] / one[0] - 1) for one in counted]) for of in (1, 2)]
    end = f"of {len(counted)} that count, {right} left out go in the printed direction; "
    end += f"median deviation {typical[0]:.0%} left out, {typical[1]:.0%} fitted ('seen': by the fit, as a ratio)"
    title = "ratios that isolate an effect; left out: without the series of its networks"
    return "\n".join([table(columns, shown, title), end, "not counted:", *reasons])


def _later(rows: Sequence[PublishedRow], start: Fitted) -> str:
    """The rows that were read last, by a fit of those before: no parameter has seen them."""
    from harness.predictor.evaluation import scores_by
    from harness.predictor.fit import errors, fit
    from harness.predictor.published import published_points
    from harness.predictor.ratios import published_pairs

    before, later = (published_points([row for row in rows if row.later is when]) for when in (False, True))
    known = {point.series for point in before}
    logs = errors(fit(before, published_pairs(), start), later)
    groups = {
        **scores_by(later, logs, lambda point: point.family),
        **scores_by(later, logs, lambda point: "of a known series" if point.series in known else "of a new series"),
        **scores_by(later, logs, lambda _: "all"),
    }
    shown = [
        (name, one.rows, one.series, f"{one.median_error:.1%}", "" if isnan(one.tau) else f"{one.tau:.2f}")
        for name, one in groups.items()
    ]
    title = f"rows read later, by a fit of the {len(before)} before them"
    return table(("", "rows", "series", "median error", "tau on a chip"), shown, title)


def _direct(fitted: Fitted) -> str:
    """Single operators by direct programs: what whole networks under Core ML do not show."""
    from harness.predictor.direct import published_direct

    shown = []
    for row in published_direct():
        cells = ("", row.out)
        if not row.out and row.printed_ms is not None:
            value = row.predicted_ms(fitted)
            cells = (f"{value:.3g}", f"{value / row.printed_ms - 1:+.0%}")
        printed_ms = "" if row.printed_ms is None else f"{row.printed_ms:.3g}"
        shown.append((row.what, row.chip, row.printed, printed_ms, *cells))
    columns = ("operator", "chip", "printed", "ms", "predicted", "error, or why there is none")
    return table(columns, shown, "single operators by direct programs, not Core ML: never fitted to")


def _on_device(rows: Sequence[PublishedRow], points: Sequence[Point], fitted: Fitted, errors_left_out: Vector) -> str:
    """The paper's own networks on phones. They are among the points, so that only 'left out' tests anything."""
    import numpy as np

    from harness.predictor.fit import errors

    paper_models = {row.model for row in rows if row.rebuildable == "catalogue"}
    shown = []
    for point, error, inside in zip(points, errors_left_out, errors(fitted, points), strict=True):
        if point.model in paper_models:
            cells = [f"{point.latency_ms * exp(log):.0f} ms ({np.expm1(log):+.0%})" for log in (error, inside)]
            within_goal = "yes" if abs(np.expm1(error)) <= GOAL else "no"
            shown.append((point.model, point.chip, f"{point.latency_ms:g} ms", *cells, within_goal))
    columns = ("the paper's networks", "chip", "published", "left out", "fitted", f"left out within {GOAL:.0%}")
    return table(columns, shown, "on the device: among the fitted latencies, each series left out in its turn")


def _ladder(calibration: Calibration) -> str:
    from harness.architecture.latents import FULL_LATENT
    from harness.measure.cost import count
    from harness.predictor.memory import HALF, weights_mb
    from harness.predictor.networks import catalogue_network
    from harness.predictor.operators import operators_of
    from harness.predictor.predict import predict_operators
    from harness.reporting.format import change
    from harness.reporting.published import LABELS

    published = published_numbers(LADDER)
    predicted: dict[str, float] = {}
    weights: dict[str, float] = {}
    for name in published.rows:
        operators = operators_of(count(*catalogue_network(name, FULL_LATENT)).rows)
        weights[name] = weights_mb(operators, HALF)
        prediction = predict_operators(operators, chip=LADDER_CHIP, calibration=calibration)
        if isinstance(prediction, Predicted):
            predicted[name] = prediction.value
    shown = []
    for name, row in published.rows.items():
        cell = row.cells.get(LADDER_COLUMN)
        value, base = predicted.get(name), predicted.get(row.against or "")
        ours = change(value / base - 1, digits=0) if value is not None and base is not None else ""
        against = published.rows[row.against].number if row.against else ""
        theirs = f"{cell.shown} {cell.source}" if cell else ""
        time = f"{value:.0f} ms" if value else "not predicted"
        shown.append((f"{row.number} {name}", f"{weights[name]:,.0f}", time, against, theirs, ours))
    columns = ("rung", "fp16 MB", f"predicted, {LADDER_CHIP}", "against rung", "published change", "predicted change")
    title = f"the ladder at a {FULL_LATENT}x{FULL_LATENT} latent: never fitted, only compared"
    legend = "\n".join(f"[{label}] {text}" for label, text in LABELS.items() if label in _labels(published))
    return f"{table(columns, shown, title)}\n{_order(published, predicted)}\n{EDGE}{legend}"


EDGE = """The two large printed changes, -62% and 2.4x, are between rungs whose fp16 weights are beyond 1 GiB (1,074 MB)
and rungs whose are not. Apple asks for chunks below 1 GB on an iPhone: that rungs 0 and 1 leave the Neural Engine is
the likeliest reason of the jump, an inference [R]; the prediction is of the engine, and does not explain it otherwise.
"""


def _labels(published: Published) -> set[str]:
    cells = [row.cells[LADDER_COLUMN] for row in published.rows.values() if LADDER_COLUMN in row.cells]
    return {label for cell in cells for label in cell.labels}


def _order(published: Published, predicted: Mapping[str, float]) -> str:
    """Of every two rungs that the printed changes link, whether the predictor puts the faster one first."""
    relative: dict[str, tuple[str, float]] = {}  # rung -> the rung that its chain of printed changes begins with, ratio
    for name, row in published.rows.items():
        cell = row.cells.get(LADDER_COLUMN)
        if row.against is None or cell is None or cell.change is None:
            relative[name] = (name, 1.0)
        else:
            root, ratio = relative[row.against]
            relative[name] = (root, ratio * (1 + cell.change))
    names = [name for name in relative if name in predicted]
    pairs = [
        (relative[a][1] - relative[b][1]) * (predicted[a] - predicted[b]) > 0
        for index, a in enumerate(names)
        for b in names[:index]
        if relative[a][0] == relative[b][0] and relative[a][1] != relative[b][1]
    ]
    return f"{sum(pairs)} of {len(pairs)} pairs of rungs that the printed changes order are predicted in that order"


PREDICTOR = "this predictor"
MANY = 20  # rows from which on a family's coverage is judged by itself; smaller ones are pooled
POOLED = f"those below {MANY} rows"
KEYS = ("family", "series", "chip")


def left_out_errors(points: Sequence[Point], predictor: Vector) -> dict[str, Vector]:
    """By method, the log errors of every point with its series left out, all its chips and sizes together; the
    predictor's own are given (`calibrate_and_test`), which take nearly all of the time."""
    from harness.predictor.evaluation import left_out, multiply_adds_only, plain_roofline

    baselines = {"multiply-adds alone": multiply_adds_only, "plain roofline": plain_roofline}
    return {PREDICTOR: predictor, **{name: left_out(points, method) for name, method in baselines.items()}}


def scores_table(points: Sequence[Point], errors: Mapping[str, Vector]) -> str:
    """Median error, Kendall's tau, coverage; `errors` are those of `left_out_errors`."""
    from harness.predictor.evaluation import NOMINAL, score

    scores = {name: score(points, of_method) for name, of_method in errors.items()}
    rows = [
        (name, f"{one.median_error:.1%}", f"{one.tau:.3f}", f"{one.tau_in_family:.3f}", f"{one.coverage:.0%}")
        for name, one in scores.items()
    ]
    taus = ("tau on a chip", "of a family too")
    columns = ("each series left out", "median error", *taus, f"in {NOMINAL:.0%} interval")
    one = scores[PREDICTOR]
    return table(columns, rows, f"{one.rows} latencies of {one.series} series")


def groups_table(points: Sequence[Point], errors: Vector, key: str) -> str:
    """The same by family, series or chip, all with each series left out. Families of few rows come once more together:
    the share inside intervals says little about one of them."""
    import numpy as np

    from harness.predictor.evaluation import score, scores_by

    scores = scores_by(points, errors, lambda point: str(getattr(point, key)))
    few = {name for name, one in scores.items() if one.rows < MANY}
    if key == "family" and few:
        pooled = np.array([point.family in few for point in points])
        scores[POOLED] = score(points, errors, pooled)
    rows = [_group_cells(name, one) for name, one in scores.items()]
    columns = (key, "rows", "series", "median error", "tau", "inside", "if 90% hold")
    return table(columns, rows, f"by {key}, each series left out; sources that differ are a range")


def _group_cells(name: str, one: Score) -> tuple[str | int, ...]:
    enough = one.rows >= MANY or name == POOLED
    band = f"{one.band[0]:.0%} to {one.band[1]:.0%}" if enough else ""
    tau = "" if isnan(one.tau) else f"{one.tau:.2f}"
    return name, one.rows, one.series, f"{one.median_error:.1%}", tau, f"{one.coverage:.0%}", band
