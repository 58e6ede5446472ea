"""The trade-off picture, wherever a page has one: a score over a cost, both with their intervals.

Points are networks; arrows lead from one to another; fronts are the stairs through those that no other beats; levels
are what a score is held against, such as real pictures. Less of a cost is better: towards the left. Which way a score
goes stands at its axis. A page that offers several costs draws one picture for each.
"""

import html
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from harness.records.better import front_of
from harness.reporting.drawing import (
    BLUE,
    GREY,
    INK_GREY,
    ORANGE,
    PURPLE,
    Axis,
    Box,
    axis_of,
    place_labels,
    quality_axis,
    see_through,
    wrapped,
)

HEIGHT, WIDTH = 540, 1120  # px; of a page on a laptop's screen, for which labels are placed
MARGIN = {"l": 78, "r": 18, "t": 16, "b": 112}  # below: ticks, the axis' title and the legend
LABEL_WIDTH = 28  # characters
MOST_LABELS = 60  # nobody could read more
COST_FACTOR = 4  # costs that span more stand on a logarithmic axis
MOST_DRAWN = 2000  # points of one look; more are drawn by the graphics card, without labels


@dataclass(frozen=True, kw_only=True, slots=True)
class Amount:
    """A place on an axis, with its interval."""

    value: float
    low: float | None = None
    high: float | None = None

    @property
    def ends(self) -> tuple[float, ...]:
        return tuple(end for end in (self.value, self.low, self.high) if end is not None)


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """One network. Texts are plain: they are escaped here."""

    name: str  # what arrows and fronts call it; once in a picture
    x: Amount
    y: Amount
    look: str  # a key of the looks
    label: str = ""  # written beside it
    short: str = ""  # written instead where the picture is narrow: `2a`
    hover: str = ""  # what a pointer shows, in lines
    opens: str = ""  # what a click opens: the id of an element with `popover`, or a candidate of the page's table


@dataclass(frozen=True, kw_only=True, slots=True)
class Look:
    """Of points of one kind."""

    legend: str
    marker: Mapping[str, Any]  # plotly's


@dataclass(frozen=True, kw_only=True, slots=True)
class Arrow:
    start: str
    end: str
    legend: str  # arrows of one legend share an entry
    color: str = INK_GREY
    dash: str = "solid"


@dataclass(frozen=True, kw_only=True, slots=True)
class Front:
    names: Sequence[str]
    legend: str
    color: str = BLUE
    dash: str = "dot"


@dataclass(frozen=True, kw_only=True, slots=True)
class Level:
    value: float
    legend: str
    color: str = ORANGE
    dash: str = "dash"


@dataclass(frozen=True, kw_only=True, slots=True)
class Measure:
    """What an axis shows."""

    title: str  # with its unit: `Latency on iPhone (ms, predicted)`
    more_is_better: bool = False

    @property
    def better(self) -> str:
        return "more is better" if self.more_is_better else "less is better"


LOOKS: Mapping[str, Look] = {
    "printed": Look(
        legend="printed elsewhere: another training",
        marker={"color": ORANGE, "symbol": "diamond-open", "size": 11, "line": {"width": 2}},
    ),
    "lower": Look(
        legend="trained to a lower level: not comparable", marker={"size": 7, "color": GREY, "symbol": "circle-open"}
    ),
    "beaten": Look(
        legend="grey: a control without training beats it", marker={"color": GREY, "symbol": "circle", "size": 9}
    ),
    "complete": Look(legend="trained to the last level", marker={"size": 8, "color": BLUE, "opacity": 0.4}),
    "other": Look(
        legend="\u2020 of another protocol: does not compare",
        marker={"color": BLUE, "symbol": "circle-open", "size": 10, "line": {"width": 2}},
    ),
    "best": Look(
        legend="\u2020 best point of a score sweep: flattered",
        marker={"color": BLUE, "symbol": "square-open", "size": 10, "line": {"width": 2}},
    ),
    "predicted": Look(
        legend="trained here; its cost is predicted",
        marker={"color": PURPLE, "symbol": "circle-open", "size": 11, "line": {"width": 2.5}},
    ),
    "study": Look(legend="trained here", marker={"color": BLUE, "symbol": "circle", "size": 11}),
    "front": Look(legend="on the front", marker={"size": 11, "color": BLUE}),
    "ladder": Look(
        legend="a rung of the ladder",
        marker={"size": 14, "color": ORANGE, "symbol": "diamond-open", "line": {"width": 2}},
    ),
    "rescored": Look(
        legend="mean over fresh seeds, \u00b1 standard error", marker={"size": 9, "color": PURPLE, "symbol": "square"}
    ),
}
"""Drawn in this order, the last on top."""


