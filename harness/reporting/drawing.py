"""What the figures share: colours, labels, rows of a frame.

The colours are near Okabe and Ito's, which colour-blind readers can tell apart, and readable on light and on dark;
shapes say the same. Text and grid colours come from the page's light or dark template.
"""

import html
import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True, kw_only=True, slots=True)
class Axis:
    """A range with room for labels around the points; logarithmic where they span more than a decade above 0."""

    low: float  # these two in the axis' own units: exponents of 10 where it is logarithmic
    high: float
    log: bool

    def share(self, value: float) -> float:
        """Where a value lies on the axis: 0 at its beginning, 1 at its end."""
        return ((math.log10(value) if self.log else value) - self.low) / (self.high - self.low)

    @property
    def layout(self) -> dict[str, object]:
        if not self.log:
            return {"range": [self.low, self.high], "type": "linear"}
        ticks = log_ticks([10**self.low, 10**self.high])
        return {"range": [self.low, self.high], "type": "log", "tickvals": ticks}


def log_ticks(values: Sequence[float]) -> list[float]:
    """1, 2, 5, 10, ... over the range of the values that are above 0."""
    above = [value for value in values if value > 0]
    if not above:
        return [1.0]
    decades = range(math.floor(math.log10(min(above))), math.ceil(math.log10(max(above))) + 1)
    return [float(f"{step}e{decade}") for decade in decades for step in (1, 2, 5)]


def is_logarithmic(values: Sequence[float]) -> bool:
    """Whether the values span more than a decade and all are above 0."""
    return bool(values) and min(values) > 0 and max(values) > 10 * min(values)


def axis_of(values: Sequence[float], room: float = 0.16) -> Axis:
    """The axis of at least one value; `room` is the share of their span that is left free on either side."""
    log = is_logarithmic(values)
    drawn = [math.log10(value) if log else value for value in values]
    span = (max(drawn) - min(drawn)) or abs(max(drawn)) or 1.0
    return Axis(low=min(drawn) - room * span, high=max(drawn) + room * span, log=log)


SIDES = {"middle right": (1, 0), "top center": (0, 1), "bottom center": (0, -1), "middle left": (-1, 0),
         "top right": (1, 1), "bottom right": (1, -1), "top left": (-1, 1), "bottom left": (-1, -1)}  # fmt: skip
"""plotly's positions of a text beside its mark, and the way it lies: right and up are 1."""
LETTER_PX, LINE_PX, MARK_PX = 5.9, 14.0, 7.0
"""Of a text of 10.5 px: its letters' mean width and its height; half a mark."""
Box = tuple[float, float, float, float]  # left, right, low, high


def label_sides(
    marks: Sequence[tuple[float, float]], texts: Sequence[str], width: float, height: float, bars: Sequence[Box] = ()
) -> list[str]:
    """The side of its mark on which each text stands, so that few lie over another text, a mark or the border.

    `marks` are in px from the lower left of a panel of `width` x `height`, and so are `bars`, what else is drawn there.
    Texts, whose lines `<br>` ends, are placed one after the other, each on the first side where it covers least.
    """
    taken: list[Box] = [*bars, *((x - MARK_PX, x + MARK_PX, y - MARK_PX, y + MARK_PX) for x, y in marks)]
    sides = []
    for mark, text in zip(marks, texts, strict=True):
        boxes = {side: _text_box(mark, text, way) for side, way in SIDES.items()}
        side = min(SIDES, key=lambda side: _covered(boxes[side], taken, width, height)) if text else next(iter(SIDES))
        sides.append(side)
        if text:
            taken.append(boxes[side])
    return sides


def _text_box(mark: tuple[float, float], text: str, way: tuple[int, int]) -> Box:
    lines = text.split("<br>")
    (x, y), (right, up) = mark, way
    half, tall = max(map(len, lines)) * LETTER_PX / 2, len(lines) * LINE_PX / 2
    x, y = x + right * (half + MARK_PX), y + up * (tall + MARK_PX)
    return x - half, x + half, y - tall, y + tall


def _covered(box: Box, taken: Sequence[Box], width: float, height: float) -> float:
    """Area in px^2 of what the box lies over, and ten times what of it is outside the panel."""
    inside = _overlap(box, (0, width, 0, height))
    outside = (box[1] - box[0]) * (box[3] - box[2]) - inside
    return sum(_overlap(box, other) for other in taken) + 10 * outside


def _overlap(one: Box, other: Box) -> float:
    wide, tall = min(one[1], other[1]) - max(one[0], other[0]), min(one[3], other[3]) - max(one[2], other[2])
    return max(wide, 0.0) * max(tall, 0.0)
