"""What the figures share: colours, labels, rows of a frame.

The colours are near Okabe and Ito's, which colour-blind readers can tell apart, and readable on light and on dark;
shapes say the same. Text and grid colours come from the page's light or dark template.
"""

import html
import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd
import plotly.graph_objects as go

BLUE, ORANGE, GREY, PURPLE, RED, GREEN = "#2f86c1", "#d9730d", "#8a8f98", "#b8689c", "#cc3d3d", "#2a9d78"
INK_GREY = "#6c727c"  # for a line that stands out among grey ones


def see_through(color: str, opacity: float) -> str:
    """`#2f86c1` as `rgba(47, 134, 193, 0.4)`."""
    red, green, blue = (int(color[at : at + 2], 16) for at in (1, 3, 5))
    return f"rgba({red}, {green}, {blue}, {opacity})"


def rows_of(frame: pd.DataFrame) -> list[Any]:
    """The rows as named tuples, for drawing."""
    return list(frame.itertuples(index=False))


def headed(figure: go.Figure) -> go.Figure:
    """The figure with its panels' headings in the size of the page's text."""
    for annotation in figure.layout.annotations:
        if annotation.font.size == 16:  # plotly's own size of a subplot's title, which no template changes
            annotation.font.size = 12.5
    return figure


def on_a_phone(figure: go.Figure, narrow: go.Figure, *, height: float) -> go.Figure:
    """The figure, which where there is little width has its panels, titles and ticks as those of `narrow` lie: as many
    panels, of the same order, in fewer columns."""
    axes = (name for name in narrow.layout.to_plotly_json() if name.startswith(("xaxis", "yaxis")))
    layout: dict[str, Any] = {name: _placed(narrow.layout[name]) for name in axes if name in figure.layout}
    titles = [{"text": each.text, "x": each.x, "y": each.y} for each in narrow.layout.annotations]
    figure.update_layout(meta={"narrow": layout | {"height": height, "titles": titles}})
    return figure


def _placed(axis: Any) -> dict[str, Any]:
    shown = axis.showticklabels is not False
    return {"domain": list(axis.domain), "showticklabels": shown, "title": {"text": axis.title.text or ""}}


def label_of(title: str, mark: str = "") -> str:
    """A subject's title, and below it, small, what has to be known before its values are read."""
    return wrapped(title, 27) + (f"<br><i><sup>{html.escape(mark)}</sup></i>" if mark else "")


def wrapped(text: str, width: int) -> str:
    """The text on lines of at most `width` characters, escaped for plotly, which reads some HTML."""
    return "<br>".join(html.escape(line) for line in textwrap.wrap(text, width)) or " "


def is_number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