def front_of_points(points: Sequence[Point], score: Measure) -> list[str]:
    """Names of those that no other beats in cost and score."""
    ways = ("minimize", "maximize" if score.more_is_better else "minimize")
    return [points[place].name for place in front_of([(point.x.value, point.y.value) for point in points], ways)]


def trade_off_figure(
    points: Sequence[Point],
    *,
    cost: Measure,
    score: Measure,
    looks: Mapping[str, Look] = LOOKS,
    arrows: Sequence[Arrow] = (),
    fronts: Sequence[Front] = (),
    levels: Sequence[Level] = (),
) -> go.Figure:
    """One panel. Its legend has an entry for each look, kind of arrow, front and level that is drawn; a level that no
    axis can show, such as an infinite one, is not."""
    levels = [level for level in levels if math.isfinite(level.value)]
    across = axis_of([end for point in points for end in point.x.ends], room=0.1, factor=COST_FACTOR)
    upright = quality_axis(
        [point.y.value for point in points],
        [*(end for point in points for end in point.y.ends), *(level.value for level in levels)],
        more_is_better=score.more_is_better,
    )
    by_name = {point.name: point for point in points}
    figure = go.Figure()
    for level in levels:
        figure.add_trace(_level(level, across, upright))
    for front in fronts:
        if len(front.names) > 1:
            figure.add_trace(_front(front, by_name, upright))
    for trace in _arrows(arrows, by_name, upright):
        figure.add_trace(trace)
    labels = _labels(points, arrows, across, upright)
    for name, look in looks.items():
        if chosen := [point for point in points if point.look == name]:
            figure.add_trace(_points(chosen, look, labels, upright))
    title = f"{html.escape(cost.title)}: \u2190 {cost.better}"
    figure.update_xaxes(title={"text": title, "standoff": 8}, **across.layout)
    title = f"{wrapped(score.title, 56)}<br>{score.better}{upright.note}"
    figure.update_yaxes(title={"text": title, "standoff": 8}, **upright.layout)
    legend = {"orientation": "h", "yref": "container", "y": 0, "yanchor": "bottom", "x": 0, "font": {"size": 11.5}}
    figure.update_layout(
        height=HEIGHT, margin=MARGIN, legend=legend, showlegend=True, hovermode="closest",
        meta={"symlog": upright.threshold, "x": cost.title, "y": score.title},
    )  # fmt: skip
    return figure


def _level(level: Level, across: Axis, upright: Axis) -> go.Scatter:
    text = html.escape(level.legend)
    return go.Scatter(
        x=list(across.ends), y=[upright.drawn(level.value)] * 2, mode="lines+text", name=text,
        line={"color": level.color, "width": 1.4, "dash": level.dash}, text=["", text],
        textposition="top left", textfont={"size": 10.5, "color": level.color}, hoverinfo="skip",
    )  # fmt: skip


def _front(front: Front, by_name: Mapping[str, Point], upright: Axis) -> go.Scatter:
    """Stairs: what lies above them is beaten by a point of the front."""
    places = sorted((by_name[name].x.value, upright.drawn(by_name[name].y.value)) for name in front.names)
    line = {"color": front.color, "width": 1.3, "dash": front.dash, "shape": "hv"}
    return go.Scatter(
        x=[x for x, _ in places], y=[y for _, y in places], mode="lines", line=line, hoverinfo="skip",
        name=html.escape(front.legend), opacity=0.8,
    )  # fmt: skip


