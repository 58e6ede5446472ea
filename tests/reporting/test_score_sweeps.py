"""Scores of one checkpoint over guidance and steps: the best of how many, the distance from it, the picture."""

import pytest

from harness.measure.statistics import SHARED, jackknife_difference
from harness.records.quantity import Failed, Measured, Quantity
from harness.records.record import Measurement
from harness.reporting.score_sweeps import (
    Scored,
    ScorePoint,
    best_note,
    best_of,
    less_the_best,
    score_label,
    score_sweep_figure,
    score_sweeps,
)

FAILED = Failed(phase="sample", message="NaN")


def score(value: float, *, replicates: tuple[float, ...] = ()) -> Measured:
    conditions = dict.fromkeys(SHARED, "the same") | {"label": "KID-X, N=8"}
    low, high = value - 0.01, value + 0.02
    return Measured(value=value, unit="1", low=low, high=high, replicates=replicates, conditions=conditions)


def points() -> list[ScorePoint]:
    values = {(1.0, 10): 0.3, (2.0, 10): 0.1, (1.0, 5): 0.4, (2.0, 5): 0.2}
    return [
        ScorePoint(guidance=guidance, steps=steps, scores={"kid": score(value)})
        for (guidance, steps), value in values.items()
    ]


def test_the_best_says_from_how_many_it_was_chosen() -> None:
    failed = ScorePoint(guidance=9.0, steps=10, scores={"kid": FAILED})
    assert best_of([failed, *points()], "kid") == points()[1]
    assert best_note([failed, *points()], "kid") == (
        "best of 5 tried: guidance 2, 10 steps, flattered by the choice"
    )  # fmt: skip
    assert best_note(points()[:1], "kid") == "best of 1 tried: guidance 1, 10 steps"
    assert best_of([failed], "kid") is None
    assert best_note([failed], "kid") == "no point has a kid"
    assert score_label([failed, *points()], "kid") == "KID-X, N=8"
    assert score_label([failed], "kid") == "kid"


def test_the_distance_from_the_best_is_paired() -> None:
    one, other = score(0.3, replicates=(0.31, 0.29, 0.30)), score(0.1, replicates=(0.11, 0.10, 0.09))
    pair = [ScorePoint(guidance=g, steps=5, scores={"kid": s}) for g, s in ((1.0, one), (2.0, other))]
    interval = jackknife_difference((one.value, one.replicates), (other.value, other.replicates))
    assert less_the_best(pair, "kid") == [(interval.low, interval.high), None]
    assert less_the_best(points(), "kid") == [None] * 4  # no replicates


def test_the_picture_has_a_line_a_number_of_steps_with_each_scores_interval() -> None:
    failed = ScorePoint(guidance=4.0, steps=5, scores={"kid": FAILED})
    figure = score_sweep_figure([*points(), failed], "kid", title="Trial abc")
    lines = {trace.name: (list(trace.x), list(trace.y)) for trace in figure.data}
    assert lines == {"5": ([1.0, 2.0], [0.4, 0.2]), "10": ([1.0, 2.0], [0.3, 0.1])}
    assert figure.data[0].error_y.array == pytest.approx((0.02, 0.02))
    assert figure.data[0].error_y.arrayminus == pytest.approx((0.01, 0.01))
    assert figure.layout.yaxis.title.text == "KID-X, N=8"
    assert [(a.x, a.y, a.text) for a in figure.layout.annotations] == [(2.0, 0.1, "best")]
    assert "<br>best of " in figure.layout.title.text, "not over the axes"


def test_no_network_has_the_score_of_a_folder_or_of_another_network() -> None:
    quality = {"samples": 8, "quality": {}, "data": {}}
    sampling = [{"guidance_scale": scale, "steps": 5} for scale in (1.0, 2.0)]
    settings: list[dict[str, object]] = [
        *({"trial": "0" * 16, "sampling": each, **quality} for each in sampling),
        {"trial": "1" * 16, "sampling": sampling[0], **quality},
        {"pictures": "0" * 16, **quality},
    ]
    quantities: dict[str, Quantity] = {"kid": score(0.1)}
    stored = [Measurement(subject="score", settings=each, quantities=quantities) for each in settings]
    network = Scored(name="thin", title="Thin", seed=0, protocol={})
    (sweep,) = score_sweeps({"0" * 16: network}, stored)
    assert sweep.measurements == tuple(stored[:2])
