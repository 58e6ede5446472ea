"""Every quantity over the rungs, as small multiples: Fig. 3's picture."""

import html
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from harness.reporting.cells import interval
from harness.reporting.definition import Column
from harness.reporting.drawing import BLUE, GREY, ORANGE, PURPLE, RED, headed, is_number, label_of, rows_of, wrapped
from harness.reporting.format import change, number
from harness.reporting.section import Content, Frames, Section
from harness.reporting.subjects import Subject

ABSENT = {"failed": ("failed", RED), "unavailable": ("unavailable", GREY), "missing": ("not measured", GREY)}
ROW_PX = 46
TEMPLATE = """
{% from "macros.html.j2" import drawing %}
<p>{% if factorial %}Every rung is one combination of the choices, compared to the first;{% else %}Every rung is one
change to the rung it is compared to;{% endif %} rungs stand in their order, top to bottom, in every panel.</p>
{{ drawing("ladder", height, alt) }}
<ul class="legend">
{% if "counted" in drawn %}
<li><svg viewBox="0 0 30 14" aria-hidden="true"><rect x="0" y="3" width="28" height="8"
class="s-counted"/></svg>counted: exact</li>
{% endif %}
{% if "measured" in drawn %}
<li><svg viewBox="0 0 30 14" aria-hidden="true"><rect x="3" y="5" width="24" height="4" class="s-spread"/><circle
cx="15" cy="7" r="5" class="s-measured"/></svg>measured: mean, with the range of its seeds or runs</li>
{% endif %}
{% if "predicted" in drawn %}
<li><svg viewBox="0 0 30 14" aria-hidden="true"><path d="M1 7h9M20 7h9" class="s-predicted-interval"/><circle cx="15"
cy="7" r="5" class="s-predicted"/></svg>predicted, not measured, with its interval</li>
{% endif %}
{% if "published change" in drawn %}
<li><svg viewBox="0 0 30 14" aria-hidden="true"><path d="M15 1l6 6-6 6-6-6z" class="s-published"/></svg>where a rung
would stand here, had it changed the rung it is compared to by what is published; that change in words beside it</li>
{% endif %}
{% if beaten %}
<li><svg viewBox="0 0 30 14" aria-hidden="true"><circle cx="15" cy="7" r="5" class="s-beaten"/></svg>grey: beaten by a
control that needs no training, so not ranked</li>
{% endif %}
</ul>
"""


def content(frames: Frames) -> Content:
    frame = ladder_frame(frames)
    figure = ladder_figure(frame)
    context = {
        "drawn": {trace.name for trace in figure.data},
        "beaten": bool(frame[frame["beaten"]]["value"].map(is_number).any()),
        "factorial": any(rung.levels for rung in frames.study.subjects),
        "alt": _alt(frame),
    }
    return Content(context=context, figure=figure)


def _alt(frame: pd.DataFrame) -> str:
    """The picture in words: of each quantity from which rung to which it reaches."""
    parts = []
    for _, rows in frame.groupby("quantity", sort=False):
        valued = sorted((row for row in rows_of(rows) if is_number(row.value)), key=lambda row: row.value)
        if valued:
            least, most = valued[0], valued[-1]
            ends = " to ".join(f"{number(each.value, each.unit)} ({each.title})" for each in (least, most))
            parts.append(f"{least.panel} {ends}")
        else:
            parts.append(f"{rows['panel'].iloc[0]}: no value")
    rungs = frame["subject"].nunique()
    return f"{len(parts)} quantities of {rungs} rungs. {'; '.join(parts)}. The table has all numbers."


def ladder_frame(frames: Frames) -> pd.DataFrame:
    """One row per panel and rung, in the study's order: what the picture draws."""
    rows = [_row(frames, column, rung) for column in frames.columns if column.panel for rung in frames.study.subjects]
    return pd.DataFrame(rows).astype({"value": object, "published_value": object})


