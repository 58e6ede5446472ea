"""Figures, drawn from data frames alone. The page gives them their light or dark template.

Colours are Okabe and Ito's, which colour-blind readers can tell apart; kinds differ in shape too.
"""

import html
import math
import textwrap
from collections.abc import Mapping, Sequence

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from harness.records.manifest import Manifest
from harness.reporting.definition import ReportDefinition
from harness.reporting.format import change, number
from harness.reporting.frames import Estimate, Estimates, Reading
from harness.reporting.published import Published

BLUE, ORANGE, GREEN, GREY, PURPLE, RED = "#2f86c1", "#d9730d", "#0e9f77", "#8a8f98", "#b8689c", "#cc3d3d"
ABSENT = {"failed": ("failed", RED), "unavailable": ("unavailable", GREY), "missing": ("not measured", GREY)}
ROW_PX = 46


def ladder_frame(
    manifest: Manifest, definition: ReportDefinition, published: Published, estimates: Estimates
) -> pd.DataFrame:
    """One row per panel and rung, in the manifest's order: what the picture draws."""
    rows = []
    for column in (column for column in definition.columns if column.panel):
        for rung in manifest.rungs:
            estimate, cell = estimates[rung.name, column.quantity], published.cell(rung.name, column.published)
            same_base = rung.name in published.rows and published.rows[rung.name].against == rung.against
            relative = cell.change if cell is not None and same_base else None
            reference = estimates[rung.against, column.quantity].value if rung.against else None
            low, high = _interval(estimate, column.spread)
            rows.append(
                {
                    "quantity": column.quantity,
                    "panel": column.title,
                    "rung": rung.name,
                    "title": rung.title,
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
            )
    return pd.DataFrame(rows).astype({"value": object, "published_value": object})


def ladder_figure(frame: pd.DataFrame) -> go.Figure:
    """Fig. 3's picture: a panel per quantity, the rungs from top to bottom in every one."""
    panels = list(dict.fromkeys(frame["quantity"]))
    first = frame[frame["quantity"] == panels[0]]
    labels = {row.rung: label(row.title) for row in first.itertuples()}
    titles = [wrapped(frame[frame["quantity"] == name]["panel"].iloc[0], 16) for name in panels]
    figure = make_subplots(rows=1, cols=len(panels), shared_yaxes=True, horizontal_spacing=0.014, subplot_titles=titles)
    for index, name in enumerate(panels, start=1):
        _panel(figure, frame[frame["quantity"] == name], labels, index)
    figure.update_yaxes(
        categoryorder="array", categoryarray=list(labels.values())[::-1], range=[-0.6, len(labels) - 0.4],
        ticks="", showgrid=True,
    )  # fmt: skip
    figure.update_layout(height=110 + ROW_PX * len(labels), margin={"l": 10, "r": 10, "t": 64, "b": 34}, showlegend=False)
    return figure


def _panel(figure: go.Figure, rows: pd.DataFrame, labels: Mapping[str, str], index: int) -> None:
    valued = [row for row in rows.itertuples() if row.value is not None and not pd.isna(row.value)]
    drawn = [x for row in valued for x in (row.value, row.high, row.published_value, *row.seeds) if _is_number(x)]
    top = max(drawn, default=1.0) or 1.0
    has_published = any(rows["published"])
    low = min([0.0, *(x for row in valued for x in (row.low, row.value) if _is_number(x))])
    figure.update_xaxes(
        range=[low * 1.1, top * (1.75 if has_published else 1.18)], nticks=4, col=index, rangemode="tozero",
        showticklabels=bool(valued), tickformat="~s" if top >= 1000 else "",
    )  # fmt: skip
    for kind, draw in (("counted", _bars), ("measured", _dots), ("predicted", _dots)):
        chosen = [row for row in valued if row.kind == kind]
        if chosen:
            draw(figure, chosen, labels, index)
    _published(figure, valued, labels, index)
    for row in rows.itertuples():
        _texts(figure, row, labels[row.rung], index)


def _bars(figure: go.Figure, rows: Sequence, labels: Mapping[str, str], index: int) -> None:
    figure.add_trace(
        go.Bar(
            x=[row.value for row in rows], y=[labels[row.rung] for row in rows], orientation="h", width=0.46,
            marker={"color": BLUE, "opacity": 0.75}, hovertext=[_hover(row) for row in rows], hoverinfo="text",
            name="counted",
        ),
        row=1, col=index,
    )  # fmt: skip


def _dots(figure: go.Figure, rows: Sequence, labels: Mapping[str, str], index: int) -> None:
    """The mean as a dot with its spread as a line, and every seed as a small tick."""
    predicted = rows[0].kind == "predicted"
    color = PURPLE if predicted else BLUE
    for row in (row for row in rows if _is_number(row.low)):
        figure.add_trace(
            go.Scatter(
                x=[row.low, row.high], y=[labels[row.rung]] * 2, mode="lines", hoverinfo="skip", name="spread",
                line={"color": color, "width": 5}, opacity=0.35,
            ),
            row=1, col=index,
        )  # fmt: skip
    seeds = [(value, labels[row.rung]) for row in rows for value in row.seeds]
    if seeds:
        figure.add_trace(
            go.Scatter(
                x=[x for x, _ in seeds], y=[y for _, y in seeds], mode="markers", hoverinfo="skip", name="seeds",
                marker={"symbol": "line-ns-open", "size": 11, "color": color},
            ),
            row=1, col=index,
        )  # fmt: skip
    figure.add_trace(
        go.Scatter(
            x=[row.value for row in rows], y=[labels[row.rung] for row in rows], mode="markers", name=rows[0].kind,
            marker={"size": 10, "color": color, "symbol": "circle-open-dot" if predicted else "circle"},
            hovertext=[_hover(row) for row in rows], hoverinfo="text",
        ),
        row=1, col=index,
    )  # fmt: skip


def _published(figure: go.Figure, rows: Sequence, labels: Mapping[str, str], index: int) -> None:
    """An open diamond where the rung would stand if the printed change held for the rung it is compared to."""
    chosen = [row for row in rows if _is_number(row.published_value)]
    if chosen:
        figure.add_trace(
            go.Scatter(
                x=[row.published_value for row in chosen], y=[labels[row.rung] for row in chosen], mode="markers",
                marker={"size": 11, "color": ORANGE, "symbol": "diamond-open", "line": {"width": 2}},
                hovertext=[f"published {html.escape(row.published)}" for row in chosen], hoverinfo="text",
                name="published change",
            ),
            row=1, col=index,
        )  # fmt: skip


def _texts(figure: go.Figure, row: object, label_: str, index: int) -> None:
    axis = "" if index == 1 else str(index)
    place = {"xref": f"x{axis} domain", "yref": "y", "y": label_, "showarrow": False}
    if row.published:  # type: ignore[attr-defined]
        figure.add_annotation(
            **place, x=1, xanchor="right", text=html.escape(row.published),  # type: ignore[attr-defined]
            font={"size": 10.5, "color": ORANGE},
        )  # fmt: skip
    if row.kind in ABSENT:  # type: ignore[attr-defined]
        text, color = ABSENT[row.kind]  # type: ignore[attr-defined]
        figure.add_annotation(
            **place, x=0.03, xanchor="left", text=f"<i>{text}</i>", font={"size": 10.5, "color": color},
            hovertext=html.escape(row.note),  # type: ignore[attr-defined]
        )  # fmt: skip


def curves_figure(frame: pd.DataFrame, manifest: Manifest, definition: ReportDefinition) -> go.Figure:
    """Training and validation loss: a panel per rung, a line per seed; the other rungs' validation in grey behind."""
    columns = min(4, len(manifest.rungs))
    rows = math.ceil(len(manifest.rungs) / columns)
    figure = make_subplots(
        rows=rows, cols=columns, shared_xaxes=True, shared_yaxes=True, horizontal_spacing=0.02,
        vertical_spacing=0.3 / rows, subplot_titles=[wrapped(rung.title, 34) for rung in manifest.rungs],
    )  # fmt: skip
    validation = frame[frame["name"] == definition.validation_curve]
    for index, rung in enumerate(manifest.rungs):
        place = {"row": index // columns + 1, "col": index % columns + 1}
        for (other, _), line in validation[validation["rung"] != rung.name].groupby(["rung", "seed"]):
            _line(figure, line, f"validation, {other}", {"color": GREY, "width": 0.7}, 0.35, place)
        for name, color, width, opacity in (
            (definition.train_curve, BLUE, 1.0, 0.55),
            (definition.validation_curve, ORANGE, 2.0, 1.0),
        ):
            chosen = frame[(frame["rung"] == rung.name) & (frame["name"] == name)]
            for seed, line in chosen.groupby("seed"):
                style = {"color": color, "width": width, "dash": "solid"}
                _line(figure, line, f"{name}, seed {seed}", style, opacity, place)
    figure.update_yaxes(type="log", nticks=6)
    figure.update_xaxes(title={"text": "step", "standoff": 4}, row=rows)
    figure.update_layout(height=60 + 210 * rows, margin={"l": 46, "r": 10, "t": 44, "b": 44}, showlegend=False)
    return figure


def _line(
    figure: go.Figure, line: pd.DataFrame, name: str, style: dict[str, object], opacity: float, place: dict[str, int]
) -> None:
    line = line.sort_values("step")
    background = style["color"] == GREY
    figure.add_trace(
        go.Scatter(
            x=line["step"].tolist(), y=line["value"].tolist(), mode="lines", name=html.escape(name), line=style,
            opacity=opacity, hoverinfo="skip" if background else "x+y+name",
        ),
        **place,
    )  # fmt: skip


def controls_frame(
    manifest: Manifest, definition: ReportDefinition, controls: Sequence[Reading], estimates: Estimates
) -> pd.DataFrame:
    """Controls and rungs on one scale: columns quantity, panel, name, title, is_control, kind, value."""
    rows = []
    for quantity in definition.control_quantities:
        panel = definition.column(quantity).title
        for row in (row for row in controls if row.quantity == quantity):
            rows.append((quantity, panel, row.subject, row.subject.replace("_", " "), True, row.kind, row.value))
        for rung in manifest.rungs:
            estimate = estimates[rung.name, quantity]
            rows.append((quantity, panel, rung.name, rung.title, False, estimate.kind, estimate.value))
    names = ["quantity", "panel", "name", "title", "is_control", "kind", "value"]
    return pd.DataFrame(rows, columns=names).astype({"value": object})


def controls_figure(frame: pd.DataFrame) -> go.Figure:
    """Where the rungs stand between the floor and what no training gives. Logarithmic; what is not above 0 is told."""
    panels = list(dict.fromkeys(frame["quantity"]))
    controls = [name for name in dict.fromkeys(frame[frame["is_control"]]["title"])]
    figure = make_subplots(
        rows=1, cols=len(panels), shared_yaxes=True, horizontal_spacing=0.04,
        subplot_titles=[f"{frame[frame['quantity'] == name]['panel'].iloc[0]} (log scale)" for name in panels],
    )  # fmt: skip
    for index, name in enumerate(panels, start=1):
        rows = [row for row in frame[frame["quantity"] == name].itertuples() if _is_number(row.value)]
        for chosen, color, symbol in (
            ([row for row in rows if row.is_control], ORANGE, "diamond"),
            ([row for row in rows if not row.is_control], BLUE, "circle"),
        ):
            above = [row for row in chosen if row.value > 0]
            figure.add_trace(
                go.Scatter(
                    x=[row.value for row in above],
                    y=[label(row.title) if row.is_control else "the rungs" for row in above],
                    mode="markers", marker={"size": 10, "color": color, "symbol": symbol, "opacity": 0.8},
                    hovertext=[f"{html.escape(row.title)}: {number(row.value)}" for row in above], hoverinfo="text",
                ),
                row=1, col=index,
            )  # fmt: skip
            for row in (row for row in chosen if row.value <= 0):
                figure.add_annotation(
                    xref="x domain" if index == 1 else f"x{index} domain", yref="y", x=0.01, xanchor="left",
                    y=label(row.title) if row.is_control else "the rungs", showarrow=False,
                    text=f"{number(row.value)} (not above 0)", font={"size": 10.5, "color": color},
                )  # fmt: skip
    order = [label(name) for name in controls]
    order.insert(1, "the rungs")
    figure.update_xaxes(type="log", nticks=5)
    figure.update_yaxes(categoryorder="array", categoryarray=order[::-1], range=[-0.6, len(order) - 0.4])
    figure.update_layout(height=90 + 36 * len(order), margin={"l": 10, "r": 10, "t": 34, "b": 30}, showlegend=False)
    return figure


def label(title: str) -> str:
    return wrapped(title, 27)


def wrapped(text: str, width: int) -> str:
    return "<br>".join(html.escape(line) for line in textwrap.wrap(text, width)) or " "


def _interval(estimate: Estimate, spread: str) -> tuple[float | None, float | None]:
    if spread == "seeds" and len(estimate.values) > 1:
        return estimate.seed_range
    return (estimate.low, estimate.high) if spread == "instrument" else (None, None)


def _hover(row: object) -> str:
    value, unit, title, kind, against = row.value, row.unit, row.title, row.kind, row.change  # type: ignore[attr-defined]
    told = f"<br>{change(against)} against the rung it changes" if _is_number(against) else ""
    return f"{html.escape(title)}<br>{number(value, unit)} ({kind}){told}"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
