"""What each knob does: the candidates over it, and among them those that differ from the chosen one in it alone."""

import html
import math
from collections.abc import Sequence

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from harness.records.quantities import is_learnt
from harness.records.sweep_summary import CandidateSummary, KnobSummary, SweepSummary
from harness.reporting.drawing import BLUE, GREY, ORANGE, headed, is_logarithmic, on_a_phone, see_through
from harness.reporting.format import inside
from harness.reporting.section import Content, Frames, Section
from harness.reporting.sections.front import unit_text

TEMPLATE = """
{% from "macros.html.j2" import drawing %}
<p>The chosen candidate is {{ chosen }}, {{ why }}. Grey are all candidates: in them the other knobs vary too, so that
what a cloud shows may be another knob's doing. Blue differ from the chosen one in that knob alone, so that the lines
show what the knob does there{{ one_training }}. {{ alone }}</p>
{{ drawing("slices", height, alt, choices, "Objective") }}
<ul class="legend">
<li><svg viewBox="0 0 30 14" aria-hidden="true"><circle cx="15" cy="7" r="5" fill="#d9730d"/></svg>chosen</li>
{% if some_alone %}<li><svg viewBox="0 0 30 14" aria-hidden="true"><path d="M3 7h24"
stroke="#2f86c1" stroke-width="1.5"/><circle cx="15" cy="7" r="4" fill="#2f86c1"/></svg>differs in
that knob alone</li>{% endif %}
<li><svg viewBox="0 0 30 14" aria-hidden="true"><circle cx="15" cy="7" r="3.5" fill="#8a8f98" opacity="0.5"/></svg>all
{%- if thinned %} (every {{ thinned }}th of {{ "{:,}".format(count) }}){% endif %}</li>
</ul>
"""
COLUMNS, PANEL_PX = 4, 190
PHONE_COLUMNS = 2
MOST_DRAWN = 400
"""Candidates in a panel, which are drawn once a knob and objective."""


