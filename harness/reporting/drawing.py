"""What the figures share: colours, labels, rows of a frame.

The colours are near Okabe and Ito's, which colour-blind readers can tell apart, and readable on light and on dark;
shapes say the same. Text and grid colours come from the page's light or dark template.
"""

import html
import math
import textwrap
from typing import Any

import pandas as pd
import plotly.graph_objects as go

BLUE, ORANGE, GREY, PURPLE, RED = "#2f86c1", "#d9730d", "#8a8f98", "#b8689c", "#cc3d3d"
INK_GREY = "#6c727c"  # for a line that stands out among grey ones


def rows_of(frame: pd.DataFrame) -> list[Any]:
    """The rows as named tuples, for drawing."""
    return list(frame.itertuples(index=False))


def headed(figure: go.Figure) -> go.Figure:
    """The figure with its panels' headings in the size of the page's text."""
    for annotation in figure.layout.annotations:
        if annotation.font.size == 16:  # plotly's own size of a subplot's title, which no template changes
            annotation.font.size = 12.5
    return figure


def label_of(title: str, mark: str = "") -> str:
    """A subject's title, and below it, small, what has to be known before its values are read."""
    return wrapped(title, 27) + (f"<br><i><sup>{html.escape(mark)}</sup></i>" if mark else "")


def wrapped(text: str, width: int) -> str:
    """The text on lines of at most `width` characters, escaped for plotly, which reads some HTML."""
    return "<br>".join(html.escape(line) for line in textwrap.wrap(text, width)) or " "


def is_number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