LINEAR_PART = 1 / math.log(10)
"""Of a symmetric logarithmic axis, in decades: how long 0 to the threshold is, so that it bends nowhere."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Axis:
    """A range with room for labels around the points.

    linear
    log     all values are above 0
    symlog  logarithmic beyond the threshold on either side of 0, linear between: for values that may be 0 or below
    """

    low: float  # these two in the axis' own units: exponents of 10 where it is logarithmic
    high: float
    scale: Literal["linear", "log", "symlog"] = "linear"
    threshold: float = 0.0  # of a symlog axis

    def drawn(self, value: float) -> float:
        """What plotly is given for a value: it knows linear and logarithmic axes alone."""
        return symlog(value, self.threshold) if self.scale == "symlog" else value

    def share(self, value: float) -> float:
        """Where a value lies on the axis: 0 at its beginning, 1 at its end."""
        return (self._own(value) - self.low) / (self.high - self.low)

    @property
    def ends(self) -> tuple[float, float]:
        """Its ends as plotly is given them."""
        return (10**self.low, 10**self.high) if self.scale == "log" else (self.low, self.high)

    @property
    def note(self) -> str:
        """What has to be said beside the axis' title."""
        if self.scale == "symlog":
            return f", log above {self.threshold:g}, linear below"
        return ", log scale" if self.scale == "log" else ""

    @property
    def layout(self) -> dict[str, object]:
        if self.scale == "linear":
            return {"range": [self.low, self.high], "type": "linear", "nticks": 7} | self._prefixed
        ticks = [tick for tick in self._ticks() if self.low <= self._own(tick) <= self.high]
        kind = "log" if self.scale == "log" else "linear"
        texts = [tick_text(tick) for tick in ticks]
        places = [self.drawn(tick) for tick in ticks]
        return {"range": [self.low, self.high], "type": kind, "tickvals": places, "ticktext": texts}

    def _own(self, value: float) -> float:
        return math.log10(value) if self.scale == "log" else self.drawn(value)

    @property
    def _prefixed(self) -> dict[str, object]:
        """Thousands and millions with their prefix, fractions plainly."""
        return {"tickformat": "~s"} if max(abs(self.low), abs(self.high)) >= 1000 else {}

    def _ticks(self) -> list[float]:
        if self.scale == "log":
            return log_ticks([10**self.low, 10**self.high])
        ends = (_symlog_value(end, self.threshold) for end in (self.low, self.high))
        below, above = (abs(end) if sign * end > 0 else 0.0 for sign, end in zip((-1, 1), ends, strict=True))
        sides = [(side, sign) for side, sign in ((below, -1), (above, 1)) if side > 0]
        beyond = [
            sign * tick for side, sign in sides for tick in log_ticks([self.threshold, max(side, self.threshold)])
            if tick >= self.threshold * (1 - 1e-9)
        ]  # fmt: skip
        return sorted({0.0, *beyond})


def symlog(value: float, threshold: float) -> float:
    """`value` in decades beyond the threshold, on either side of a linear part about 0."""
    if abs(value) <= threshold:
        return LINEAR_PART * value / threshold
    return math.copysign(LINEAR_PART + math.log10(abs(value) / threshold), value)


def _symlog_value(drawn: float, threshold: float) -> float:
    """What `symlog` draws there."""
    if abs(drawn) <= LINEAR_PART:
        return drawn / LINEAR_PART * threshold
    return math.copysign(threshold * 10 ** (abs(drawn) - LINEAR_PART), drawn)


def log_ticks(values: Sequence[float]) -> list[float]:
    """1, 2, 5, 10, ... over the range of the values that are above 0; more or fewer where it is short or long."""
    above = [value for value in values if value > 0]
    if not above:
        return [1.0]
    first, last = math.log10(min(above)), math.log10(max(above))
    span = last - first
    if 0 < span < 0.3:
        return _even_ticks(min(above), max(above))
    steps = (1,) if span > 4 else (1, 2, 5) if span > 1.3 else (1, 1.5, 2, 3, 4, 5, 6, 8)
    decades = range(math.floor(first), math.ceil(last) + 1)
    return [float(f"{step}e{decade}") for decade in decades for step in steps]


def _even_ticks(low: float, high: float) -> list[float]:
    """Round numbers at one distance, four to nine of them."""
    decade = math.floor(math.log10((high - low) / 5))
    step = next(float(f"{each}e{decade}") for each in (1, 2, 5, 10) if each * 10.0**decade * 8 >= high - low)
    ticks = range(math.ceil(low / step), math.floor(high / step) + 1)
    return [float(f"{tick * step:.12g}") for tick in ticks]


def tick_text(value: float) -> str:
    """`0.02`, `5`, `200`, `1.5k`, `20M`: the letters are those of plotly's own ticks."""
    for size, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{prefix}"
    return f"{value:g}"


def is_logarithmic(values: Sequence[float]) -> bool:
    """Whether the values span more than a decade and all are above 0."""
    return bool(values) and min(values) > 0 and max(values) > 10 * min(values)


def axis_of(values: Sequence[float], room: float = 0.16, factor: float = 10) -> Axis:
    """The axis of at least one value, logarithmic where they span more than the factor above 0; `room` is the share of
    their span that is left free on either side."""
    log = min(values) > 0 and max(values) > factor * min(values)
    return _with_room(values, room, "log" if log else "linear")


