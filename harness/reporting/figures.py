"""Loss curves and controls, drawn from data frames alone."""

import html
import math
from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from harness.records.manifest import Manifest, Rung
from harness.reporting.definition import ReportDefinition
from harness.reporting.drawing import BLUE, GREY, INK_GREY, ORANGE, headed, is_number, rows_of, rung_label, wrapped
from harness.reporting.format import number
from harness.reporting.frames import Estimates, Reading
from harness.reporting.standing import Standing


def curves_figure(
    frame: pd.DataFrame, manifest: Manifest, definition: ReportDefinition, standing: Standing
) -> go.Figure:
    """Training and validation loss: a panel per rung, a line per seed; the other rungs' validation in grey behind."""
    columns = min(4, len(manifest.rungs))
    rows = math.ceil(len(manifest.rungs) / columns)
    figure = make_subplots(
        rows=rows, cols=columns, shared_xaxes=True, shared_yaxes=True, horizontal_spacing=0.02,
        vertical_spacing=0.3 / rows, subplot_titles=[_panel_title(rung, standing) for rung in manifest.rungs],
    )  # fmt: skip
    validation = frame[frame["name"] == definition.validation_curve]
    for index, rung in enumerate(manifest.rungs):
        place = {"row": index // columns + 1, "col": index % columns + 1}
        for (other, _), line in validation[validation["rung"] != rung.name].groupby(["rung", "seed"]):
            _line(figure, line, f"validation, {other}", {"color": GREY, "width": 0.7}, 0.35, place)
        for name, color, width, opacity in (
            (definition.train_curve, BLUE, 1.0, 0.55),
            (definition.validation_curve, INK_GREY if rung.name in standing.beaten else ORANGE, 2.0, 1.0),
        ):
            chosen = frame[(frame["rung"] == rung.name) & (frame["name"] == name)]
            for seed, line in chosen.groupby("seed"):
                style = {"color": color, "width": width, "dash": "solid"}
                _line(figure, line, f"{name}, seed {seed}", style, opacity, place)
    figure.update_yaxes(type="log", nticks=6)
    figure.update_xaxes(title={"text": "step", "standoff": 4}, row=rows)
    figure.update_layout(height=60 + 210 * rows, margin={"l": 46, "r": 10, "t": 44, "b": 44}, showlegend=False)
    return headed(figure)


def _panel_title(rung: Rung, standing: Standing) -> str:
    mark = ", ".join(short for short, _ in standing.marks(rung.name))
    return wrapped(rung.title, 34) + (f"<br><i><sup>{html.escape(mark)}</sup></i>" if mark else "")


def _line(
    figure: go.Figure, line: pd.DataFrame, name: str, style: dict[str, object], opacity: float, place: dict[str, int]
) -> None:
    line = line.sort_values("step")
    background = style["color"] == GREY
    mode = "lines" if len(line) > 1 else "markers"  # one point has no line
    figure.add_trace(
        go.Scatter(
            x=line["step"].tolist(), y=line["value"].tolist(), mode=mode, name=html.escape(name), line=style,
            opacity=opacity, hoverinfo="skip" if background else "x+y+name",
        ),
        **place,
    )  # fmt: skip


def log_ticks(values: Iterable[Any]) -> list[float]:
    """1, 2, 5, 10, ... over the range of the values that are above 0."""
    above = [value for value in values if is_number(value) and value > 0]
    if not above:
        return [1.0]
    decades = range(math.floor(math.log10(min(above))), math.ceil(math.log10(max(above))) + 1)
    return [float(f"{step}e{decade}") for decade in decades for step in (1, 2, 5)]


def controls_frame(
    manifest: Manifest,
    definition: ReportDefinition,
    controls: Sequence[Reading],
    estimates: Estimates,
    standing: Standing,
) -> pd.DataFrame:
    """Controls and rungs on one scale: columns quantity, panel, name, title, is_control, beaten, kind, value."""
    rows: list[tuple[Any, ...]] = []
    for quantity in definition.control_quantities:
        panel = definition.column(quantity).title
        rows += [
            (quantity, panel, row.subject, row.subject.replace("_", " "), True, False, row.kind, row.value)
            for row in controls
            if row.quantity == quantity
        ]
        for rung in manifest.rungs:
            estimate = estimates[rung.name, quantity]
            beaten = rung.name in standing.beaten
            rows.append((quantity, panel, rung.name, rung.title, False, beaten, estimate.kind, estimate.value))
    names = ["quantity", "panel", "name", "title", "is_control", "beaten", "kind", "value"]
    return pd.DataFrame(rows, columns=names).astype({"value": object})


def controls_figure(frame: pd.DataFrame) -> go.Figure:
    """Where the rungs stand between the floor and what no training gives. Logarithmic; what is not above 0 is told."""
    panels = list(dict.fromkeys(frame["quantity"]))
    controls = list(dict.fromkeys(frame[frame["is_control"]]["title"]))
    figure = make_subplots(
        rows=1, cols=len(panels), shared_yaxes=True, horizontal_spacing=0.04,
        subplot_titles=[f"{frame[frame['quantity'] == name]['panel'].iloc[0]} (log scale)" for name in panels],
    )  # fmt: skip
    for index, name in enumerate(panels, start=1):
        rows = [row for row in rows_of(frame[frame["quantity"] == name]) if is_number(row.value)]
        for chosen, color, symbol in (
            ([row for row in rows if row.is_control], ORANGE, "diamond"),
            ([row for row in rows if not row.is_control and not row.beaten], BLUE, "circle"),
            ([row for row in rows if row.beaten], GREY, "circle-open"),
        ):
            above = [row for row in chosen if row.value > 0]
            figure.add_trace(
                go.Scatter(
                    x=[row.value for row in above],
                    y=[rung_label(row.title) if row.is_control else "the rungs" for row in above],
                    mode="markers", marker={"size": 10, "color": color, "symbol": symbol, "opacity": 0.8},
                    hovertext=[f"{html.escape(row.title)}: {number(row.value)}" for row in above], hoverinfo="text",
                ),
                row=1, col=index,
            )  # fmt: skip
            for row in (row for row in chosen if row.value <= 0):
                figure.add_annotation(
                    xref="x domain" if index == 1 else f"x{index} domain", yref="y", x=0.01, xanchor="left",
                    y=rung_label(row.title) if row.is_control else "the rungs", showarrow=False,
                    text=f"{number(row.value)} (not above 0)", font={"size": 10.5, "color": color},
                )  # fmt: skip
    order = [rung_label(name) for name in controls]
    order.insert(1, "the rungs")
    for index, name in enumerate(panels, start=1):
        ticks = log_ticks(frame[frame["quantity"] == name]["value"])
        figure.update_xaxes(type="log", tickvals=ticks, ticktext=[f"{tick:g}" for tick in ticks], col=index)
    figure.update_yaxes(categoryorder="array", categoryarray=order[::-1], range=[-0.6, len(order) - 0.4])
    figure.update_layout(height=90 + 36 * len(order), margin={"l": 10, "r": 10, "t": 34, "b": 30}, showlegend=False)
    return headed(figure)
