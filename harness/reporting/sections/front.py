"""A sweep's picture: every trained candidate, the front, the ladder's rungs, the finalists' re-scored means."""

import html
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from harness.records.conclusions import Conclusions
from harness.records.sweep_summary import SweepSummary
from harness.reporting.drawing import BLUE, GREY, ORANGE, PURPLE, headed, is_logarithmic, is_number, rows_of
from harness.reporting.section import Content, Frames, Section

TEMPLATE = """
{% from "macros.html.j2" import drawing %}
<p>One mark a candidate{% if single %}, in the order in which the sampler proposed them{% endif %}; the search's own
values, of one training each.{% if minimized %} Towards the lower left is better.{% endif %}</p>
{{ drawing("front", height, "Objectives of every trained candidate; the table below has the same numbers") }}
<ul class="legend">
<li><svg viewBox="0 0 30 14" aria-hidden="true"><path d="M1 7h28" stroke="#2f86c1" stroke-dasharray="2 2"/><circle
cx="15"
cy="7" r="5" class="s-measured"/></svg>on the front: no other is better or equal in all</li>
<li><svg viewBox="0 0 30 14" aria-hidden="true"><circle cx="15" cy="7" r="4" fill="#2f86c1"
opacity="0.35"/></svg>trained to
the last level</li>
<li><svg viewBox="0 0 30 14" aria-hidden="true"><circle cx="15" cy="7" r="4" fill="none" stroke="#8a8f98"/></svg>trained
to a lower level: not comparable with the others</li>
{% if ladder %}
<li><svg viewBox="0 0 30 14" aria-hidden="true"><path d="M15 1l6 6-6 6-6-6z" class="s-published"/></svg>a rung of the
ladder</li>
{% endif %}
{% if rescored %}
<li><svg viewBox="0 0 30 14" aria-hidden="true"><path d="M4 7h22" stroke="#b8689c" stroke-width="2"/><rect x="11" y="3"
width="8" height="8" fill="#b8689c"/></svg>a finalist's mean over fresh seeds &plusmn; standard error</li>
{% endif %}
</ul>
"""
MOST_LABELS = 12


def content(frames: Frames) -> Content | None:
    search = frames.study.search
    if search is None:
        return None
    frame = front_frame(search)
    if frame.empty:
        return None
    rescored = rescored_frame(search.conclusions, frame)
    titles = {name: frames.title(name) + _unit_text(name, frames) for name in search.objectives}
    context = {
        "single": len(search.objectives) == 1,
        "minimized": len(search.objectives) > 1 and "maximize" not in search.objectives.values(),
        "ladder": bool((frame["rung"] != "").any()),
        "rescored": not rescored.empty,
    }
    return Content(context=context, figure=front_figure(frame, rescored, titles))


def front_frame(search: SweepSummary) -> pd.DataFrame:
    """Every candidate with values: columns name, order, rung, steps, complete, on_front, and one an objective."""
    rows = [
        {
            "name": each.name,
            "order": order,
            "rung": each.rung,
            "steps": each.steps,
            "complete": each.state == "complete",
            "on_front": each.name in search.front,
            **dict(zip(search.objectives, each.values, strict=True)),
        }
        for order, each in enumerate(search.candidates)
        if each.values is not None
    ]
    return pd.DataFrame(rows)


def rescored_frame(conclusions: Conclusions | None, frame: pd.DataFrame) -> pd.DataFrame:
    """The finalists: columns name, order, and for each objective its mean and `NAME error`, its standard error."""
    order, rows = dict(zip(frame["name"], frame["order"], strict=True)), []
    for finalist in conclusions.finalists if conclusions is not None else ():
        row: dict[str, object] = {"name": finalist.name, "order": order[finalist.name], "order error": None}
        for name, objective in finalist.objectives.items():
            row |= {name: objective.mean, f"{name} error": objective.standard_error}
        rows.append(row)
    return pd.DataFrame(rows)


def front_figure(frame: pd.DataFrame, rescored: pd.DataFrame, titles: dict[str, str]) -> go.Figure:
    """The first objective over each other one; a single objective over the candidates in their order."""
    first, *others = titles
    panels = others or ["order"]
    figure = make_subplots(rows=1, cols=len(panels), shared_yaxes=True, horizontal_spacing=0.05)
    for index, other in enumerate(panels, start=1):
        _panel(figure, frame, rescored, (other, first), index)
        figure.update_xaxes(title={"text": titles.get(other, "candidate, in order"), "standoff": 8}, col=index)
        if other == "order":
            figure.update_xaxes(tickformat="d", nticks=10)
    figure.update_yaxes(title={"text": titles[first], "standoff": 6}, col=1)
    figure.update_yaxes(**_scale(frame, rescored, first))
    figure.update_layout(height=460, margin={"l": 64, "r": 16, "t": 16, "b": 56}, showlegend=False)
    return headed(figure)