def quality_axis(marks: Sequence[float], values: Sequence[float], *, more_is_better: bool, room: float = 0.1) -> Axis:
    """The axis of a score. `marks` are the scores themselves, `values` all that is drawn: intervals and controls too.

    Less is better: logarithmic, so that halving it is as long everywhere. Where something drawn is 0 or below, or far
    below every score, so that a logarithmic axis would spend itself there, it is linear below about the least score.
    """
    if more_is_better:
        return axis_of(values, room)
    above = [mark for mark in marks if mark > 0]
    if not above:
        return _with_room(values, room, "linear")
    if min(values) > 0 and min(values) >= min(above) / 10:
        return _with_room(values, room, "log")
    return _with_room(values, room, "symlog", _step_below(max(min(above), max(above) / 1000)))


def _step_below(value: float) -> float:
    """The greatest of 1, 2, 5, 10, ... that is not above a value above 0."""
    decade = math.floor(math.log10(value))
    return max(float(f"{step}e{at}") for at in (decade - 1, decade) for step in (1, 2, 5) if step * 10.0**at <= value)


def _with_room(
    values: Sequence[float], room: float, scale: Literal["linear", "log", "symlog"], threshold: float = 0.0
) -> Axis:
    drawn = [
        math.log10(value) if scale == "log" else symlog(value, threshold) if scale == "symlog" else value
        for value in values
    ]
    span = (max(drawn) - min(drawn)) or abs(max(drawn)) or 1.0
    return Axis(low=min(drawn) - room * span, high=max(drawn) + room * span, scale=scale, threshold=threshold)


SIDES = {"middle right": (1, 0), "top center": (0, 1), "bottom center": (0, -1), "middle left": (-1, 0),
         "top right": (1, 1), "bottom right": (1, -1), "top left": (-1, 1), "bottom left": (-1, -1)}  # fmt: skip
"""plotly's positions of a text beside its mark, and the way it lies: right and up are 1."""
LETTER_PX, LINE_PX, MARK_PX = 5.9, 14.0, 7.0
"""Of a text of 10.5 px: its letters' mean width and its height; half a mark."""
CROWDED = 0.2
Box = tuple[float, float, float, float]  # left, right, low, high


def place_labels(
    marks: Sequence[tuple[float, float]],
    texts: Sequence[tuple[str, str]],
    width: float,
    height: float,
    taken: Sequence[Box] = (),
) -> list[tuple[str, str]]:
    """For each mark the text beside it and its side, so that few lie over another text, a mark or the border.

    `marks` are in px from the lower left of a panel of `width` x `height`, and so is what is `taken` by other things
    there. `texts` are a long and a short one for each mark, whose lines `<br>` ends; the short one, which may be empty,
    is written where the long one would cover more than `CROWDED` of itself. They are placed one after the other.
    """
    boxes: list[Box] = [*taken, *((x - MARK_PX, x + MARK_PX, y - MARK_PX, y + MARK_PX) for x, y in marks)]
    placed = []
    for mark, (long, short) in zip(marks, texts, strict=True):
        side, covered = _best_side(mark, long, boxes, width, height)
        text = long
        if covered > CROWDED:
            text, side = short, _best_side(mark, short, boxes, width, height)[0]
        placed.append((text, side))
        if text:
            boxes.append(_text_box(mark, text, SIDES[side]))
    return placed


def _best_side(
    mark: tuple[float, float], text: str, taken: Sequence[Box], width: float, height: float
) -> tuple[str, float]:
    """The first side where the text covers least, and which share of itself that is."""
    if not text:
        return next(iter(SIDES)), 0.0
    boxes = {side: _text_box(mark, text, way) for side, way in SIDES.items()}
    covered = {side: _covered(box, taken, width, height) for side, box in boxes.items()}
    side = min(SIDES, key=covered.__getitem__)
    left, right, low, high = boxes[side]
    return side, covered[side] / ((right - left) * (high - low))


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
