"""The page's score against each cost: who is better for as much. Ours and the printed networks each with a front."""

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from harness.records.better import front_of
from harness.records.quantities import more_is_better
from harness.reporting.cells import interval, names_of
from harness.reporting.definition import Column
from harness.reporting.drawing import BLUE, GREY, ORANGE, PURPLE, axis_of, headed, label_sides, wrapped
from harness.reporting.entries import Entry, column_basis, cost_columns, entries, score_column, why_apart
from harness.reporting.format import inside, listed
from harness.reporting.section import Content, Frames, Section

TEMPLATE = """
{% from "macros.html.j2" import drawing %}
<p>{{ score }} against {{ costs }}: towards the {{ "upper" if more else "lower" }} left is better.
{% if "printed" in drawn %}What is printed comes from other trainings, each under its own paper's protocol: it stands
beside ours, and is joined with none of them.
{% elif apart %}The printed networks are in the table alone: {{ apart }}, so the two share no axis.{% endif %}</p>
{{ drawing("against_cost", height, "The score of every network against its costs; the table has the same numbers") }}
<ul class="legend">
{% if "study" in drawn %}
<li><svg viewBox="0 0 30 14" aria-hidden="true"><path d="M1 7h28" stroke="#2f86c1" stroke-dasharray="2 2"/><circle
cx="15" cy="7" r="5" class="s-measured"/></svg>ours: mean, with the range of the seeds; dotted: no other of ours is
better in both</li>
{% endif %}
{% if "predicted" in drawn %}
<li><svg viewBox="0 0 30 14" aria-hidden="true"><circle cx="15" cy="7" r="5" class="s-predicted"/></svg>its cost is
predicted, not measured</li>
{% endif %}
{% if "best" in drawn %}
<li><svg viewBox="0 0 30 14" aria-hidden="true"><rect x="10" y="2" width="10" height="10" fill="none" stroke="#2f86c1"
stroke-width="2"/></svg>&dagger; best point of a score sweep: flattered by the choice
{%- if "best" in ranked %}; dashed: no other best point of such a sweep is better in both{% else %}, and on no front
{%- endif %}</li>
{% endif %}
{% if "beaten" in drawn %}
<li><svg viewBox="0 0 30 14" aria-hidden="true"><circle cx="15" cy="7" r="5" class="s-beaten"/></svg>grey: beaten by a
control that needs no training, so not ranked</li>
{% endif %}
{% if "other" in drawn %}
<li><svg viewBox="0 0 30 14" aria-hidden="true"><circle cx="15" cy="7" r="5" fill="none" stroke="#2f86c1"
stroke-width="2"/></svg>&dagger; of another protocol than this page's: does not compare</li>
{% endif %}
{% if "printed" in drawn %}
<li><svg viewBox="0 0 30 14" aria-hidden="true"><path d="M1 7h28" stroke="#d9730d" stroke-dasharray="2 2"/><path
d="M15 1l6 6-6 6-6-6z" class="s-published"/></svg>printed; dotted: no other printed one is better in both</li>
{% endif %}
</ul>
{% if guided %}<p class="scale">{{ guided }}</p>{% endif %}
{% if elsewhere %}<p class="scale">Not drawn, since their scores are not this one: {{ elsewhere }}.</p>{% endif %}
{% if missing %}<p class="scale">Not drawn, without a number on one of the axes: {{ missing }}.</p>{% endif %}
"""
Look = Literal["printed", "other", "beaten", "best", "predicted", "study"]
HEIGHT, WIDTH = 440, 960  # px; the width at which a page begins to scroll
MARGIN = {"l": 64, "r": 16, "t": 16, "b": 56}
GAP = 0.06  # between panels, as a share of the width
LOOKS: Mapping[Look, Mapping[str, Any]] = {
    "printed": {"color": ORANGE, "symbol": "diamond-open", "size": 11, "line": {"width": 2}},
    "other": {"color": BLUE, "symbol": "circle-open", "size": 10, "line": {"width": 2}},
    "beaten": {"color": GREY, "symbol": "circle", "size": 9},
    "best": {"color": BLUE, "symbol": "square-open", "size": 10, "line": {"width": 2}},
    "predicted": {"color": PURPLE, "symbol": "circle-open", "size": 10, "line": {"width": 2}},
    "study": {"color": BLUE, "symbol": "circle", "size": 10},
}
"""Drawn in this order, the last on top."""


RANKED: tuple[Look, ...] = ("study", "predicted")
BEST: tuple[Look, ...] = ("best",)
PRINTED: tuple[Look, ...] = ("printed",)


@dataclass(frozen=True, kw_only=True, slots=True)
class Mark:
    """One network in one panel."""

    cost: str  # the panel's quantity
    title: str
    look: Look
    x_kind: str  # how its cost is known: counted, measured, predicted, printed
    x: float
    y: float
    low: float | None = None  # of y
    high: float | None = None
    on_front: bool = False  # of the printed networks, of ours, or of the best points of our sweeps

    @property
    def label(self) -> str:
        """In lines, with the mark of another protocol."""
        name, best, tried = html.escape(self.title).partition(", best of")
        mark = " \u2020" if self.look in ("other", "best") else ""
        return f"{name}{'<br>best of' if best else ''}{tried}{mark}"


