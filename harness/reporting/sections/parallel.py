"""Parallel coordinates: a candidate is a line over all knobs and objectives, the front's lines on top."""

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from harness.records.sweep_summary import CandidateSummary, SweepSummary
from harness.reporting.drawing import BLUE, GREY, ORANGE, is_logarithmic
from harness.reporting.section import Content, Frames, Section
from harness.reporting.sections.slices import chosen_of

TEMPLATE = """
{% from "macros.html.j2" import drawing %}
<p>A line a candidate{% if lower %} that was trained to the last level{% endif %}: from knob to knob, and to the
objectives on the right, of which better is lower{{ "" if minimized else ", whichever way the numbers go" }}. A line
that passes at – has no such knob.</p>
{{ drawing("parallel", height, alt) }}
<ul class="legend">
{% if chosen %}<li><svg viewBox="0 0 30 14" aria-hidden="true"><path d="M2 7h26" stroke="#d9730d"
stroke-width="3"/></svg>{{ chosen }}, the chosen one</li>{% endif %}
{% if front %}<li><svg viewBox="0 0 30 14" aria-hidden="true"><path d="M2 7h26" stroke="#2f86c1"
stroke-width="2"/></svg>on the front</li>{% endif %}
<li><svg viewBox="0 0 30 14" aria-hidden="true"><path d="M2 7h26" stroke="#8a8f98"/></svg>others{% if thinned %} (every
{{ thinned }}th of {{ "{:,}".format(count) }}){% endif %}</li>
</ul>
"""
MOST_DRAWN = 300
ABSENT = -0.12  # where a line lies of a candidate that does not have the knob
HEIGHT = 420


@dataclass(frozen=True, kw_only=True, slots=True)
class Upright:
    """One of the parallel axes: where values lie on it, from 0 at the bottom to 1, and what is written beside."""

    title: str
    places: Sequence[float]  # one a candidate
    ticks: Sequence[tuple[float, str]]


def content(frames: Frames) -> Content | None:
    search = frames.study.search
    if search is None:
        return None
    complete = [each for each in search.candidates if each.state == "complete" and each.values is not None]
    uprights = [*_knobs(search, complete), *_objectives(search, complete, frames)] if len(complete) > 1 else []
    if len(uprights) < 3:
        return None
    front = set(search.front)
    others = [at for at, each in enumerate(complete) if each.name not in front]
    step = max(1, -(-len(others) // MOST_DRAWN))
    chosen = chosen_of(search, complete)
    groups = [
        ("others", others[::step], GREY, 0.8, 0.45),
        ("on the front", [at for at, each in enumerate(complete) if each.name in front], BLUE, 1.8, 0.9),
        ("chosen", [at for at, each in enumerate(complete) if chosen is each], ORANGE, 3.0, 1.0),
    ]
    context = {
        "lower": len(search.levels) > 1,
        "minimized": "maximize" not in search.objectives.values(),
        "chosen": "" if chosen is None else chosen.name,
        "front": bool(front),
        "thinned": step if step > 1 else 0,
        "count": len(others),
        "alt": f"Lines of {len(complete):,} candidates over {', '.join(each.title for each in uprights)}",
    }
    return Content(context=context, figure=parallel_figure(uprights, groups))


def _knobs(search: SweepSummary, complete: Sequence[CandidateSummary]) -> list[Upright]:
    """Those in which the candidates differ."""
    uprights = []
    for name, knob in search.knobs.items():
        values = [each.parameters.get(name) for each in complete]
        if len(set(map(repr, values))) < 2:
            continue
        if knob.choices:
            last = max(1, len(knob.choices) - 1)
            at = {repr(choice): place / last for place, choice in enumerate(knob.choices)}
            places = [ABSENT if value is None else at[repr(value)] for value in values]
            ticks = [(at[repr(choice)], str(choice)) for choice in knob.choices]
        else:
            assert knob.low is not None
            assert knob.high is not None
            places = [
                ABSENT if value is None else _share(float(value), knob.low, knob.high, knob.log) for value in values
            ]
            ticks = [(0.0, f"{knob.low:g}"), (1.0, f"{knob.high:g}")]
        absent = [(ABSENT, "–")] if None in values else []
        uprights.append(Upright(title=name, places=places, ticks=[*ticks, *absent]))
    return uprights


def _objectives(search: SweepSummary, complete: Sequence[CandidateSummary], frames: Frames) -> list[Upright]:
    """With the better end at the bottom."""
    uprights = []
    for at, (name, direction) in enumerate(search.objectives.items()):
        values = [(each.values or ())[at] for each in complete]
        low, high = min(values), max(values)
        if not math.isfinite(low) or not math.isfinite(high):
            continue
        log = is_logarithmic(values)
        if direction == "maximize":
            low, high = high, low
        places = [_share(value, low, high, log) for value in values]
        ticks = [(0.0, frames.text(name, low)), (1.0, frames.text(name, high))]
        uprights.append(Upright(title=frames.title(name), places=places, ticks=ticks))
    return uprights


def _share(value: float, low: float, high: float, log: bool) -> float:
    if low == high:
        return 0.5
    if log:
        value, low, high = math.log(value), math.log(low), math.log(high)
    return (value - low) / (high - low)


Group = tuple[str, Sequence[int], str, float, float]  # name, places of its candidates, color, width, opacity


def parallel_figure(uprights: Sequence[Upright], groups: Sequence[Group]) -> go.Figure:
    """One trace a group: its lines one after the other, with gaps."""
    figure = go.Figure()
    for at in range(len(uprights)):
        style = {"color": GREY, "width": 1}
        figure.add_shape(type="line", x0=at, x1=at, y0=0, y1=1, line=style, layer="below")
    for name, candidates, color, width, opacity in groups:
        x: list[float | None] = []
        y: list[float | None] = []
        for candidate in candidates:
            x += [*range(len(uprights)), None]
            y += [*(round(upright.places[candidate], 4) for upright in uprights), None]
        if x:
            line = {"color": color, "width": width}
            figure.add_trace(
                go.Scatter(x=x, y=y, mode="lines", name=name, line=line, opacity=opacity, hoverinfo="skip")
            )
    for at, upright in enumerate(uprights):
        for place, text in upright.ticks:
            label = html.escape(text if len(text) <= 12 else f"{text[:11]}…")
            figure.add_annotation(
                x=at, y=place, text=label, showarrow=False, xanchor="left", xshift=5, font={"size": 10.5},
                bgcolor="rgba(128,128,128,0.12)", borderpad=1,
            )  # fmt: skip
    titles = [html.escape(upright.title) for upright in uprights]
    figure.update_xaxes(
        tickvals=list(range(len(uprights))), ticktext=[_broken(title) for title in titles], side="top",
        range=[-0.3, len(uprights) - 0.2], showgrid=False, zeroline=False, tickangle=0,
    )  # fmt: skip
    figure.update_yaxes(visible=False, range=[ABSENT - 0.06, 1.06])
    figure.update_layout(height=HEIGHT, margin={"l": 16, "r": 40, "t": 60, "b": 12}, showlegend=False)
    return figure


def _broken(title: str) -> str:
    """On lines at its dots and blanks, so that neighbours do not collide."""
    return title.replace("_", "_<br>", 1).replace(".", ".<br>").replace(" ", "<br>", 1) if len(title) > 12 else title


SECTION = Section(name="parallel", title="Parallel coordinates", template=TEMPLATE, content=content, kinds=("sweep",))
