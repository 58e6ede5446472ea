"""A sweep's picture: every trained candidate, the front, the ladder's rungs, the finalists' means over fresh seeds."""

from collections.abc import Iterable, Mapping

import plotly.graph_objects as go

from harness.records.conclusions import Conclusions, Finalist, RescoredObjective
from harness.records.sweep_summary import CandidateSummary, SweepSummary
from harness.reporting.drawing import BLUE, GREY, PURPLE
from harness.reporting.format import inside, listed
from harness.reporting.section import Content, Frames, Section
from harness.reporting.trade_off import Amount, Arrow, Front, Level, Measure, Point, trade_off_figure

TEMPLATE = """
{% from "macros.html.j2" import drawing %}
<p>One mark a candidate, by the search's own value of one training; {% if single %}in the order in which the sampler
proposed them.{% elif front %}no other beats one of the front in all objectives.{% else %}none was trained to the last
level{% if beaten %} and is better than the floor{% endif %}, so there is no front.{% endif %}
{% if rescored %} An arrow leads from what the search saw of a finalist to the mean over fresh seeds.{% endif %}
{% if by_table %} A click opens a candidate; every value stands in the <a href="#candidates">table</a>.{% endif %}</p>
{{ drawing("front", height, alt, choices, "Against") }}
{% if ties %}<p class="scale">{{ ties }}</p>{% endif %}
"""
MOST_LABELS = 12
FRESH = "fresh seeds of "
ORDER = "Candidate, in the order of proposal"


def content(frames: Frames) -> Content | None:
    search = frames.study.search
    if search is None or not any(each.values is not None for each in search.candidates):
        return None
    finalists = search.conclusions.finalists if search.conclusions is not None else ()
    context = {
        "single": len(search.objectives) == 1,
        "front": bool(search.front),
        "rescored": bool(finalists),
        "beaten": any(each.beaten for each in search.candidates),
        "by_table": "candidates" in frames.definition.sections,
        "alt": _alt(search, frames),
        "ties": _ties(search.conclusions, frames),
    }
    return Content(context=context, figure=front_figures(search, frames))


def front_figures(search: SweepSummary, frames: Frames) -> Mapping[str, go.Figure]:
    """The first objective over each other one; a single objective over the candidates in their order."""
    first, *others = search.objectives
    titles = {name: frames.title(name) + unit_text(name, frames) for name in search.objectives}
    score = Measure(title=titles[first], more_is_better=search.objectives[first] == "maximize")
    figures = {}
    for at, name in enumerate(others, start=1):
        cost = Measure(title=titles[name], more_is_better=search.objectives[name] == "maximize")
        figures[frames.title(name)] = _figure(search, at, cost, score)
    return figures or {"": _over_order(search, score)}


def _figure(search: SweepSummary, cost_at: int, cost: Measure, score: Measure) -> go.Figure:
    points = [*_searched(search, cost_at), *_rescored(search, cost_at)]
    finalists = search.conclusions.finalists if search.conclusions is not None else ()
    arrows = [
        Arrow(start=each.name, end=FRESH + each.name, legend="search to fresh seeds", color=GREY) for each in finalists
    ]
    fronts = [Front(names=search.front, legend="front of the search", color=BLUE)]
    if len(leading := [each for each in finalists if each.on_front]) > 1:
        names = [FRESH + each.name for each in leading]
        fronts.append(Front(names=names, legend="front of the means over fresh seeds", color=PURPLE, dash="dash"))
    return trade_off_figure(
        points, cost=cost, score=score, arrows=arrows, fronts=fronts if len(search.objectives) == 2 else [],
        levels=_floor(search),
    )  # fmt: skip


def _over_order(search: SweepSummary, score: Measure) -> go.Figure:
    figure = trade_off_figure(
        [*_searched(search, None), *_rescored(search, None)], cost=Measure(title=ORDER), score=score,
        levels=_floor(search),
    )  # fmt: skip
    last = len(search.candidates)
    figure.update_xaxes(title={"text": ORDER}, type="linear", range=[-1 - 0.02 * last, 1.02 * last], tickvals=None)
    figure.update_xaxes(ticktext=None, tickformat="d", nticks=10)
    return figure