def _row(frames: Frames, column: Column, rung: Subject) -> dict[str, Any]:
    published, estimates = frames.published, frames.estimates
    estimate, cell = estimates[rung.name, column.quantity], published.cell(rung.name, column.published)
    same_base = rung.name in published.rows and published.rows[rung.name].against == rung.against
    relative = cell.change if cell is not None and same_base else None
    against = estimates[rung.against, column.quantity] if rung.against else None
    reference = against.value if against is not None and against.kind == estimate.kind else None
    low, high = interval(estimate, column)
    return {
        "quantity": column.quantity,
        "panel": column.title,
        "subject": rung.name,
        "title": rung.title,
        "mark": ", ".join(mark for mark, _ in frames.checks.marks(rung.name)),
        "beaten": rung.name in frames.checks.beaten,
        "kind": estimate.kind,
        "value": estimate.value,
        "low": low,
        "high": high,
        "seeds": estimate.values if column.spread == "seeds" else (),
        "unit": estimate.unit,
        "change": estimate.change,
        "note": estimate.note,
        "published": f"{change(relative, digits=0)} {cell.source}" if cell and relative is not None else "",
        "published_value": reference * (1 + relative) if reference and relative is not None else None,
    }


def ladder_figure(frame: pd.DataFrame) -> go.Figure:
    """Fig. 3's picture: a panel per quantity, the rungs from top to bottom in every one."""
    panels = list(dict.fromkeys(frame["quantity"]))
    first = frame[frame["quantity"] == panels[0]]
    labels = {row.subject: label_of(row.title, row.mark) for row in rows_of(first)}
    titles = [wrapped(frame[frame["quantity"] == name]["panel"].iloc[0], 16) for name in panels]
    widths = [1.3 if any(frame[frame["quantity"] == name]["published"]) else 1.0 for name in panels]
    figure = make_subplots(
        rows=1,
        cols=len(panels),
        shared_yaxes=True,
        column_widths=widths,
        horizontal_spacing=0.014,
        subplot_titles=titles,
    )
    for index, name in enumerate(panels, start=1):
        _panel(figure, frame[frame["quantity"] == name], labels, index)
    figure.update_yaxes(
        categoryorder="array", categoryarray=list(labels.values())[::-1], range=[-0.6, len(labels) - 0.4],
        ticks="", showgrid=True,
    )  # fmt: skip
    figure.update_layout(
        height=110 + ROW_PX * len(labels), margin={"l": 10, "r": 10, "t": 64, "b": 34}, showlegend=False
    )
    return headed(figure)


def _panel(figure: go.Figure, rows: pd.DataFrame, labels: Mapping[str, str], index: int) -> None:
    valued = [row for row in rows_of(rows) if is_number(row.value)]
    scores = any(row.seeds for row in valued)
    # a score that a control beats must not squeeze the others
    ranked = [row for row in valued if not (row.beaten and scores)] or valued
    drawn = [x for row in ranked for x in (row.value, row.high, row.published_value, *row.seeds) if is_number(x)]
    top: float = max(drawn, default=1.0) or 1.0
    has_published = any(rows["published"])
    end = top * (2.0 if has_published else 1.18)
    low: float = min([0.0, *(x for row in valued for x in (row.low, row.value) if is_number(x))])
    figure.update_xaxes(
        range=[low * 1.1, end], nticks=4, col=index, rangemode="tozero",
        showticklabels=bool(valued), tickformat="~s" if top >= 1000 else "",
    )  # fmt: skip
    for kind, draw in (("counted", _bars), ("measured", _dots), ("predicted", _dots)):
        chosen = [row for row in valued if row.kind == kind]
        if chosen:
            draw(figure, chosen, labels, index)
    if not valued:  # an axis without a trace is not drawn, and texts on it would land elsewhere
        figure.add_trace(go.Scatter(x=[0.0] * len(labels), y=list(labels.values()), opacity=0), row=1, col=index)
    _published(figure, valued, labels, index)
    for row in rows_of(rows):
        _texts(figure, row, labels[row.subject], index, off_scale=is_number(row.value) and row.value > end)


def _bars(figure: go.Figure, rows: Sequence[Any], labels: Mapping[str, str], index: int) -> None:
    figure.add_trace(
        go.Bar(
            x=[row.value for row in rows], y=[labels[row.subject] for row in rows], orientation="h", width=0.46,
            marker={"color": [GREY if row.beaten else BLUE for row in rows], "opacity": 0.75},
            hovertext=[_hover(row) for row in rows], hoverinfo="text",
            name="counted",
        ),
        row=1, col=index,
    )  # fmt: skip


