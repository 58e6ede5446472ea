"""The page's score against each cost: who is better for as much. Ours and the printed networks each with a front."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import plotly.graph_objects as go

from harness.records.better import front_of
from harness.records.quantities import more_is_better
from harness.reporting.cells import heads, interval, names_of
from harness.reporting.definition import Column
from harness.reporting.drawing import BLUE, GREEN, GREY, INK_GREY, ORANGE
from harness.reporting.entries import Entry, column_basis, cost_columns, entries, score_column, why_apart
from harness.reporting.format import inside, listed, number
from harness.reporting.packages import TITLE as PACKAGES
from harness.reporting.packages import Shipped, package_figure, shipped
from harness.reporting.section import Content, Frames, Section
from harness.reporting.trade_off import Amount, Arrow, Front, Level, Measure, Point, trade_off_figure

TEMPLATE = """
{% from "macros.html.j2" import drawing %}
{{ drawing("against_cost", height, alt, choices, "Cost") }}
{% if "printed" in drawn %}
<p class="scale">What is printed comes from other trainings, each under its own paper's protocol: it stands beside ours,
and is joined with none of them.</p>
{% elif apart %}
<p class="scale">The printed networks are in the table alone: {{ apart }}, so the two share no axis.</p>
{% endif %}
{% if guided %}<p class="scale">{{ guided }}</p>{% endif %}
{% if packages %}<p class="scale">Size of the Core ML package: {{ packages }}</p>{% endif %}
{% if elsewhere %}<p class="scale">Not drawn, since their scores are not this one: {{ elsewhere }}.</p>{% endif %}
{% if missing %}<p class="scale">Not drawn, without a number on one of the axes: {{ missing }}.</p>{% endif %}
"""
Look = Literal["printed", "other", "beaten", "best", "predicted", "study"]
FLOOR = "floor"
"""The control that is real pictures."""
RANKED: tuple[Look, ...] = ("study", "predicted")
BEST: tuple[Look, ...] = ("best",)
PRINTED: tuple[Look, ...] = ("printed",)
FRONTS: Mapping[tuple[Look, ...], tuple[str, str, str]] = {
    PRINTED: ("front of the printed: no other is better in both", ORANGE, "dot"),
    BEST: ("front of the best points", BLUE, "dash"),
    RANKED: ("front of the means: no other is better in both", BLUE, "dot"),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Mark:
    """One network in one panel."""

    cost: str  # the panel's quantity
    title: str
    look: Look
    x_kind: str  # how its cost is known: counted, measured, predicted, printed
    x: float
    y: float
    x_ends: tuple[float | None, float | None] = (None, None)
    y_ends: tuple[float | None, float | None] = (None, None)
    on_front: bool = False  # of the printed networks, of ours, or of the best points of our sweeps
    rung: str = ""  # of a subject's own scores its name, which arrows go by

    @property
    def label(self) -> str:
        """With the mark of another protocol."""
        return self.title + (" \u2020" if self.look in ("other", "best") else "")


def content(frames: Frames) -> Content | None:
    score, costs = score_column(frames), cost_columns(frames)
    marks = [] if score is None else cost_marks(frames)
    if score is None or not marks:
        return None
    apart, rows = why_apart(frames, score), entries(frames)
    drawn = {(mark.title, mark.look == "printed") for mark in marks}
    elsewhere = [each for each in rows if score.quantity in each.elsewhere]
    expected = [each for each in rows if each not in elsewhere and (not apart or each.source != "printed")]
    beside = "beside" in frames.definition.sections  # the table of printed and own networks
    context = {
        "alt": _alt(marks, score, costs, frames),
        "drawn": {mark.look for mark in marks},
        "apart": apart if beside and frames.published.rows else "",
        "guided": _guided(frames, marks, rows, score) if beside else "",
        "elsewhere": "; ".join(f"{each.title} ({each.elsewhere[score.quantity]})" for each in elsewhere),
        "missing": "; ".join(e.title for e in expected if (e.title, e.source == "printed") not in drawn),
    }
    figures = cost_figures(marks, frames, score)
    packages, otherwise = shipped(frames, score.quantity)
    if packages:
        figures[PACKAGES] = package_figure(packages, _measure(score, frames))
    return Content(context=context | {"packages": _about_packages(packages, otherwise)}, figure=figures)


def _about_packages(packages: Sequence[Shipped], otherwise: int) -> str:
    if not packages:
        return ""
    text = (
        f"{len(packages)} packages of these networks, scored by what their own programs make of the same noise, "
        "rounded to fp16 as they declare it; not run on a phone."
    )
    more = f" {otherwise} more were sampled or scored otherwise, and are not drawn."
    return text + more * bool(otherwise)


def cost_marks(frames: Frames) -> list[Mark]:
    """Every network in every panel where both numbers are known; printed ones only where the score is the same."""
    score, marks = score_column(frames), []
    assert score is not None
    shared, rows = not why_apart(frames, score), entries(frames)
    ranked = swept_alike(rows, score, frames)
    for column in cost_columns(frames):
        others = [each for each in rows if each.source != "printed" and each not in ranked]
        own = [_own(each, column, score, frames) for each in others]
        best = [_own(each, column, score, frames) for each in ranked]
        printed = [_printed(each, column, score, frames) for each in rows if each.source == "printed" and shared]
        for several, looks in ((own, RANKED), (best, BEST), (printed, PRINTED)):
            marks += _with_front([mark for mark in several if mark is not None], looks, score)
    return marks


def swept_alike(rows: Sequence[Entry], score: Column, frames: Frames) -> list[Entry]:
    """The best points that compare: of each of the study's networks one, of the same seed, chosen from the same points;
    empty unless all of the study that no control beats have one, and are two or more."""
    names = [one.name for one in frames.study.subjects if one.name not in frames.checks.beaten]
    alike: dict[tuple[Any, ...], dict[str, Entry]] = {}
    for each in rows:
        if each.source == "best" and each.value(score) is not None and not _otherwise_made(each):
            alike.setdefault(each.sweep, {})[each.name] = each
    whole = (group for group in alike.values() if len(names) > 1 and all(name in group for name in names))
    return next(([group[name] for name in names] for group in whole), [])


def _otherwise_made(entry: Entry) -> bool:
    """Whether its protocol is not the page's in more than how it was sampled."""
    return any(not each.startswith("sampling.") for each in entry.departures)