def content(frames: Frames) -> Content | None:
    score, costs = score_column(frames), cost_columns(frames)
    marks = [] if score is None else cost_marks(frames)
    if score is None or not marks:
        return None
    looks, apart = {mark.look for mark in marks}, why_apart(frames, score)
    drawn, rows = {(mark.title, mark.look == "printed") for mark in marks}, entries(frames)
    elsewhere = [each for each in rows if score.quantity in each.elsewhere]
    expected = [each for each in rows if each not in elsewhere and (not apart or each.source != "printed")]
    basis = column_basis(rows, score, frames)
    name = (basis.label if basis is not None else "") or names_of(frames.shown).get(score.quantity, score.title)
    context = {
        "score": score.title,
        "costs": listed([inside(column.title) for column in costs]),
        "more": more_is_better(score.quantity),
        "drawn": looks,
        "apart": apart if frames.published.rows else "",
        "ranked": {mark.look for mark in marks if mark.on_front},
        "guided": _guided(frames, marks, rows, score),
        "elsewhere": "; ".join(f"{each.title} ({each.elsewhere[score.quantity]})" for each in elsewhere),
        "missing": "; ".join(e.title for e in expected if (e.title, e.source == "printed") not in drawn),
    }
    titles = {column.quantity: _axis_title(column, frames) for column in costs}
    return Content(context=context, figure=cost_figure(marks, titles, name))


def cost_marks(frames: Frames) -> list[Mark]:
    """Every network in every panel where both numbers are known; printed ones only where the score is the same."""
    score, marks = score_column(frames), []
    assert score is not None
    shared, rows = not why_apart(frames, score), entries(frames)
    ranked = swept_alike(rows, score, frames)
    for column in cost_columns(frames):
        others = [each for each in rows if each.source != "printed" and each not in ranked]
        own = [_own(each, column, score, frames) for each in others]
        best = [_own(each, column, score, frames) for each in ranked]
        printed = [_printed(each, column, score, frames) for each in rows if each.source == "printed" and shared]
        for several, looks in ((own, RANKED), (best, BEST), (printed, PRINTED)):
            marks += _with_front([mark for mark in several if mark is not None], looks, score)
    return marks


def swept_alike(rows: Sequence[Entry], score: Column, frames: Frames) -> list[Entry]:
    """The best points that compare: of each of the study's networks one, of the same seed, chosen from the same points;
    empty unless all of the study that no control beats have one, and are two or more."""
    names = [one.name for one in frames.study.subjects if one.name not in frames.checks.beaten]
    alike: dict[tuple[Any, ...], dict[str, Entry]] = {}
    for each in rows:
        if each.source == "best" and each.value(score) is not None and not _otherwise_made(each):
            alike.setdefault(each.sweep, {})[each.name] = each
    whole = (group for group in alike.values() if len(names) > 1 and all(name in group for name in names))
    return next(([group[name] for name in names] for group in whole), [])


def _otherwise_made(entry: Entry) -> bool:
    """Whether its protocol is not the page's in more than how it was sampled."""
    return any(not each.startswith("sampling.") for each in entry.departures)


def _guided(frames: Frames, marks: Sequence[Mark], rows: Sequence[Entry], score: Column) -> str:
    """At which guidance our front is, and whether there is one of best points too."""
    sampling = frames.study.protocol.get("sampling", {})
    if "guidance_scale" not in sampling or not any(mark.look in RANKED for mark in marks):
        return ""
    fixed = (
        f"Our front of trained networks is at one setting for all, guidance {sampling['guidance_scale']:g} and "
        f"{sampling['steps']} steps"
    )
    if ranked := swept_alike(rows, score, frames):
        points = len(ranked[0].sweep[-1])
        return f"{fixed}; the front of best points is of one sweep a network, each over the same {points} points."
    return f"{fixed}, not of best points: not every network has a score sweep over the same points."


def _with_front(marks: Sequence[Mark], looks: Sequence[Look], score: Column) -> list[Mark]:
    """Those that no other beats in score and cost are told so; none where their costs are known in different ways."""
    ranked = [mark for mark in marks if mark.look in looks]
    if len({mark.x_kind for mark in ranked}) != 1:
        return list(marks)
    way = "maximize" if more_is_better(score.quantity) else "minimize"
    front = [ranked[place] for place in front_of([(mark.x, mark.y) for mark in ranked], ("minimize", way))]
    return [replace(mark, on_front=mark in front) for mark in marks]


def _printed(entry: Entry, cost: Column, score: Column, frames: Frames) -> Mark | None:
    x, y = entry.printed.get(cost.published or ""), entry.printed.get(score.published or "")
    if x is None or y is None or x.value is None or y.value is None:
        return None
    place = x.value * frames.published.columns[cost.published or ""].factor
    return Mark(cost=cost.quantity, title=entry.title, look="printed", x_kind="printed", x=place, y=y.value)


