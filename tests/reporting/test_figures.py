"""What the figures draw, and that it is what the frames hold."""

from dataclasses import replace
from typing import Any

import pytest

from harness.records.plain import from_plain
from harness.records.quantity import Failed, Measured, Predicted
from harness.reporting.definition import ReportDefinition
from harness.reporting.drawing import GREY, INK_GREY, ORANGE, is_number
from harness.reporting.figures import controls_figure, controls_frame, curves_figure
from harness.reporting.frames import controls_of, curves, estimates, read_controls, read_trials, records_of
from harness.reporting.ladder import ladder_figure, ladder_frame
from harness.reporting.published import Published
from harness.reporting.standing import standing


@pytest.fixture
def parts(synthetic: Any) -> dict[str, Any]:
    return made(synthetic)


def made(synthetic: Any) -> dict[str, Any]:
    definition = from_plain(ReportDefinition, synthetic.definition)
    records = records_of(synthetic.store, synthetic.manifest)
    found = estimates(
        read_trials(records, [column.quantity for column in definition.columns], synthetic.manifest), synthetic.manifest
    )
    published = from_plain(Published, synthetic.published)
    measured = controls_of(synthetic.store, synthetic.manifest)
    controls = read_controls(measured, definition.controls, definition.control_quantities)
    stands = standing(synthetic.manifest, definition, controls, found, records)
    return {
        "definition": definition, "records": records, "estimates": found, "published": published, "standing": stands,
        "ladder": ladder_frame(synthetic.manifest, definition, published, found, stands), "controls": controls,
    }  # fmt: skip


def test_every_panel_has_all_rungs_in_the_manifests_order(synthetic: Any, parts: dict[str, Any]) -> None:
    order = [rung.name for rung in synthetic.manifest.rungs]
    frame = parts["ladder"]
    assert list(dict.fromkeys(frame["quantity"])) == [
        "kid", "fd", "twin.params", "twin.macs", "twin.latency_iphone",
    ]  # fmt: skip
    for _, rows in frame.groupby("quantity"):
        assert list(rows["rung"]) == order


def test_bars_and_dots_stand_at_the_stores_values(synthetic: Any, parts: dict[str, Any]) -> None:
    figure = ladder_figure(parts["ladder"])
    bars = {trace.xaxis: list(trace.x) for trace in figure.data if trace.name == "counted"}
    assert bars["x3"] == [synthetic.record(r.name, 0).quantities["twin.params"].value for r in synthetic.manifest.rungs]
    dots = next(trace for trace in figure.data if trace.name == "measured" and trace.xaxis == "x")
    for x, rung in zip(dots.x, synthetic.manifest.rungs, strict=True):
        values = [synthetic.record(rung.name, seed).quantities["kid"].value for seed in (0, 1)]
        assert x == pytest.approx(sum(values) / 2)
    seeds = next(trace for trace in figure.data if trace.name == "seeds" and trace.xaxis == "x")
    assert len(seeds.x) == 16


def test_published_marks_stand_where_the_printed_change_puts_them(synthetic: Any, parts: dict[str, Any]) -> None:
    frame = parts["ladder"]
    marked = frame[frame["published"] != ""]
    assert set(marked["quantity"]) == {"twin.params", "twin.macs", "twin.latency_iphone"}
    row = marked[(marked["rung"] == "sepconv") & (marked["quantity"] == "twin.params")].iloc[0]
    assert row["published"] == "−24% [P*]"
    assert row["published_value"] == pytest.approx(0.76 * 580_000_000)  # of the rung it is compared to, here


def test_what_has_no_value_is_written_and_not_drawn_as_zero(synthetic: Any) -> None:
    synthetic.store.delete(synthetic.record("mqa", 0))
    synthetic.store.delete(synthetic.record("mqa", 1))
    for seed in (0, 1):
        synthetic.replace("ffn3", seed, {"kid": Failed(stage="train", message="NaN")})
    figure = ladder_figure(made(synthetic)["ladder"])
    texts = [annotation.text for annotation in figure.layout.annotations]
    assert texts.count("<i>not measured</i>") == 5
    assert texts.count("<i>failed</i>") == 1
    assert texts.count("<i>unavailable</i>") == 7
    assert len(next(trace for trace in figure.data if trace.name == "measured").x) == 6


