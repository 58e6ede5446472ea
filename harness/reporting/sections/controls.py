"""What the scores mean: between real images and what needs no network, and how far above the latter."""

import html
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from harness.records.quantities import is_relative
from harness.reporting.cells import Text, heads, names_of, reading_text, value_text
from harness.reporting.definition import Column
from harness.reporting.drawing import BLUE, GREY, ORANGE, headed, is_number, label_of, log_ticks, on_a_phone, rows_of
from harness.reporting.format import number, several, signed
from harness.reporting.section import Content, Frames, Section

FLOOR = "floor"
"""The control that real images are."""
TEMPLATE = """
{% from "macros.html.j2" import piece, drawing %}
<p>What the numbers mean: {% if has_floor %}between the floor, which real images reach, and{% else %}beside{% endif
%} what needs no network at all.{% if has_margins %} Below a mean stands its distance from each control that has to be
beaten, with the 95% interval over seeds, of this distance alone.{% endif %}</p>
{% if height is defined %}
{{ drawing("controls", height, alt, fits=true) }}
{% endif %}
<div class="wide"><table class="controls cards">
<thead><tr><th scope="col">Images from</th>
{% for column in columns %}
<th scope="col">{{ column.title }}{% if column.quantity in names %}<small>{{ names[column.quantity] }}</small>{% endif
%}
</th>
{% endfor %}
</tr></thead><tbody>
{% for name, title, cells in controls %}
<tr class="control"><th scope="row"><span class="title">{{ name.replace("_", " ") }}</span>
<span class="name">{{ title }}</span></th>
{% for cell in cells %}<td data-label="{{ columns[loop.index0].title }}">{{ piece(cell) }}</td>{% endfor %}</tr>
{% endfor %}
{% for head, row in rungs %}
<tr{% if head.beaten %} class="beaten"{% endif %}><th scope="row"><span class="number">{{ head.number }}</span>
<span class="title">{{ head.title }}</span>
{% if head.beaten %}<span class="name">beaten {{ head.beaten }}</span>{% endif %}</th>
{% for cell, margins in row %}<td data-label="{{ columns[loop.index0].title }}">{{ piece(cell) }}{% for margin in
margins %} <span class="spread">{{ margin }}</span>{% endfor %}</td>{% endfor %}</tr>
{% endfor %}
</tbody></table></div>
"""


def content(frames: Frames) -> Content | None:
    definition = frames.definition
    columns = [definition.column(quantity) for quantity in definition.control_quantities]
    if not columns:
        return None
    cells: dict[str, list[Text]] = {}
    for row in frames.control_readings:
        cells.setdefault(row.subject, []).append(reading_text(row))
    rungs = [(head, [_beside(frames, name, column) for column in columns]) for name, head in heads(frames).items()]
    context = {
        "columns": columns,
        "names": names_of([*frames.shown, *frames.control_readings]),
        "controls": [(name, definition.controls[name], row) for name, row in cells.items()],
        "rungs": rungs,
        "has_floor": FLOOR in cells,
        "has_margins": any(margins for _, row in rungs for _, margins in row),
    }
    context["alt"] = _alt(frames)
    has_values = any(row.value is not None for row in frames.control_readings)
    return Content(context=context, figure=controls_figure(controls_frame(frames)) if has_values else None)


def _beside(frames: Frames, rung: str, column: Column) -> tuple[Text, list[str]]:
    """The rung's mean, and how far it is from each bar of that score; none without a noise over seeds."""
    shown, noise = value_text(frames.estimates[rung, column.quantity], column), frames.tests.noises.get(column.quantity)
    if noise is None or rung not in noise.groups:
        return shown, []
    mean = noise.contrast({rung: 1.0})
    bars = [(bar.name, bar.value) for bar in frames.checks.bars if bar.quantity == column.quantity]
    return shown, [
        f"{signed(mean.value - bar)} from {name} ({signed(mean.low - bar)} to {signed(mean.high - bar)})"
        for name, bar in bars
        if bar is not None
    ]