def _dots(figure: go.Figure, rows: Sequence[Any], labels: Mapping[str, str], index: int) -> None:
    """The mean as a dot with its spread as a line, and every seed as a small tick."""
    predicted = rows[0].kind == "predicted"
    colors = {row.subject: GREY if row.beaten else PURPLE if predicted else BLUE for row in rows}
    for row in (row for row in rows if is_number(row.low)):
        figure.add_trace(
            go.Scatter(
                x=[row.low, row.high], y=[labels[row.subject]] * 2, mode="lines", hoverinfo="skip", name="spread",
                line={"color": colors[row.subject], **({"width": 2, "dash": "dot"} if predicted else {"width": 5})},
                opacity=0.9 if predicted else 0.35,
            ),
            row=1, col=index,
        )  # fmt: skip
    seeds = [(value, labels[row.subject], colors[row.subject]) for row in rows for value in row.seeds]
    if seeds:
        x, y, color = (list(each) for each in zip(*seeds, strict=True))
        figure.add_trace(
            go.Scatter(
                x=x, y=y, mode="markers", hoverinfo="skip", name="seeds",
                marker={"symbol": "line-ns-open", "size": 11, "color": color},
            ),
            row=1, col=index,
        )  # fmt: skip
    figure.add_trace(
        go.Scatter(
            x=[row.value for row in rows], y=[labels[row.subject] for row in rows], mode="markers", name=rows[0].kind,
            marker={
                "size": 10, "color": list(colors.values()), "symbol": "circle-open" if predicted else "circle",
            },
            hovertext=[_hover(row) for row in rows], hoverinfo="text",
        ),
        row=1, col=index,
    )  # fmt: skip


def _published(figure: go.Figure, rows: Sequence[Any], labels: Mapping[str, str], index: int) -> None:
    """An open diamond where the rung would stand if the printed change held for the rung it is compared to."""
    chosen = [row for row in rows if is_number(row.published_value)]
    if chosen:
        figure.add_trace(
            go.Scatter(
                x=[row.published_value for row in chosen], y=[labels[row.subject] for row in chosen], mode="markers",
                marker={"size": 11, "color": ORANGE, "symbol": "diamond-open", "line": {"width": 2}},
                hovertext=[f"published {html.escape(row.published)}" for row in chosen], hoverinfo="text",
                name="published change",
            ),
            row=1, col=index,
        )  # fmt: skip


def _texts(figure: go.Figure, row: Any, label_: str, index: int, *, off_scale: bool) -> None:
    axis = "" if index == 1 else str(index)
    place = {"xref": f"x{axis} domain", "yref": "y", "y": label_, "showarrow": False}
    if row.published:
        figure.add_annotation(
            **place, x=1, xanchor="right", yshift=-8 if row.kind in ABSENT else 0, text=html.escape(row.published),
            font={"size": 10.5, "color": ORANGE},
        )  # fmt: skip
    if off_scale:
        figure.add_annotation(
            **place, x=0.97, xanchor="right", text=f"{number(row.value, row.unit)}, off scale \u2192",
            font={"size": 10.5, "color": GREY}, hovertext=_hover(row),
        )  # fmt: skip
    if row.kind in ABSENT:
        text, color = ABSENT[row.kind]
        figure.add_annotation(
            **place, x=0.03, xanchor="left", yshift=8 if row.published else 0, text=f"<i>{text}</i>",
            font={"size": 10.5, "color": color},
            hovertext=html.escape(row.note),
        )  # fmt: skip


def _hover(row: Any) -> str:
    value, unit, title, kind, against = row.value, row.unit, row.title, row.kind, row.change
    versus = f"<br>{change(against)} against the rung it changes" if is_number(against) else ""
    return f"{html.escape(title)}<br>{number(value, unit)} ({kind}){versus}"


SECTION = Section(name="ladder", title="Every quantity", template=TEMPLATE, content=content, kinds=("ablation",))