def content(frames: Frames) -> Content | None:
    search = frames.study.search
    if search is None:
        return None
    valued = [each for each in search.candidates if each.values_at(search.levels[0]) is not None]
    chosen = chosen_of(search, valued)
    knobs = [name for name in search.knobs if len({repr(each.parameters.get(name)) for each in valued}) > 1]
    if chosen is None or not knobs or len(valued) < 2:
        return None
    alone = {name: differing_in(chosen, name, valued) for name in knobs}
    several = [f"{name} {len(others)}" for name, others in alone.items() if others]
    by_name = {each.name for each in search.conclusions.finalists} if search.conclusions is not None else set()
    step = -(-len(valued) // MOST_DRAWN)
    figures = {
        _title(search, at, frames): slices_figure(search, at, valued[::step], chosen, alone, frames)
        for at in range(len(search.objectives))
    }
    context = {
        "chosen": chosen.name,
        "why": "the best finalist over fresh seeds"
        if chosen.name in by_name
        else f"the best on the front of the search's own {inside(frames.title(next(iter(search.objectives))))}",
        "one_training": ", by one training each" if any(map(is_learnt, search.objectives)) else "",
        "alone": f"How many these are: {', '.join(several)}." if several else "There are none of these in this sweep.",
        "some_alone": bool(several),
        "alt": f"Each objective over {len(knobs)} knobs, a panel a knob, with {chosen.name} marked",
        "thinned": step if step > 1 else 0,
        "count": len(valued),
    }
    return Content(context=context, figure=figures)


def chosen_of(search: SweepSummary, valued: Sequence[CandidateSummary]) -> CandidateSummary | None:
    """The best finalist; without finalists the front's best in the first objective."""
    conclusions = search.conclusions
    finalists = [each.name for each in conclusions.finalists if not each.beaten] if conclusions is not None else []
    by_name = {each.name: each for each in valued}
    return next((by_name[name] for name in [*finalists, *search.front] if name in by_name), None)


def differing_in(chosen: CandidateSummary, knob: str, candidates: Sequence[CandidateSummary]) -> list[CandidateSummary]:
    """Those that have the chosen one's value of every other knob. One that lacks a knob which the chosen one has, or
    has one more, differs in two."""
    return [
        each
        for each in candidates
        if each.parameters.keys() == chosen.parameters.keys()
        and [name for name, value in each.parameters.items() if value != chosen.parameters[name]] == [knob]
    ]


def _title(search: SweepSummary, at: int, frames: Frames) -> str:
    name = list(search.objectives)[at]
    after = f" after {search.levels[0]:,} steps" if is_learnt(name) and len(search.levels) > 1 else ""
    return f"{frames.title(name)}{after}"


def slices_figure(
    search: SweepSummary, at: int, drawn: Sequence[CandidateSummary], chosen: CandidateSummary,
    alone: dict[str, list[CandidateSummary]], frames: Frames,
) -> go.Figure:  # fmt: skip
    """A panel a knob, all over one objective, at the lowest budget: to that all were trained."""
    rows = -(-len(alone) // COLUMNS)
    figure = _panels(list(alone), COLUMNS)

    def value(each: CandidateSummary) -> float:
        values = each.values_at(search.levels[0])
        return math.nan if values is None else values[at]

    for place, (knob, others) in enumerate(alone.items()):
        row, col = place // COLUMNS + 1, place % COLUMNS + 1
        _panel(figure, knob, search.knobs[knob], (drawn, others, chosen), value, (row, col))
    values = [value(each) for each in drawn]
    name = list(search.objectives)[at]
    title = f"{frames.title(name)}{unit_text(name, frames)}"
    kind = "log" if is_logarithmic(values) else "linear"
    figure.update_yaxes(type=kind, nticks=6)
    figure.update_yaxes(title={"text": html.escape(title), "standoff": 4, "font": {"size": 11}}, col=1)
    figure.update_layout(height=PANEL_PX * rows + 40, margin={"l": 64, "r": 12, "t": 30, "b": 40}, showlegend=False)
    narrow = _panels(list(alone), PHONE_COLUMNS)
    narrow.update_yaxes(title={"text": html.escape(title)}, col=1)
    height = PANEL_PX * -(-len(alone) // PHONE_COLUMNS) + 40
    return headed(on_a_phone(figure, narrow, height=height))


def _panels(names: Sequence[str], columns: int) -> go.Figure:
    """Empty, one a knob."""
    rows = -(-len(names) // columns)
    return make_subplots(
        rows=rows, cols=columns, shared_yaxes=True, horizontal_spacing=0.03,
        vertical_spacing=min(0.2, 66 / (PANEL_PX * rows)), subplot_titles=[html.escape(name) for name in names],
    )  # fmt: skip


def _panel(figure: go.Figure, knob: str, summary: KnobSummary, groups: tuple, value, cell: tuple[int, int]) -> None:  # type: ignore[no-untyped-def,type-arg]
    drawn, others, chosen = groups
    row, col = cell
    having = [each for each in drawn if knob in each.parameters]
    line = sorted(
        [*others, chosen] if knob in chosen.parameters else others, key=lambda e: _order(summary, e.parameters[knob])
    )
    looks = (
        ("all", having, "markers", {"size": 5, "color": see_through(GREY, 0.45)}),
        ("differs in this alone", line if len(line) > 1 else [], "lines+markers", {"size": 7, "color": BLUE}),
        ("chosen", [chosen] if knob in chosen.parameters else [], "markers", {"size": 10, "color": ORANGE}),
    )
    for name, group, mode, marker in looks:
        if group:
            figure.add_trace(
                go.Scatter(
                    x=[_place(summary, each.parameters[knob]) for each in group], y=[value(each) for each in group],
                    mode=mode, name=name, marker=marker, line={"color": BLUE, "width": 1.5},
                    hovertext=[each.name for each in group], hoverinfo="text+x+y",
                ),
                row=row, col=col,
            )  # fmt: skip
    if summary.choices:
        labels = [str(choice) for choice in summary.choices]
        figure.update_xaxes(
            type="linear", tickvals=list(range(len(labels))), ticktext=[html.escape(_short(label)) for label in labels],
            range=[-0.5, len(labels) - 0.5], row=row, col=col,
        )  # fmt: skip
    elif summary.log:
        figure.update_xaxes(type="log", nticks=4, exponentformat="none", row=row, col=col)
    else:
        figure.update_xaxes(nticks=6, row=row, col=col)


def _place(summary: KnobSummary, value: object) -> object:
    """A choice's place among the choices; a number is its own."""
    return _order(summary, value) if summary.choices else value


def _order(summary: KnobSummary, value: object) -> float:
    if not summary.choices:
        return float(value)  # type: ignore[arg-type]
    return float(next(at for at, choice in enumerate(summary.choices) if repr(choice) == repr(value)))


def _short(label: str) -> str:
    return label if len(label) <= 12 else f"{label[:11]}…"


SECTION = Section(name="slices", title="Knobs", template=TEMPLATE, content=content, kinds=("sweep",))
