"""What the figures draw, and that it is what the frames hold."""

from dataclasses import replace
from typing import Any

import pytest

from harness.records.quantity import Failed, Measured, Predicted
from harness.reporting.drawing import GREY, INK_GREY, ORANGE, is_number
from harness.reporting.format import signed
from harness.reporting.frames import curves
from harness.reporting.report import checked_definition, frames_of
from harness.reporting.section import Frames
from harness.reporting.sections.controls import content, controls_figure, controls_frame
from harness.reporting.sections.curves import curves_figure
from harness.reporting.sections.ladder import ladder_figure, ladder_frame
from harness.reporting.subjects import study_of


@pytest.fixture
def frames(synthetic: Any) -> Frames:
    return computed(synthetic)


def computed(synthetic: Any) -> Frames:
    """Each column with its own quantity, nothing standing in for it."""
    columns = [{**column, "stand_in": None} for column in synthetic.definition["columns"]]
    plain = {**synthetic.definition, "columns": columns}
    definition, published = checked_definition(plain, synthetic.published, "ablation")
    return frames_of(synthetic.store, study_of(synthetic.manifest), definition, published)


def test_every_panel_has_all_rungs_in_the_manifests_order(synthetic: Any, frames: Frames) -> None:
    order = [rung.name for rung in synthetic.manifest.rungs]
    frame = ladder_frame(frames)
    assert list(dict.fromkeys(frame["quantity"])) == [
        "kid", "fd", "twin.params", "twin.macs", "twin.latency_iphone",
    ]  # fmt: skip
    for _, rows in frame.groupby("quantity"):
        assert list(rows["subject"]) == order


def test_bars_and_dots_stand_at_the_stores_values(synthetic: Any, frames: Frames) -> None:
    figure = ladder_figure(ladder_frame(frames))
    bars = {trace.xaxis: list(trace.x) for trace in figure.data if trace.name == "counted"}
    assert bars["x3"] == [synthetic.record(r.name, 0).quantities["twin.params"].value for r in synthetic.manifest.rungs]
    dots = next(trace for trace in figure.data if trace.name == "measured" and trace.xaxis == "x")
    for x, rung in zip(dots.x, synthetic.manifest.rungs, strict=True):
        values = [synthetic.record(rung.name, seed).quantities["kid"].value for seed in (0, 1)]
        assert x == pytest.approx(sum(values) / 2)
    seeds = next(trace for trace in figure.data if trace.name == "seeds" and trace.xaxis == "x")
    assert len(seeds.x) == 16


def test_published_marks_stand_where_the_printed_change_puts_them(synthetic: Any, frames: Frames) -> None:
    frame = ladder_frame(frames)
    marked = frame[frame["published"] != ""]
    assert set(marked["quantity"]) == {"twin.params", "twin.macs", "twin.latency_iphone"}
    row = marked[(marked["subject"] == "sepconv") & (marked["quantity"] == "twin.params")].iloc[0]
    assert row["published"] == "−24% [P*]"
    assert row["published_value"] == pytest.approx(0.76 * 580_000_000)  # of the rung it is compared to, here


def test_what_has_no_value_is_written_and_not_drawn_as_zero(synthetic: Any) -> None:
    synthetic.store.delete(synthetic.record("mqa", 0))
    synthetic.store.delete(synthetic.record("mqa", 1))
    for seed in (0, 1):
        synthetic.replace("ffn3", seed, {"kid": Failed(phase="train", message="NaN")})
    figure = ladder_figure(ladder_frame(computed(synthetic)))
    texts = [annotation.text for annotation in figure.layout.annotations]
    assert texts.count("<i>not measured</i>") == 5
    assert texts.count("<i>failed</i>") == 1
    assert texts.count("<i>unavailable</i>") == 7
    assert len(next(trace for trace in figure.data if trace.name == "measured").x) == 6


def test_curves_draw_every_point_of_every_seed(synthetic: Any, frames: Frames) -> None:
    frame = curves(frames.records, ("train_loss", "validation_loss"))
    assert len(frame) == 16 * (30 + 10)
    figure = curves_figure(frame, frames.study, frames.definition, frames.checks)
    own = [trace for trace in figure.data if trace.hoverinfo != "skip"]
    assert sum(len(trace.x) for trace in own) == len(frame)
    first = next(trace for trace in own if trace.name == "train_loss, seed 1" and trace.xaxis == "x")
    record = synthetic.record("thin_sdxl", 1)
    assert list(first.y) == [point.value for point in record.curve if point.name == "train_loss"]


