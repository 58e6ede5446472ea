"""What ships: the scores of the Core ML packages of a page's trials, over their size, by bits a weight.

`harness bits KEY` and `harness evaluate PACKAGE` store them: a Measurement whose settings name the package, and whose
conditions have its bits and bytes. They are scores of other weights than the network's, so that they stand in a picture
of their own, and no front of networks knows them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import plotly.graph_objects as go

from harness.records.quantity import Measured
from harness.records.record import Measurement
from harness.reporting.drawing import BLUE, GREEN, GREY
from harness.reporting.entries import study_networks, sweep_departures
from harness.reporting.format import number
from harness.reporting.score_sweeps import PACKAGE, Scored, ScoreSweep
from harness.reporting.section import Frames
from harness.reporting.trade_off import Amount, Arrow, Look, Measure, Point, trade_off_figure

TITLE = "Size of the Core ML package"
MIXED = "mixed"
LOOKS = {
    "whole": Look(legend="package of 16 bits a weight", marker={"color": BLUE, "symbol": "circle", "size": 11}),
    "uniform": Look(
        legend="palettized, all alike",
        marker={"color": BLUE, "symbol": "circle-open", "size": 11, "line": {"width": 2}},
    ),
    MIXED: Look(
        legend="palettized by a plan of mixed bits",
        marker={"color": GREEN, "symbol": "diamond-open", "size": 12, "line": {"width": 2}},
    ),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Shipped:
    """One package's score."""

    key: str  # of its measurement
    trial: str
    title: str  # the network's
    bits: str
    megabytes: float
    score: Measured

    @property
    def look(self) -> str:
        return MIXED if self.bits == MIXED else "whole" if self.bits == "16" else "uniform"

    @property
    def label(self) -> str:
        return f"{self.title}, {self.bits}{'' if self.bits == MIXED else ' bits'}"


def shipped(frames: Frames, score: str) -> tuple[list[Shipped], int]:
    """Those that were sampled and scored as the page's trials were, by network and size; and how many were not."""
    networks, packages, elsewhere = study_networks(frames), list[Shipped](), 0
    for measurement in frames.scores():
        of = networks.get(str(measurement.settings.get("trial", "")))
        if of is None or PACKAGE not in measurement.settings:
            continue
        one = _shipped(measurement, of, score)
        if one is None or sweep_departures(ScoreSweep(of=of, measurements=(measurement,)), measurement, frames.study):
            elsewhere += 1
        else:
            packages.append(one)
    return sorted(packages, key=lambda each: (list(networks).index(each.trial), -each.megabytes)), elsewhere


def _shipped(measurement: Measurement, of: Scored, score: str) -> Shipped | None:
    """None where it has no such score, or does not say how large it is."""
    quantity = measurement.quantities.get(score)
    if not isinstance(quantity, Measured) or not {"weight_bits", "package_bytes"} <= set(quantity.conditions):
        return None
    return Shipped(
        key=measurement.key,
        trial=str(measurement.settings["trial"]),
        title=of.title,
        bits=str(quantity.conditions["weight_bits"]),
        megabytes=quantity.conditions["package_bytes"] / 1e6,
        score=quantity,
    )


def package_figure(several: Sequence[Shipped], score: Measure) -> go.Figure:
    """A point a package; an arrow from each number of bits to the next fewer of the same network."""
    return trade_off_figure(
        [_point(each) for each in several],
        cost=Measure(title=f"{TITLE} (MB)"),
        score=score,
        looks=LOOKS,
        arrows=list(_arrows(several)),
    )


def _point(each: Shipped) -> Point:
    low, high = each.score.low, each.score.high
    ends = "" if low is None or high is None else f", {number(low)} to {number(high)}"
    lines = (each.label, f"{number(each.score.value)}{ends}", f"{each.megabytes:.3g} MB, by the interpreter in fp16")
    return Point(
        name=each.key,
        label=each.label,
        short=each.bits,
        look=each.look,
        x=Amount(value=each.megabytes),
        y=Amount(value=each.score.value, low=low, high=high),
        hover="\n".join(lines),
    )


def _arrows(several: Sequence[Shipped]) -> Iterable[Arrow]:
    for trial in dict.fromkeys(each.trial for each in several):
        alike = {int(each.bits): each.key for each in several if each.trial == trial and each.bits.isdecimal()}
        order = sorted(alike, reverse=True)
        for more, fewer in pairwise(order):
            yield Arrow(start=alike[more], end=alike[fewer], legend="fewer bits, all alike", color=GREY)
