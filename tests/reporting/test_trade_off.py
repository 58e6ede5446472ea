"""The trade-off picture: what it draws stands where the frames say, and its legend names that and no more."""

import html
from dataclasses import replace
from typing import Any

import plotly.graph_objects as go
import pytest

from harness.reporting.drawing import quality_axis, symlog
from harness.reporting.report import checked_definition, frames_of
from harness.reporting.sections import against_cost
from harness.reporting.subjects import study_of
from harness.reporting.trade_off import (
    LOOKS,
    Amount,
    Arrow,
    Front,
    Level,
    Measure,
    Point,
    front_of_points,
    trade_off_figure,
)

COST, SCORE = Measure(title="Latency (ms)"), Measure(title="KID")


def point(name: str, x: float, y: float, **more: Any) -> Point:
    look = more.pop("look", "study")
    return Point(name=name, label=name, look=look, x=Amount(value=x), y=Amount(value=y), **more)


def named(figure: go.Figure) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for trace in figure.data:
        found.setdefault(trace.name, []).append(trace)
    return found


def test_the_legend_names_what_is_drawn_once_and_nothing_else() -> None:
    points = [point("a", 10, 0.5), point("b", 8, 0.3), point("c", 7, 0.4, look="predicted")]
    arrows = [Arrow(start="a", end="b", legend="a change"), Arrow(start="b", end="c", legend="a change"),
              Arrow(start="b", end="gone", legend="another")]  # fmt: skip
    figure = trade_off_figure(
        points, cost=COST, score=SCORE, arrows=arrows, levels=[Level(value=0.1, legend="real pictures")],
        fronts=[Front(names=["b", "c"], legend="front"), Front(names=["a"], legend="front of one")],
    )  # fmt: skip
    entries = [trace.name for trace in figure.data if trace.showlegend is not False]
    assert sorted(entries) == sorted(
        ["real pictures", "front", "a change", LOOKS["predicted"].legend, LOOKS["study"].legend]
    )
    assert figure.layout.showlegend
    assert all(len(trace.x) for trace in figure.data)


def test_a_level_that_no_axis_shows_is_not_drawn() -> None:
    points = [point("a", 10, 0.5), point("b", 8, 0.3)]
    figure = trade_off_figure(points, cost=COST, score=SCORE, levels=[Level(value=float("inf"), legend="floor")])
    assert "floor" not in named(figure)


def test_marks_and_intervals_stand_at_their_values() -> None:
    one = Point(name="a", look="study", x=Amount(value=10, low=8, high=13), y=Amount(value=0.5, low=0.4, high=0.7))
    (trace,) = trade_off_figure([one], cost=COST, score=SCORE).data
    assert (trace.x, trace.y) == ((10,), (0.5,))
    assert (trace.error_x.array, trace.error_x.arrayminus) == ((3,), (2,))
    assert trace.y[0] + trace.error_y.array[0] == pytest.approx(0.7)
    assert trace.y[0] - trace.error_y.arrayminus[0] == pytest.approx(0.4)


def test_a_score_stands_on_a_log_axis_and_the_axis_says_which_way_is_better() -> None:
    figure = trade_off_figure([point("a", 10, 0.5), point("b", 8, 0.3)], cost=COST, score=SCORE)
    assert figure.layout.yaxis.type == "log"
    assert "less is better, log scale" in figure.layout.yaxis.title.text
    assert "less is better" in figure.layout.xaxis.title.text
    more = trade_off_figure([point("a", 10, 0.5)], cost=COST, score=replace(SCORE, more_is_better=True))
    assert figure.layout.yaxis.type != more.layout.yaxis.type
    assert "more is better" in more.layout.yaxis.title.text


@pytest.mark.parametrize(
    ("y", "low", "level"), [(0.3, None, -0.02), (0.3, -0.1, 0.1), (-0.01, None, 0.1), (0.3, None, 1e-9)]
)
def test_what_is_at_or_below_zero_is_drawn_on_an_axis_that_says_where_it_is_linear(
    y: float, low: float | None, level: float
) -> None:
    points = [Point(name="a", look="study", x=Amount(value=9), y=Amount(value=y, low=low)), point("b", 8, 0.21)]
    figure = trade_off_figure(points, cost=COST, score=SCORE, levels=[Level(value=level, legend="floor")])
    assert "less is better, log above 0.2, linear below" in figure.layout.yaxis.title.text
    threshold = figure.layout.meta["symlog"]
    trace = named(figure)[LOOKS["study"].legend][0]
    assert trace.y[0] == pytest.approx(symlog(y, threshold))
    low_end, high_end = figure.layout.yaxis.range
    drawn = [*trace.y, *named(figure)["floor"][0].y]
    assert all(low_end < value < high_end for value in drawn)
    assert "0" in figure.layout.yaxis.ticktext


def test_the_symmetric_logarithm_keeps_the_order_and_has_no_step() -> None:
    values = [-50.0, -1.0, -0.1, -0.0999, 0.0, 0.05, 0.1, 0.1001, 1.0, 80.0]
    drawn = [symlog(value, 0.1) for value in values]
    assert drawn == sorted(drawn)
    assert symlog(0.1001, 0.1) - symlog(0.0999, 0.1) == pytest.approx(0.0002 / 0.1 / 2.302585, rel=1e-2)
    assert symlog(10.0, 0.1) - symlog(1.0, 0.1) == pytest.approx(1.0)