def test_a_control_that_is_not_above_zero_is_written_on_the_log_axis(synthetic: Any, frames: Frames) -> None:
    figure = controls_figure(controls_frame(frames))
    drawn = [x for trace in figure.data for x in trace.x]
    assert min(drawn) > 0
    assert len(drawn) == 2 * (4 + 8) - 1
    assert any("not above 0" in annotation.text for annotation in figure.layout.annotations)


def test_a_rungs_distance_from_what_it_must_beat_has_the_interval_of_its_mean(frames: Frames) -> None:
    context = content(frames).context
    columns = [column.quantity for column in context["columns"]]
    bars = {bar.name: bar.value for bar in frames.checks.bars if bar.quantity == "kid"}
    for head, row in context["rungs"]:
        mean, margins = frames.estimates[head.name, "kid"].value, row[columns.index("kid")][1]
        interval = frames.tests.noises["kid"].contrast({head.name: 1.0})
        assert interval.low < mean < interval.high
        assert margins == [
            f"{signed(mean - bar)} from {name} ({signed(interval.low - bar)} to {signed(interval.high - bar)})"
            for name, bar in bars.items()
        ]
        assert len(margins) == len(frames.definition.must_beat)


def test_a_prediction_is_drawn_as_one_and_no_printed_change_joins_it_to_a_measurement(synthetic: Any) -> None:
    latency = Predicted(value=20.0, unit="ms", low=12.0, high=33.0, extrapolated=False)
    for seed in (0, 1):
        synthetic.replace(
            "no_high_res_sa", seed, {"twin.latency_iphone": latency}
        )  # Fig. 3 prints −24% against thin_sdxl
        synthetic.replace(
            "thin_sdxl", seed, {"twin.latency_iphone": Measured(value=30.0, unit="ms", low=29.0, high=31.0)}
        )
    frame = ladder_frame(computed(synthetic))
    panel = frame[frame["quantity"] == "twin.latency_iphone"].set_index("subject")
    assert not is_number(panel.loc["no_high_res_sa", "published_value"])
    traces = [trace for trace in ladder_figure(frame).data if trace.name in ("measured", "predicted", "spread")]
    axis = next(trace.xaxis for trace in traces if trace.name == "predicted")
    looks = {trace.name: trace.marker for trace in traces if trace.xaxis == axis and trace.name != "spread"}
    assert (looks["measured"].symbol, looks["predicted"].symbol) == ("circle", "circle-open")
    assert looks["measured"].color != looks["predicted"].color
    dashes = {tuple(trace.x): trace.line.dash for trace in traces if trace.xaxis == axis and trace.name == "spread"}
    assert dashes == {(29.0, 31.0): None, (12.0, 33.0): "dot"}


def test_a_rung_that_a_control_beats_is_grey_in_every_figure(synthetic: Any) -> None:
    for seed in (0, 1):
        kid = synthetic.record("mqa", seed).quantities["kid"]
        synthetic.replace("mqa", seed, {"kid": replace(kid, value=0.5)})
    frames = computed(synthetic)
    figure = ladder_figure(ladder_frame(frames))
    index = [rung.name for rung in synthetic.manifest.rungs].index("mqa")
    bars = next(trace for trace in figure.data if trace.name == "counted")
    assert [color == GREY for color in bars.marker.color] == [at == index for at in range(8)]
    dots = next(trace for trace in figure.data if trace.name == "measured")
    assert [color == GREY for color in dots.marker.color] == [at == index for at in range(8)]
    assert "beaten" in dots.y[index]
    assert figure.layout.xaxis.range[1] < 0.1  # what is beaten does not squeeze the others
    assert [a.text for a in figure.layout.annotations if "off scale" in a.text] == ["0.500, off scale →"]
    controls = controls_figure(controls_frame(frames))
    assert [len(trace.x) for trace in controls.data if trace.marker.color == GREY] == [1, 1]
    frame = curves(frames.records, ("validation_loss",))
    drawn = curves_figure(frame, frames.study, frames.definition, frames.checks)
    own = [trace.line.color for trace in drawn.data if trace.hoverinfo != "skip"]
    assert (own.count(INK_GREY), own.count(ORANGE)) == (2, 14)


def test_an_undertrained_rung_is_marked_where_it_is_drawn(frames: Frames) -> None:
    marks = dict(zip(ladder_frame(frames)["subject"], ladder_frame(frames)["mark"], strict=True))
    assert {rung for rung, mark in marks.items() if "undertrained" in mark} == {"sepconv", "mqa"}
    figure = ladder_figure(ladder_frame(frames))
    assert sum("undertrained" in label for label in next(t for t in figure.data if t.name == "measured").y) == 2
