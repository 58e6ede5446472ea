"""One network's scores over guidance and steps: which is the best, how far the others are from it, the picture; and
which stored scores are one such sweep of what a page is about.

`harness evaluate KEY --guidance ... --steps ...` stores a Measurement a point, whose settings say which network, how it
was sampled, and how and against which data it was scored. A pipeline has the digest of its files in the place of a
trial's key; pictures at hand have none, so that no page takes theirs for a network's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from harness.measure.statistics import sampling_difference
from harness.records.better import best_place
from harness.records.plain import canonical_json
from harness.records.quantity import Measured, Quantity
from harness.records.record import Measurement
from harness.reporting.drawing import BLUE, GREY, ORANGE, PURPLE, RED

COLOURS = (BLUE, ORANGE, PURPLE, RED, GREY)
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x")
VARIED = ("guidance_scale", "steps")
SHARED = ("sampling", "quality", "data", "average")
PACKAGE = "package"
"""Of the settings of a score by a Core ML package: the package's hash. It is no score of the network itself."""
ONLY_GUIDED = ("guidance_interval", "legacy_guided_channels")
"""Settings of sampling that a scale without guidance does not have."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ScorePoint:
    """What the samples of one guidance scale and number of solver steps score."""

    guidance: float  # 1 is none
    steps: int
    span: float | None = None  # of the average of the weights, where it is not the training's own
    scores: Mapping[str, Quantity]  # by name: kid, fd, ...


def best_of(points: Sequence[ScorePoint], score: str) -> ScorePoint | None:
    """The point with the best value of a score; None where none has a value. Chosen from many by the scores that are
    shown, so its own score is flattered: a fresh sampling seed tells what it is worth."""
    place = best_place([point.scores[score] for point in points], score)
    return None if place is None else points[place]


def less_the_best(points: Sequence[ScorePoint], score: str) -> list[tuple[float, float] | None]:
    """Of each point, the 95% interval of its score less the best one's: both are of the same noise and classes, so that
    the difference is known better than either. None for the best itself, and where it has none."""
    best = best_of(points, score)
    if best is None:
        return [None] * len(points)
    return [None if point is best else _difference(point.scores[score], best.scores[score]) for point in points]


def _difference(one: Quantity, other: Quantity) -> tuple[float, float] | None:
    if not (isinstance(one, Measured) and isinstance(other, Measured) and one.replicates and other.replicates):
        return None
    interval = sampling_difference(one, other)
    return interval.low, interval.high


def score_label(points: Sequence[ScorePoint], score: str) -> str:
    """What the score is called: `KID-EffLite0@64, N=512`."""
    measured = (quantity for point in points if isinstance(quantity := point.scores[score], Measured))
    return next((str(each.conditions["label"]) for each in measured if "label" in each.conditions), score)


def best_note(points: Sequence[ScorePoint], score: str) -> str:
    """Which is the best of how many: a reader must know what it was chosen from."""
    best = best_of(points, score)
    if best is None:
        return f"no point has a {score}"
    flattered = ", flattered by the choice" if len(points) > 1 else ""
    average = "" if best.span is None else f", average of span {best.span:g}"
    return f"best of {len(points)} tried: guidance {best.guidance:g}, {best.steps} steps{average}{flattered}"


def score_sweep_figure(points: Sequence[ScorePoint], score: str, *, title: str) -> go.Figure:
    """A page's picture of its own: a line a number of steps over the guidance scale, the best marked. Of averages of
    several spans: over the span, a line a number of steps and a guidance scale."""
    figure, over_span = go.Figure(), len({point.span for point in points}) > 1
    for trace in _span_traces(points, score) if over_span else score_traces(points, score):
        figure.add_trace(trace)
    best = best_of(points, score)
    if best is not None and isinstance(chosen := best.scores[score], Measured):
        figure.add_annotation(
            x=best.span if over_span else best.guidance, y=chosen.value, text="best", showarrow=True, arrowhead=0,
            arrowcolor=GREY, ax=0, ay=48, font={"size": 12},
        )  # fmt: skip
    figure.update_layout(
        title={"text": f"{title}<br>{best_note(points, score)}", "font": {"size": 15}},
        xaxis_title="span of the average, a share of the training" if over_span else "guidance scale (1 is none)",
        yaxis_title=score_label(points, score),
        template="plotly_white",
        legend_title_text="solver steps, guidance" if over_span else "solver steps",
        height=520,
    )
    return figure


def score_traces(points: Sequence[ScorePoint], score: str, every: Sequence[int] = ()) -> list[go.Scatter]:
    """A line a number of steps, each score with its interval; scores that there are not, are not drawn.

    `every` are the numbers of steps in order that have a colour of their own, where several pictures share them.
    """
    order = list(every) or sorted({point.steps for point in points})
    lines: dict[int, list[tuple[float, Measured]]] = {}
    for point in sorted(points, key=lambda each: (each.steps, each.guidance)):
        line = lines.setdefault(point.steps, [])
        if isinstance(quantity := point.scores[score], Measured):
            line.append((point.guidance, quantity))
    return [_line(str(steps), line, order.index(steps)) for steps, line in lines.items()]


def _span_traces(points: Sequence[ScorePoint], score: str) -> list[go.Scatter]:
    lines: dict[tuple[int, float], list[tuple[float, Measured]]] = {}
    for point in sorted(points, key=lambda each: (each.steps, each.guidance, each.span or 0)):
        line = lines.setdefault((point.steps, point.guidance), [])
        if point.span is not None and isinstance(quantity := point.scores[score], Measured):
            line.append((point.span, quantity))
    return [_line(f"{steps}, {scale:g}", line, at) for at, ((steps, scale), line) in enumerate(lines.items())]


def _line(name: str, points: Sequence[tuple[float, Measured]], number: int) -> go.Scatter:
    values = [score.value for _, score in points]
    above = [0.0 if score.high is None else score.high - score.value for _, score in points]
    below = [0.0 if score.low is None else score.value - score.low for _, score in points]
    return go.Scatter(
        x=[place for place, _ in points],
        y=values,
        name=name,
        mode="lines+markers",
        line={"color": COLOURS[number % len(COLOURS)], "width": 1.5},
        marker={"symbol": SYMBOLS[number % len(SYMBOLS)], "size": 8},
        error_y={"type": "data", "array": above, "arrayminus": below, "thickness": 1, "width": 3},
    )


# Which stored scores are one sweep


@dataclass(frozen=True, kw_only=True, slots=True)
class Scored:
    """A trained network, of which scores are stored under its key."""

    name: str  # the subject's, or that of others' weights
    title: str
    seed: int | None  # None for others' weights
    protocol: Mapping[str, Any]  # that it was trained under
    compared: frozenset[str] = frozenset()  # paths of it that the study varies, `recipe.learning_rate`


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoreSweep:
    """The stored scores of one trained network that differ in guidance and steps alone."""

    of: Scored
    measurements: tuple[Measurement, ...]  # by steps, then by guidance

    @property
    def title(self) -> str:
        """The network's, and which average of its weights it is, where that is not the training's own."""
        return self.of.title if self.span is None else f"{self.of.title}, average of span {self.span:g}"

    @property
    def span(self) -> float | None:
        average = self.measurements[0].settings.get("average")
        return None if average is None else float(average["span"])

    @property
    def points(self) -> list[ScorePoint]:
        return [
            ScorePoint(
                guidance=sampling["guidance_scale"], steps=sampling["steps"], span=self.span, scores=each.quantities
            )
            for each in self.measurements
            for sampling in [each.settings["sampling"]]
        ]

    @property
    def places(self) -> list[tuple[int, float]]:
        """(steps, guidance scale) of each point."""
        return [_place(each) for each in self.measurements]

    @property
    def shared(self) -> str:
        """What all of its points have in common, but which network they are of, as a text."""
        settings = self.measurements[-1].settings
        return _fixed_of({part: settings[part] for part in SHARED if part in settings})

    @property
    def conditions(self) -> Mapping[str, Any]:
        """What all of its points have in common."""
        settings = self.measurements[-1].settings
        sampling = {name: value for name, value in settings["sampling"].items() if name not in VARIED}
        average = {} if self.span is None else {"average_span": self.span}
        return {"samples": settings["samples"], **average, **sampling}

    @property
    def scores(self) -> list[str]:
        """The names of those that every point has, or has failed at."""
        first, *others = (each.quantities for each in self.measurements)
        return [name for name in first if all(name in each for each in others)]

    def best(self, score: str) -> Measurement | None:
        """The point that is best by a score; None where none has a value."""
        if score not in self.scores:
            return None
        place = best_place([each.quantities[score] for each in self.measurements], score)
        return None if place is None else self.measurements[place]


def score_sweeps(networks: Mapping[str, Scored], scores: Sequence[Measurement]) -> list[ScoreSweep]:
    """Those of the networks, by their keys and in their order, without their packages'; scores at a single point are
    a sweep of one."""
    alike: dict[tuple[str, str], list[Measurement]] = {}
    for each in (one for one in scores if PACKAGE not in one.settings):
        if (trial := str(each.settings.get("trial", ""))) in networks:
            alike.setdefault((trial, _fixed_of(each.settings)), []).append(each)
    order = list(networks)
    return [
        ScoreSweep(of=networks[key], measurements=tuple(sorted(group, key=_place)))
        for (key, _), several in sorted(alike.items(), key=lambda item: order.index(item[0][0]))
        for group in _with_unguided(several)
    ]


def protocol_of(sweep: ScoreSweep, measurement: Measurement) -> dict[str, Any]:
    """The protocol that the score was made under: its network's training, and how it was sampled and scored."""
    settings = measurement.settings
    return {**sweep.of.protocol, **{part: settings[part] for part in SHARED if part in settings}}


def _fixed_of(settings: Mapping[str, Any]) -> str:
    """What points of one sweep have in common, as a text."""
    sampling = {
        name: value for name, value in settings["sampling"].items() if name not in (*VARIED, *ONLY_GUIDED)
    }  # fmt: skip
    return canonical_json({**settings, "sampling": sampling})


def _with_unguided(measurements: Sequence[Measurement]) -> list[list[Measurement]]:
    """A sweep for each way of guiding that there is; points without guidance belong to all of them."""
    unguided = [each for each in measurements if each.settings["sampling"]["guidance_scale"] == 1]
    ways: dict[str, list[Measurement]] = {}
    for each in measurements:
        if each not in unguided:
            sampling = each.settings["sampling"]
            ways.setdefault(canonical_json({name: sampling.get(name) for name in ONLY_GUIDED}), []).append(each)
    return [[*unguided, *guided] for guided in ways.values()] or [unguided]


def _place(measurement: Measurement) -> tuple[int, float]:
    sampling = measurement.settings["sampling"]
    return sampling["steps"], sampling["guidance_scale"]