def _own(entry: Entry, cost: Column, score: Column, frames: Frames) -> Mark | None:
    x, y, known = entry.value(cost), entry.value(score), entry.estimates.get(cost.quantity)
    if x is None or y is None or known is None:
        return None
    if (reading := entry.readings.get(score.quantity)) is not None:
        low, high = reading.low, reading.high
    else:
        low, high = interval(entry.estimates[score.quantity], score)
    look = _look(entry, known.kind, frames)
    return Mark(
        cost=cost.quantity, title=entry.title, look=look, x_kind=known.kind, x=x, y=y, low=low, high=high
    )  # fmt: skip


def _look(entry: Entry, x_kind: str, frames: Frames) -> Look:
    if entry.source != "others" and entry.name in frames.checks.beaten:
        return "beaten"
    if entry.source == "best":
        return "best"
    if entry.departures:
        return "other"
    return "predicted" if x_kind == "predicted" else "study"


def cost_figure(marks: Sequence[Mark], titles: Mapping[str, str], score: str) -> go.Figure:
    """A panel a cost, in the order of `titles`, the score upwards in all of them."""
    panels = [cost for cost in titles if any(mark.cost == cost for mark in marks)]
    figure = make_subplots(rows=1, cols=len(panels), shared_yaxes=True, horizontal_spacing=GAP)
    upright = axis_of([value for mark in marks for value in (mark.y, mark.low, mark.high) if value is not None])
    width = (WIDTH - MARGIN["l"] - MARGIN["r"]) * (1 - GAP * (len(panels) - 1)) / len(panels)
    height = HEIGHT - MARGIN["t"] - MARGIN["b"]
    for index, cost in enumerate(panels, start=1):
        chosen = [mark for mark in marks if mark.cost == cost]
        level = axis_of([mark.x for mark in chosen])
        places = [(level.share(mark.x) * width, upright.share(mark.y) * height) for mark in chosen]
        bars = [
            (x - 3, x + 3, upright.share(mark.low) * height, upright.share(mark.high) * height)
            for (x, _), mark in zip(places, chosen, strict=True)
            if mark.low is not None and mark.high is not None
        ]
        sides = label_sides(places, [mark.label for mark in chosen], width, height, bars)
        _panel(figure, list(zip(chosen, sides, strict=True)), index)
        title = {"text": titles[cost], "standoff": 8}
        figure.update_xaxes(title=title, tickformat="~s", nticks=6, col=index, **level.layout)
    figure.update_yaxes(title={"text": wrapped(score, 44), "standoff": 6}, col=1)
    figure.update_yaxes(**upright.layout)
    figure.update_layout(height=HEIGHT, margin=MARGIN, showlegend=False)
    return headed(figure)


def _panel(figure: go.Figure, placed: Sequence[tuple[Mark, str]], index: int) -> None:
    """The fronts, and above them the marks with their labels, kind by kind."""
    for together, dash in ((PRINTED, "dot"), (BEST, "dash"), (RANKED, "dot")):
        front = sorted((mark.x, mark.y) for mark, _ in placed if mark.on_front and mark.look in together)
        if len(front) > 1:
            line = {"color": LOOKS[together[0]]["color"], "width": 1.2, "dash": dash}
            xs, ys = zip(*front, strict=True)
            figure.add_trace(
                go.Scatter(x=xs, y=ys, mode="lines", line=line, hoverinfo="skip", name=f"front, {together[0]}"),
                row=1, col=index,
            )  # fmt: skip
    for name, look in LOOKS.items():
        if chosen := [pair for pair in placed if pair[0].look == name]:
            figure.add_trace(_trace(chosen, look), row=1, col=index)


def _trace(placed: Sequence[tuple[Mark, str]], look: Mapping[str, Any]) -> go.Scatter:
    marks = [mark for mark, _ in placed]
    above = [0.0 if mark.high is None else mark.high - mark.y for mark in marks]
    below = [0.0 if mark.low is None else mark.y - mark.low for mark in marks]
    errors = {"type": "data", "array": above, "arrayminus": below, "color": look["color"], "thickness": 1.2, "width": 3}
    return go.Scatter(
        x=[mark.x for mark in marks],
        y=[mark.y for mark in marks],
        name=marks[0].look,
        mode="markers+text",
        marker=look,
        error_y=errors if any([*above, *below]) else None,
        text=[mark.label for mark in marks],
        textposition=[side for _, side in placed],
        textfont={"size": 10.5, "color": look["color"]},
        hovertext=[mark.label for mark in marks],
        hoverinfo="text+x+y",
    )


def _axis_title(column: Column, frames: Frames) -> str:
    example = frames.examples.get(column.quantity)
    unit = "" if example is None or example.kind == "counted" or example.unit in ("", "1") else f" ({example.unit})"
    return html.escape(frames.title(column.quantity) + unit)


SECTION = Section(name="against_cost", title="Against cost", template=TEMPLATE, content=content)