def _arrows(arrows: Sequence[Arrow], by_name: Mapping[str, Point], upright: Axis) -> Iterable[go.Scatter]:
    legends = set()
    for arrow in arrows:
        if not {arrow.start, arrow.end} <= by_name.keys():
            continue
        ends = by_name[arrow.start], by_name[arrow.end]
        yield go.Scatter(
            x=[end.x.value for end in ends], y=[upright.drawn(end.y.value) for end in ends], mode="lines+markers",
            line={"color": arrow.color, "width": 1.5, "dash": arrow.dash}, opacity=0.85, hoverinfo="skip",
            marker={"symbol": "arrow", "size": [0, 10], "angleref": "previous", "standoff": [0, 8],
                    "color": arrow.color},
            name=html.escape(arrow.legend), legendgroup=arrow.legend, showlegend=arrow.legend not in legends,
        )  # fmt: skip
        legends.add(arrow.legend)


def _points(
    points: Sequence[Point], look: Look, labels: Mapping[str, tuple[str, str]], upright: Axis
) -> go.Scatter | go.Scattergl:
    many = len(points) > MOST_DRAWN
    texts, sides = zip(*(labels.get(point.name, ("", "middle right")) for point in points), strict=True)
    written = any(texts) and not many
    text = {
        "text": texts, "textposition": sides, "textfont": {"size": 11},
        "meta": {"short": [html.escape(point.short) for point in points]},
    }  # fmt: skip
    return (go.Scattergl if many else go.Scatter)(
        x=[point.x.value for point in points],
        y=[upright.drawn(point.y.value) for point in points],
        name=html.escape(look.legend),
        mode="markers+text" if written else "markers",
        marker=dict(look.marker),
        error_x=_errors([point.x for point in points], look),
        error_y=_errors([point.y for point in points], look, upright),
        hovertext=[html.escape(point.hover or point.label).replace("\n", "<br>") for point in points],
        hoverinfo="text",
        customdata=[point.opens for point in points] if any(point.opens for point in points) else None,
        **(text if written else {}),
    )


def _errors(amounts: Sequence[Amount], look: Look, axis: Axis | None = None) -> dict[str, Any] | None:
    """The intervals, as plotly wants them: how far they reach from their values; None where there are none."""
    at = (lambda value: value) if axis is None else axis.drawn
    above = [0.0 if one.high is None else at(one.high) - at(one.value) for one in amounts]
    below = [0.0 if one.low is None else at(one.value) - at(one.low) for one in amounts]
    if not any((*above, *below)):
        return None
    color = see_through(look.marker["color"], 0.45)
    return {"type": "data", "array": above, "arrayminus": below, "color": color, "thickness": 1.2, "width": 3}


def _labels(
    points: Sequence[Point], arrows: Sequence[Arrow], across: Axis, upright: Axis
) -> dict[str, tuple[str, str]]:
    """Name -> what is written beside the point, and on which side."""
    labelled = [point for point in points if point.label]
    if len(labelled) > MOST_LABELS:
        return {}
    width, height = WIDTH - MARGIN["l"] - MARGIN["r"], HEIGHT - MARGIN["t"] - MARGIN["b"]

    def place(x: float, y: float) -> tuple[float, float]:
        return across.share(x) * width, upright.share(y) * height

    spots = {point.name: place(point.x.value, point.y.value) for point in points}
    taken: list[Box] = []
    for point in points:
        x = spots[point.name][0]
        low, high = (place(point.x.value, end)[1] for end in (min(point.y.ends), max(point.y.ends)))
        taken.append((x - 3, x + 3, low, high))  # an interval of the score; those of costs may be crossed
    for arrow in arrows:
        if {arrow.start, arrow.end} <= spots.keys():
            taken += _along(spots[arrow.start], spots[arrow.end])
    texts = [(wrapped(point.label, LABEL_WIDTH), html.escape(point.short)) for point in labelled]
    placed = place_labels([spots[point.name] for point in labelled], texts, width, height, taken)
    return dict(zip([point.name for point in labelled], placed, strict=True))


def _along(start: tuple[float, float], end: tuple[float, float], every: float = 8.0) -> list[Box]:
    """Small boxes along a line."""
    (x0, y0), (x1, y1) = start, end
    steps = max(1, round(max(abs(x1 - x0), abs(y1 - y0)) / every))
    places = [(x0 + (x1 - x0) * at / steps, y0 + (y1 - y0) * at / steps) for at in range(steps + 1)]
    return [(x - 3, x + 3, y - 3, y + 3) for x, y in places]
