"""How good the predictor and two baselines are, each on models that it was not fitted on: one table."""

from collections.abc import Mapping, Sequence

from harness.commands.tables import table
from harness.predictor.evaluation import (
    NOMINAL,
    coverage,
    left_out,
    multiply_adds_only,
    physics_from,
    plain_roofline,
    score,
)
from harness.predictor.fit import Fitted, Point, Vector

PREDICTOR = "this predictor"


def left_out_errors(points: Sequence[Point], fitted: Fitted) -> dict[str, Vector]:
    """By method, the log errors of every point with its model left out, all its chips and sizes together."""
    methods = {
        PREDICTOR: physics_from(fitted),
        "multiply-adds alone": multiply_adds_only,
        "plain roofline": plain_roofline,
    }
    return {name: left_out(points, method) for name, method in methods.items()}


def scores_table(points: Sequence[Point], fitted: Fitted, errors: Mapping[str, Vector] | None = None) -> str:
    """Median error, Kendall's tau, coverage; `errors` as `left_out_errors` gives them, where they are there already."""
    errors = left_out_errors(points, fitted) if errors is None else errors
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