def test_curves_draw_every_point_of_every_seed(synthetic: Any, parts: dict[str, Any]) -> None:
    frame = curves(parts["records"], ("train_loss", "validation_loss"))
    assert len(frame) == 16 * (30 + 10)
    figure = curves_figure(frame, synthetic.manifest, parts["definition"], parts["standing"])
    own = [trace for trace in figure.data if trace.hoverinfo != "skip"]
    assert sum(len(trace.x) for trace in own) == len(frame)
    first = next(trace for trace in own if trace.name == "train_loss, seed 1" and trace.xaxis == "x")
    record = synthetic.record("thin_sdxl", 1)
    assert list(first.y) == [point.value for point in record.curve if point.name == "train_loss"]


def controls_frame_of(synthetic: Any, parts: dict[str, Any]) -> Any:
    known = (parts["definition"], parts["controls"], parts["estimates"], parts["standing"])
    return controls_frame(synthetic.manifest, *known)


def test_a_control_that_is_not_above_zero_is_written_on_the_log_axis(synthetic: Any, parts: dict[str, Any]) -> None:
    figure = controls_figure(controls_frame_of(synthetic, parts))
    drawn = [x for trace in figure.data for x in trace.x]
    assert min(drawn) > 0
    assert len(drawn) == 2 * (4 + 8) - 1
    assert any("not above 0" in annotation.text for annotation in figure.layout.annotations)


def test_a_prediction_is_drawn_as_one_and_no_printed_change_joins_it_to_a_measurement(synthetic: Any) -> None:
    found = Predicted(value=20.0, unit="ms", low=12.0, high=33.0, extrapolated=False)
    for seed in (0, 1):
        synthetic.replace(
            "no_high_res_sa", seed, {"twin.latency_iphone": found}
        )  # Fig. 3 prints −24% against thin_sdxl
        synthetic.replace(
            "thin_sdxl", seed, {"twin.latency_iphone": Measured(value=30.0, unit="ms", low=29.0, high=31.0)}
        )
    frame = made(synthetic)["ladder"]
    panel = frame[frame["quantity"] == "twin.latency_iphone"].set_index("rung")
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
        found = synthetic.record("mqa", seed).quantities["kid"]
        synthetic.replace("mqa", seed, {"kid": replace(found, value=0.5)})
    parts = made(synthetic)
    figure = ladder_figure(parts["ladder"])
    index = [rung.name for rung in synthetic.manifest.rungs].index("mqa")
    bars = next(trace for trace in figure.data if trace.name == "counted")
    assert [color == GREY for color in bars.marker.color] == [at == index for at in range(8)]
    dots = next(trace for trace in figure.data if trace.name == "measured")
    assert [color == GREY for color in dots.marker.color] == [at == index for at in range(8)]
    assert "beaten" in dots.y[index]
    assert figure.layout.xaxis.range[1] < 0.1  # what is beaten does not squeeze the others
    assert [a.text for a in figure.layout.annotations if "off scale" in a.text] == ["0.500, off scale →"]
    controls = controls_figure(controls_frame_of(synthetic, parts))
    assert [len(trace.x) for trace in controls.data if trace.marker.color == GREY] == [1, 1]
    frame = curves(parts["records"], ("validation_loss",))
    drawn = curves_figure(frame, synthetic.manifest, parts["definition"], parts["standing"])
    own = [trace.line.color for trace in drawn.data if trace.hoverinfo != "skip"]
    assert (own.count(INK_GREY), own.count(ORANGE)) == (2, 14)


def test_an_undertrained_rung_is_marked_where_it_is_drawn(parts: dict[str, Any]) -> None:
    marks = dict(zip(parts["ladder"]["rung"], parts["ladder"]["mark"], strict=True))
    assert {rung for rung, mark in marks.items() if "undertrained" in mark} == {"sepconv", "mqa"}
    figure = ladder_figure(parts["ladder"])
    assert sum("undertrained" in label for label in next(t for t in figure.data if t.name == "measured").y) == 2