def _guided(frames: Frames, marks: Sequence[Mark], rows: Sequence[Entry], score: Column) -> str:
    """At which guidance our front is, and whether there is one of best points too."""
    sampling = frames.study.protocol.get("sampling", {})
    if "guidance_scale" not in sampling or not any(mark.look in RANKED for mark in marks):
        return ""
    fixed = (
        f"Our front of trained networks is at one setting for all, guidance {sampling['guidance_scale']:g} and "
        f"{sampling['steps']} steps"
    )
    if ranked := swept_alike(rows, score, frames):
        points = len(ranked[0].sweep[-1])
        return f"{fixed}; the front of best points is of one sweep a network, each over the same {points} points."
    return f"{fixed}, not of best points: not every network has a score sweep over the same points."


def _with_front(marks: Sequence[Mark], looks: Sequence[Look], score: Column) -> list[Mark]:
    """Those that no other beats in score and cost are told so; none where their costs are known in different ways."""
    ranked = [mark for mark in marks if mark.look in looks]
    if len({mark.x_kind for mark in ranked}) != 1:
        return list(marks)
    way = "maximize" if more_is_better(score.quantity) else "minimize"
    front = [ranked[place] for place in front_of([(mark.x, mark.y) for mark in ranked], ("minimize", way))]
    return [replace(mark, on_front=mark in front) for mark in marks]


def _printed(entry: Entry, cost: Column, score: Column, frames: Frames) -> Mark | None:
    x, y = entry.printed.get(cost.published or ""), entry.printed.get(score.published or "")
    if x is None or y is None or x.value is None or y.value is None:
        return None
    place = x.value * frames.published.columns[cost.published or ""].factor
    return Mark(cost=cost.quantity, title=entry.title, look="printed", x_kind="printed", x=place, y=y.value)


def _own(entry: Entry, cost: Column, score: Column, frames: Frames) -> Mark | None:
    x, y, known = entry.value(cost), entry.value(score), entry.estimates.get(cost.quantity)
    if x is None or y is None or known is None:
        return None
    reading = entry.readings.get(score.quantity)
    ends = interval(entry.estimates[score.quantity], score) if reading is None else (reading.low, reading.high)
    if reading is None and ends == (None, None):  # one seed: what its images make of it
        ends = entry.estimates[score.quantity].low, entry.estimates[score.quantity].high
    return Mark(
        cost=cost.quantity, title=entry.title, look=_look(entry, known.kind, frames), x_kind=known.kind, x=x, y=y,
        x_ends=(known.low, known.high), y_ends=ends, rung=entry.name if entry.source == "study" else "",
    )  # fmt: skip


def _look(entry: Entry, x_kind: str, frames: Frames) -> Look:
    if entry.source != "others" and entry.name in frames.checks.beaten:
        return "beaten"
    if entry.source == "best":
        return "best"
    if entry.departures:
        return "other"
    return "predicted" if x_kind == "predicted" else "study"


def cost_figures(marks: Sequence[Mark], frames: Frames, score: Column) -> dict[str, go.Figure]:
    """A picture a cost, by what the cost is called; latency first, beside a twin's the times measured here last."""
    measure, figures = _measure(score, frames), {}
    for column in sorted(cost_columns(frames), key=lambda each: (each in frames.asides, each.spread != "instrument")):
        if chosen := [mark for mark in marks if mark.cost == column.quantity]:
            figures[frames.title(column.quantity)] = trade_off_figure(
                _points(chosen, frames),
                cost=Measure(title=_axis_title(column, {mark.x_kind for mark in chosen}, frames)),
                score=measure,
                arrows=list(_arrows(score, frames)),
                fronts=list(_fronts(chosen)),
                levels=list(_levels(score, frames)),
            )
    return figures