def test_ticks_of_any_span_are_several_and_do_not_collide() -> None:
    for marks in ([160.0, 240.0], [0.11, 0.73], [200.0, 212.0], [0.0001, 90.0], [-0.5, 3.0], [0.02, 4000.0]):
        axis = quality_axis(marks, marks, more_is_better=False)
        texts = axis.layout["ticktext"]
        places = axis.layout["tickvals"]
        assert isinstance(texts, list)
        assert isinstance(places, list)
        assert 3 <= len(texts) <= 22, (marks, texts)
        assert len(set(texts)) == len(texts)
        assert len(places) == len(texts)


def test_an_arrow_leads_from_the_rung_that_is_changed_to_the_one_that_changes_it() -> None:
    points = [point("a", 10, 0.5), point("b", 8, 0.9), point("c", 9, 0.4)]
    arrows = [Arrow(start="a", end="b", legend="change"), Arrow(start="b", end="c", legend="change")]
    drawn = named(trade_off_figure(points, cost=COST, score=SCORE, arrows=arrows))["change"]
    assert [(trace.x, trace.y) for trace in drawn] == [((10, 8), (0.5, 0.9)), ((8, 9), (0.9, 0.4))]
    assert all(trace.marker.angleref == "previous" and trace.marker.size[0] == 0 for trace in drawn)


def test_the_front_is_a_stair_through_what_no_other_beats() -> None:
    points = [point("a", 10, 0.2), point("b", 8, 0.3), point("c", 9, 0.5), point("d", 7, 0.6)]
    assert front_of_points(points, SCORE) == ["d", "b", "a"]
    assert front_of_points(points, replace(SCORE, more_is_better=True)) == ["d"]
    fronts = [Front(names=front_of_points(points, SCORE), legend="front")]
    (stair,) = named(trade_off_figure(points, cost=COST, score=SCORE, fronts=fronts))["front"]
    assert (stair.x, stair.line.shape) == ((7, 8, 10), "hv")


def test_names_stay_text() -> None:
    attack = '<img src=x onerror="alert(1)">'
    measure = Measure(title=attack)
    figure = trade_off_figure([point(attack, 1, 0.2, hover=attack)], cost=measure, score=measure)
    (trace,) = figure.data
    assert trace.hovertext == (html.escape(attack),)
    assert "<img" not in figure.layout.xaxis.title.text
    assert "<img" not in figure.layout.yaxis.title.text
    assert "<img" not in trace.text[0]


def test_ten_thousand_points_are_drawn_by_the_graphics_card_without_labels() -> None:
    figure = trade_off_figure([point(f"t{n}", 1 + n, 1 + n % 7) for n in range(10_000)], cost=COST, score=SCORE)
    (trace,) = figure.data
    assert trace.type == "scattergl"
    assert trace.text is None


def test_an_ablations_picture_has_its_means_its_changes_and_its_controls(synthetic: Any) -> None:
    definition, published = checked_definition(synthetic.definition, synthetic.published, "ablation")
    frames = frames_of(synthetic.store, study_of(synthetic.manifest), definition, published)
    content = against_cost.content(frames)
    assert content is not None
    assert list(content.figures) == [
        "Latency on iPhone of the twin", "Parameters of the twin", "Multiply-adds of the twin", "Latency on this CPU"
    ]  # fmt: skip
    latency, params, _, here = content.figures.values()
    (dots,) = named(here)[LOOKS["study"].legend]
    assert dots.x == tuple(
        synthetic.record(r.name, 0).quantities["latency_cpu"].value for r in synthetic.manifest.rungs
    )
    assert "of the network trained here (ms, measured)" in here.layout.xaxis.title.text
    (dots,) = named(latency)[LOOKS["predicted"].legend]
    threshold = latency.layout.meta["symlog"]
    for rung, x, y, opens in zip(synthetic.manifest.rungs, dots.x, dots.y, dots.customdata, strict=True):
        records = [synthetic.record(rung.name, seed).quantities for seed in (0, 1)]
        assert x == records[0]["twin.latency_predicted"].value
        assert y == pytest.approx(symlog(sum(each["kid"].value for each in records) / 2, threshold))
        assert opens == f"rung-{rung.name}"
    assert "(ms, predicted)" in latency.layout.xaxis.title.text
    (dots,) = named(params)[LOOKS["study"].legend]
    assert dots.x == tuple(
        synthetic.record(r.name, 0).quantities["twin.params"].value for r in synthetic.manifest.rungs
    )
    arrows = [trace for name, traces in named(params).items() if name.startswith("a change") for trace in traces]
    assert len(arrows) == 7
    told = {trace.x for trace in named(params)["a change; its score is told apart"]}
    assert (580_000_000, 441_000_000) in told, "separable convolutions, expansion 1: worse"
    assert {"real pictures (the floor)", "pixel gaussian: no training"} <= named(params).keys()
    assert "pixel gaussian" not in content.context["alt"]
    assert "RMSNorm on Q and K, 2-D RoPE" in content.context["alt"]