def _searched(search: SweepSummary, cost_at: int | None) -> Iterable[Point]:
    front = set(search.front)
    labelled = len(front) <= MOST_LABELS
    for order, each in enumerate(search.candidates):
        if each.values is None:
            continue
        look = "beaten" if each.beaten else "front" if each.name in front else "ladder" if each.rung else ""
        look = look or ("complete" if each.state == "complete" else "lower")
        yield Point(
            name=each.name,
            x=Amount(value=float(order if cost_at is None else each.values[cost_at])),
            y=Amount(value=each.values[0]),
            look=look,
            label=(each.rung or each.name) if (look == "front" and labelled) or (each.rung and look != "front") else "",
            short=each.name.removeprefix("trial-"),
            hover=_hover(each),
            opens=each.name,
        )


def _rescored(search: SweepSummary, cost_at: int | None) -> Iterable[Point]:
    order = {each.name: at for at, each in enumerate(search.candidates)}
    first, names = next(iter(search.objectives)), list(search.objectives)
    for each in search.conclusions.finalists if search.conclusions is not None else ():
        x = Amount(value=float(order[each.name])) if cost_at is None else _amount(each.objectives[names[cost_at]])
        scored = each.objectives[first]
        yield Point(
            name=FRESH + each.name, x=x, y=_amount(scored), look="beaten" if each.beaten else "rescored",
            hover=f"{each.name}, mean of {len(scored.scores)} fresh seeds\n{_tied(each, first)}", opens=each.name,
        )  # fmt: skip


def _amount(objective: RescoredObjective) -> Amount:
    error = objective.standard_error or 0.0
    return Amount(value=objective.mean, low=objective.mean - error, high=objective.mean + error)


def _tied(finalist: Finalist, objective: str) -> str:
    ties = finalist.objectives[objective].ties
    return f"not distinguished from {listed(ties)}" if ties else "distinguished from every other finalist"


def _floor(search: SweepSummary) -> list[Level]:
    """What a candidate has to beat, where the score that it is of is drawn."""
    if search.floor is None or search.judging.first != next(iter(search.objectives)):
        return []
    what = search.judging.floor.what if search.judging.floor is not None else "the floor"
    does = "goes on" if len(search.levels) > 1 else "counts"
    return [Level(value=search.floor, legend=f"{what}: nothing worse {does}")]


def _hover(each: CandidateSummary) -> str:
    rung = f", {each.rung} of the ladder" if each.rung else ""
    return f"{each.name}{rung}, {each.steps:,} steps"


def _ties(conclusions: Conclusions | None, frames: Frames) -> str:
    """`KID does not tell trial-3 from trial-9 by the fresh seeds.`"""
    if conclusions is None or not conclusions.varying or len(conclusions.finalists) < 2:
        return ""
    name = conclusions.varying[0]
    pairs = {tuple(sorted((each.name, tie))) for each in conclusions.finalists for tie in each.objectives[name].ties}
    title = frames.title(name)
    if not pairs:
        return f"{title} tells every two finalists apart."
    return f"{title} does not tell apart by fresh seeds: {'; '.join(f'{a} and {b}' for a, b in sorted(pairs))}."


def _alt(search: SweepSummary, frames: Frames) -> str:
    valued = [each for each in search.candidates if each.values is not None]
    complete = sum(each.state == "complete" for each in valued)
    objectives = listed([inside(frames.title(name)) for name in search.objectives])
    ends = f", from {search.front[0]} to {search.front[-1]}" if len(search.front) > 1 else ""
    return (
        f"{objectives} of {len(valued):,} trained candidates, {complete:,} of them to the last level; "
        f"{len(search.front)} on the front{ends}"
    )


def unit_text(quantity: str, frames: Frames) -> str:
    """` (ms, predicted)`: the unit, and how its numbers came about where they were not measured."""
    example = frames.examples.get(quantity)
    if example is None:
        return ""
    words = [example.unit if example.unit != "1" else "", "" if example.kind == "measured" else example.kind]
    return f" ({', '.join(filter(None, words))})" if any(words) else ""


SECTION = Section(name="front", title="Front", template=TEMPLATE, content=content, kinds=("sweep",))