def _measure(score: Column, frames: Frames) -> Measure:
    """What the upright axis of each picture shows."""
    basis = column_basis(entries(frames), score, frames)
    name = (basis.label if basis is not None else "") or names_of(frames.shown).get(score.quantity, score.title)
    return Measure(title=name, more_is_better=more_is_better(score.quantity))


def _points(marks: Sequence[Mark], frames: Frames) -> list[Point]:
    numbers = {name: head.number for name, head in heads(frames).items()}
    return [
        Point(
            name=_name(mark),
            label=" ".join(filter(None, [numbers.get(mark.rung, ""), mark.label])),
            short=numbers.get(mark.rung, ""),
            look=mark.look,
            x=Amount(value=mark.x, low=mark.x_ends[0], high=mark.x_ends[1]),
            y=Amount(value=mark.y, low=mark.y_ends[0], high=mark.y_ends[1]),
            hover=_hover(mark, frames),
            opens=f"rung-{mark.rung}" if mark.rung else "",
        )
        for mark in marks
    ]


def _name(mark: Mark) -> str:
    return mark.rung or f"{mark.look}, {mark.title}"


def _hover(mark: Mark, frames: Frames) -> str:
    cost = f"{frames.title(mark.cost)}: {frames.text(mark.cost, mark.x)} ({mark.x_kind})"
    low, high = mark.x_ends
    if low is not None and high is not None:
        cost += f", {number(float(low))} to {number(float(high))}"
    score = f"{number(mark.y)}"
    low, high = mark.y_ends
    if low is not None and high is not None:
        score += f", {number(float(low))} to {number(float(high))}"
    return f"{mark.label}\n{score}\n{cost}"


def _arrows(score: Column, frames: Frames) -> Iterable[Arrow]:
    """From the rung that each changes; solid where a test tells the two scores apart. A factorial has none: there every
    combination differs from every other."""
    if any(one.levels for one in frames.study.subjects):
        return
    legends = {
        claim.rung
        for claim in frames.claims
        if claim.rule.quantity == score.quantity and (claim.finding.lower or claim.finding.higher)
    }
    for one in frames.study.subjects:
        if one.against is None or {one.name, one.against} & set(frames.checks.beaten):
            continue
        if one.name in legends:
            yield Arrow(start=one.against, end=one.name, legend="a change; its score is told apart", color=INK_GREY)
        else:
            legend = "a change; its score is not told apart"
            yield Arrow(start=one.against, end=one.name, legend=legend, color=GREY, dash="dot")


def _fronts(marks: Sequence[Mark]) -> Iterable[Front]:
    for looks, (legend, color, dash) in FRONTS.items():
        names = [_name(mark) for mark in marks if mark.on_front and mark.look in looks]
        if names:
            yield Front(names=names, legend=legend, color=color, dash=dash)


def _levels(score: Column, frames: Frames) -> Iterable[Level]:
    """What real pictures reach, and the best that needs no training."""
    values = {row.subject: row.value for row in frames.control_readings if row.quantity == score.quantity}
    if (floor := values.get(FLOOR)) is not None:
        yield Level(value=floor, legend="real pictures (the floor)", color=GREEN)
    bars = [bar for bar in frames.checks.bars if bar.quantity == score.quantity and bar.value is not None]
    if bars:
        best = (max if more_is_better(score.quantity) else min)(bars, key=lambda bar: bar.value or 0.0)
        yield Level(value=best.value or 0.0, legend=f"{best.name}: no training")


def _alt(marks: Sequence[Mark], score: Column, costs: Sequence[Column], frames: Frames) -> str:
    """The picture in words."""
    own = list(dict.fromkeys(mark.title for mark in marks if mark.look in RANKED))
    way = "more" if more_is_better(score.quantity) else "less"
    text = f"{score.title} of {len(own)} networks against {listed([inside(column.title) for column in costs], 'or')}; "
    text += f"{way} {score.title} is better, less cost is better."
    ranked = [mark for mark in marks if mark.look in RANKED]
    if ranked:
        best = (max if more_is_better(score.quantity) else min)(ranked, key=lambda mark: mark.y)
        text += f" The best mean is {number(best.y)}, {best.title}."
    for cost in dict.fromkeys(mark.cost for mark in marks):
        front = [mark.title for mark in marks if mark.cost == cost and mark.on_front and mark.look in RANKED]
        if front:
            text += f" On the front of {inside(frames.title(cost))}: {listed(front)}."
    return text


def _axis_title(column: Column, kinds: set[str], frames: Frames) -> str:
    """`Latency on iPhone of the twin (ms, predicted)`; an aside's says that it is of the network trained here."""
    example = frames.examples.get(column.quantity)
    unit = "" if example is None or example.kind == "counted" or example.unit in ("", "1") else example.unit
    how = [kind for kind in ("predicted", "measured") if kind in kinds and column.spread == "instrument"]
    words = ", ".join(filter(None, [unit, " and ".join(how)]))
    whose = " of the network trained here" if column in frames.asides else ""
    return frames.title(column.quantity) + whose + (f" ({words})" if words else "")


SECTION = Section(name="against_cost", title="Score against cost", template=TEMPLATE, content=content, place="header")
