"""The picture of one checkpoint's scores over guidance and steps, as a page that needs nothing else to open."""

from collections.abc import Mapping, Sequence

import plotly.graph_objects as go

from harness.records.quantity import Measured, Quantity
from harness.reporting.drawing import BLUE, GREY, ORANGE, PURPLE, RED

COLOURS = (BLUE, ORANGE, PURPLE, RED, GREY)
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x")


def score_sweep_figure(
    lines: Mapping[int, Sequence[tuple[float, Quantity]]],
    *,
    title: str,
    label: str,
    best: tuple[float, float] | None,
    best_note: str,
) -> go.Figure:
    """A line a number of steps over the guidance scale, each score with its interval; scores that there are not, are
    not drawn. `best` is the (guidance, score) that is marked, with `best_note` beside it."""
    figure = go.Figure()
    for number, (steps, points) in enumerate(sorted(lines.items())):
        drawn = [(scale, score) for scale, score in points if isinstance(score, Measured)]
        figure.add_trace(_line(steps, drawn, COLOURS[number % len(COLOURS)], SYMBOLS[number % len(SYMBOLS)]))
    if best is not None:
        figure.add_annotation(
            x=best[0], y=best[1], text=best_note, showarrow=True, arrowhead=0, arrowcolor=GREY, ax=0, ay=48,
            font={"size": 12},
        )  # fmt: skip
    figure.update_layout(
        title={"text": title, "font": {"size": 15}},
        xaxis_title="guidance scale (1 is none)",
        yaxis_title=label,
        template="plotly_white",
        legend_title_text="solver steps",
        height=520,
    )
    return figure


def _line(steps: int, points: Sequence[tuple[float, Measured]], colour: str, symbol: str) -> go.Scatter:
    values = [score.value for _, score in points]
    above = [0.0 if score.high is None else score.high - score.value for _, score in points]
    below = [0.0 if score.low is None else score.value - score.low for _, score in points]
    return go.Scatter(
        x=[scale for scale, _ in points],
        y=values,
        name=str(steps),
        mode="lines+markers",
        line={"color": colour, "width": 1.5},
        marker={"symbol": symbol, "size": 8},
        error_y={"type": "data", "array": above, "arrayminus": below, "thickness": 1, "width": 3},
    )