def _alt(frames: Frames) -> str:
    """The picture in words."""
    parts = []
    for quantity in frames.definition.control_quantities:
        known = [f"{row.subject.replace('_', ' ')} {number(row.value)}" for row in frames.control_readings
                 if row.quantity == quantity and row.value is not None]  # fmt: skip
        values = [value for one in frames.study.subjects
                  if (value := frames.estimates[one.name, quantity].value) is not None]  # fmt: skip
        rungs = [f"the rungs {several(values)}"] if values else []
        parts.append(f"{frames.definition.column(quantity).title}: {', '.join([*known, *rungs])}")
    return f"Controls and rungs on one scale. {'; '.join(parts)}."


def controls_frame(frames: Frames) -> pd.DataFrame:
    """Controls and rungs on one scale: columns quantity, panel, name, title, is_control, beaten, kind, value."""
    rows: list[tuple[Any, ...]] = []
    for quantity in frames.definition.control_quantities:
        panel = frames.definition.column(quantity).title
        rows += [
            (quantity, panel, row.subject, row.subject.replace("_", " "), True, False, row.kind, row.value)
            for row in frames.control_readings
            if row.quantity == quantity
        ]
        for rung in frames.study.subjects:
            estimate = frames.estimates[rung.name, quantity]
            beaten = rung.name in frames.checks.beaten
            rows.append((quantity, panel, rung.name, rung.title, False, beaten, estimate.kind, estimate.value))
    names = ["quantity", "panel", "name", "title", "is_control", "beaten", "kind", "value"]
    return pd.DataFrame(rows, columns=names).astype({"value": object})


def controls_figure(frame: pd.DataFrame) -> go.Figure:
    """Rungs beside the controls, on a log scale where a score is a ratio; there what is not above 0 is written."""
    panels = list(dict.fromkeys(frame["quantity"]))
    controls = list(dict.fromkeys(frame[frame["is_control"]]["title"]))
    titles = [
        f"{frame[frame['quantity'] == name]['panel'].iloc[0]}{' (log scale)' * is_relative(name)}" for name in panels
    ]
    figure = make_subplots(
        rows=1, cols=len(panels), shared_yaxes=True, horizontal_spacing=0.04, subplot_titles=titles
    )  # fmt: skip
    for index, name in enumerate(panels, start=1):
        rows = [row for row in rows_of(frame[frame["quantity"] == name]) if is_number(row.value)]
        for chosen, color, symbol in (
            ([row for row in rows if row.is_control], ORANGE, "diamond"),
            ([row for row in rows if not row.is_control and not row.beaten], BLUE, "circle"),
            ([row for row in rows if row.beaten], GREY, "circle-open"),
        ):
            above = [row for row in chosen if row.value > 0 or not is_relative(name)]
            figure.add_trace(
                go.Scatter(
                    x=[row.value for row in above],
                    y=[label_of(row.title) if row.is_control else "the rungs" for row in above],
                    mode="markers", marker={"size": 10, "color": color, "symbol": symbol, "opacity": 0.8},
                    hovertext=[f"{html.escape(row.title)}: {number(row.value)}" for row in above], hoverinfo="text",
                ),
                row=1, col=index,
            )  # fmt: skip
            for row in (row for row in chosen if row not in above):
                figure.add_annotation(
                    xref="x domain" if index == 1 else f"x{index} domain", yref="y", x=0.01, xanchor="left",
                    y=label_of(row.title) if row.is_control else "the rungs", showarrow=False,
                    text=f"{number(row.value)} (not above 0)", font={"size": 10.5, "color": color},
                )  # fmt: skip
    order = [label_of(name) for name in controls]
    order.insert(1, "the rungs")
    for index, name in enumerate(panels, start=1):
        if is_relative(name):
            ticks = log_ticks([value for value in frame[frame["quantity"] == name]["value"] if is_number(value)])
            figure.update_xaxes(type="log", tickvals=ticks, ticktext=[f"{tick:g}" for tick in ticks], col=index)
    figure.update_yaxes(categoryorder="array", categoryarray=order[::-1], range=[-0.6, len(order) - 0.4])
    figure.update_layout(height=90 + 36 * len(order), margin={"l": 10, "r": 10, "t": 34, "b": 30}, showlegend=False)
    stacked = make_subplots(rows=len(panels), cols=1, subplot_titles=titles, vertical_spacing=0.3 / len(panels))
    return headed(on_a_phone(figure, stacked, height=len(panels) * (90 + 36 * len(order))))


SECTION = Section(name="controls", title="Controls", template=TEMPLATE, content=content, kinds=("ablation",))
