"""How good the predictor and two baselines are, each on models that it was not fitted on: one table."""

from collections.abc import Mapping, Sequence

from harness.commands.tables import table
from harness.predictor.evaluation import (
    NOMINAL,
    coverage,
    left_out,
    multiply_adds_only,
    plain_roofline,
    score,
)
from harness.predictor.fit import Point, Vector

PREDICTOR = "this predictor"


def left_out_errors(points: Sequence[Point], predictor: Vector) -> dict[str, Vector]:
    """By method, the log errors of every point with its model left out, all its chips and sizes together; the
    predictor's own are given (`calibrate_and_test`), which take nearly all of the time."""
    baselines = {"multiply-adds alone": multiply_adds_only, "plain roofline": plain_roofline}
    return {PREDICTOR: predictor, **{name: left_out(points, method) for name, method in baselines.items()}}


def scores_table(points: Sequence[Point], errors: Mapping[str, Vector]) -> str:
    """Median error, Kendall's tau, coverage; `errors` are those of `left_out_errors`."""
    scores = {name: score(points, found) for name, found in errors.items()}
    groups = list(scores[PREDICTOR].taus)
    rows = [
        (
            name,
            f"{found.median_error:.1%}",
            f"{found.tau:.3f}",
            *(f"{found.taus[group]:.3f}" for group in groups),
            f"{coverage(points, errors[name]):.0%}",
        )
        for name, found in scores.items()
    ]
    columns = ("each model left out", "median error", "tau in (chip, family)", *groups, f"in {NOMINAL:.0%} interval")
    return table(columns, rows, f"{len(points)} latencies of {len({point.model for point in points})} models")