def _panel(figure: go.Figure, frame: pd.DataFrame, rescored: pd.DataFrame, axes: tuple[str, str], index: int) -> None:
    other, first = axes
    front = frame[frame["on_front"]].sort_values(other)
    if other != "order" and len(front) > 1:
        style = {"color": BLUE, "width": 1.2, "dash": "dot"}
        figure.add_trace(
            go.Scatter(x=front[other].tolist(), y=front[first].tolist(), mode="lines", line=style, hoverinfo="skip"),
            row=1, col=index,
        )  # fmt: skip
    lower, complete = frame[~frame["complete"]], frame[frame["complete"] & ~frame["on_front"]]
    for rows, name, marker in (
        (lower, "lower level", {"size": 7, "color": GREY, "symbol": "circle-open"}),
        (complete, "complete", {"size": 8, "color": BLUE, "opacity": 0.35}),
        (front, "front", {"size": 11, "color": BLUE}),
        (frame[frame["rung"] != ""], "ladder", {"size": 14, "color": ORANGE, "symbol": "diamond-open"}),
    ):
        _marks(figure, rows, name, marker, axes, index)
    if not rescored.empty:
        _rescored(figure, rescored, axes, index)


def _marks(
    figure: go.Figure, rows: pd.DataFrame, name: str, marker: dict[str, object], axes: tuple[str, str], index: int
) -> None:
    if rows.empty:
        return
    labelled = name in ("front", "ladder") and len(rows) <= MOST_LABELS
    named_before = name == "ladder"  # a rung on the front has its name there
    texts = ["" if named_before and row.on_front else html.escape(row.rung or row.name) for row in rows_of(rows)]
    labels = texts if labelled else None
    figure.add_trace(
        go.Scatter(
            x=rows[axes[0]].tolist(), y=rows[axes[1]].tolist(), name=name, marker=marker,
            mode="markers+text" if labelled else "markers", text=labels,
            textposition="top right" if name == "front" else "bottom right",
            textfont={"size": 10.5, "color": BLUE if name == "front" else ORANGE},
            hovertext=[_hover(row) for row in rows.to_dict("records")], hoverinfo="text+x+y",
        ),
        row=1, col=index,
    )  # fmt: skip


def _rescored(figure: go.Figure, rescored: pd.DataFrame, axes: tuple[str, str], index: int) -> None:
    x, y = axes
    errors = {
        f"error_{side}": {"type": "data", "array": [error or 0.0 for error in rescored[f"{name} error"].fillna(0.0)],
                          "color": PURPLE, "thickness": 1.5, "width": 3}
        for side, name in (("x", x), ("y", y))
    }  # fmt: skip
    figure.add_trace(
        go.Scatter(
            x=rescored[x].tolist(), y=rescored[y].tolist(), mode="markers", name="re-scored",
            marker={"size": 9, "color": PURPLE, "symbol": "square"}, **errors,
            hovertext=[f"{html.escape(row.name)}, fresh seeds" for row in rows_of(rescored)], hoverinfo="text+x+y",
        ),
        row=1, col=index,
    )  # fmt: skip


def _hover(row: dict[Any, Any]) -> str:
    rung = f", {row['rung']} of the ladder" if row["rung"] else ""
    return html.escape(f"{row['name']}{rung}, {row['steps']:,} steps")


def _scale(frame: pd.DataFrame, rescored: pd.DataFrame, objective: str) -> dict[str, object]:
    """Logarithmic where the values span more than a decade and all are above 0."""
    values = [*frame[objective], *(rescored[objective] if not rescored.empty else ())]
    return {"type": "log"} if is_logarithmic([value for value in values if is_number(value)]) else {}


def _unit_text(quantity: str, frames: Frames) -> str:
    """` (ms, predicted)`: the unit, and how its numbers came about where they were not measured."""
    example = frames.examples.get(quantity)
    if example is None:
        return ""
    words = [example.unit if example.unit != "1" else "", "" if example.kind == "measured" else example.kind]
    return f" ({', '.join(filter(None, words))})" if any(words) else ""


SECTION = Section(name="front", title="Front", template=TEMPLATE, content=content, kinds=("sweep",))
