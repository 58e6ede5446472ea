"""`harness latency published`: every published latency beside its prediction, the scores, and the ladder's changes."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from math import exp
from typing import TYPE_CHECKING

from harness.commands.report import published_numbers
from harness.commands.verb import Verb
from harness.records.errors import UserError
from harness.records.quantity import Predicted
from harness.records.terminal import table

if TYPE_CHECKING:
    from harness.predictor.calibration import Calibration
    from harness.predictor.fit import Fitted, Point, Vector
    from harness.predictor.published import PublishedRow
    from harness.reporting.published import Published

GOAL = 0.2  # of the numbers on the paper's own networks
LADDER, LADDER_COLUMN, LADDER_CHIP = "fig3", "latency", "A17 Pro"  # the iPhone 15 Pro's


def run(arguments: argparse.Namespace) -> int:
    from harness.predictor.calibration import calibrate_and_test
    from harness.predictor.published import published_points, published_rows

    if arguments.name is not None or arguments.overrides:
        word = arguments.name or arguments.overrides[0]
        raise UserError(f"`harness latency published` takes no name and no settings ('{word}'); leave it out")
    rows, points = published_rows(), published_points()
    calibration, predictor_errors = calibrate_and_test(points, fitted_on=f"{len(points)} published latencies")
    errors_by_method = left_out_errors(points, predictor_errors)
    print(_rows_table(rows, points, calibration.fitted, errors_by_method[PREDICTOR]))
    print(_excluded(rows))
    print(f"\n{scores_table(points, errors_by_method)}")
    print(f"\n{_on_device(rows, points, calibration.fitted, errors_by_method[PREDICTOR])}")
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
    """Left out: predicted without any latency of that model, with the interval that the other models' errors give."""
    import numpy as np

    from harness.predictor.evaluation import NOMINAL, left_out_half_widths
    from harness.predictor.fit import errors

    used = iter(
        zip(points, errors_left_out, left_out_half_widths(points, errors_left_out), errors(fitted, points), strict=True)
    )
    shown = []
    for row in rows:
        head = (row.model, row.input_px, row.chip, row.batch, f"{row.weight_bits:g}", f"{row.latency_ms:g}")
        if row.exclusion is not None:
            shown.append((*head, "excluded", "", "", ""))
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
    title = "published latencies; 'left out' is predicted without that model, 'fitted' with it"
    return table(columns, shown, title)


def _excluded(rows: Sequence[PublishedRow]) -> str:
    lines = [
        f"  {row.model} @ {row.input_px} px, {row.chip}, {row.latency_ms:g} ms: {row.exclusion}"
        for row in rows
        if row.exclusion is not None
    ]
    return "\n".join([f"excluded, {len(lines)} of {len(rows)}:", *lines])


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
    return table(columns, shown, "on the device: among the fitted latencies, each model left out in its turn")


def _ladder(calibration: Calibration) -> str:
    from harness.architecture.latents import FULL_LATENT
    from harness.measure.cost import count
    from harness.predictor.networks import catalogue_network
    from harness.predictor.operators import operators_of
    from harness.predictor.predict import predict_operators
    from harness.reporting.format import change
    from harness.reporting.published import LABELS

    published = published_numbers(LADDER)
    predicted: dict[str, float] = {}
    for name in published.rows:
        operators = operators_of(count(*catalogue_network(name, FULL_LATENT)).rows)
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
        shown.append((f"{row.number} {name}", f"{value:.0f} ms" if value else "not predicted", against, theirs, ours))
    columns = ("rung", f"predicted, {LADDER_CHIP}", "against rung", "published change", "predicted change")
    title = f"the ladder at a {FULL_LATENT}x{FULL_LATENT} latent: never fitted, only compared"
    legend = "\n".join(f"[{label}] {text}" for label, text in LABELS.items() if label in _labels(published))
    return f"{table(columns, shown, title)}\n{_order(published, predicted)}\n{legend}"


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


def left_out_errors(points: Sequence[Point], predictor: Vector) -> dict[str, Vector]:
    """By method, the log errors of every point with its model left out, all its chips and sizes together; the
    predictor's own are given (`calibrate_and_test`), which take nearly all of the time."""
    from harness.predictor.evaluation import left_out, multiply_adds_only, plain_roofline

    baselines = {"multiply-adds alone": multiply_adds_only, "plain roofline": plain_roofline}
    return {PREDICTOR: predictor, **{name: left_out(points, method) for name, method in baselines.items()}}


def scores_table(points: Sequence[Point], errors: Mapping[str, Vector]) -> str:
    """Median error, Kendall's tau, coverage; `errors` are those of `left_out_errors`."""
    from harness.predictor.evaluation import NOMINAL, coverage, score

    scores = {name: score(points, error) for name, error in errors.items()}
    groups = list(scores[PREDICTOR].taus)
    rows = [
        (
            name,
            f"{score_of_method.median_error:.1%}",
            f"{score_of_method.tau:.3f}",
            *(f"{score_of_method.taus[group]:.3f}" for group in groups),
            f"{coverage(points, errors[name]):.0%}",
        )
        for name, score_of_method in scores.items()
    ]
    columns = ("each model left out", "median error", "tau in (chip, family)", *groups, f"in {NOMINAL:.0%} interval")
    return table(columns, rows, f"{len(points)} latencies of {len({point.model for point in points})} models")
