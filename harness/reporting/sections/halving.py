"""Halving's ladder: of the candidates that came to each budget, who went on, who stopped there, and why."""

from collections.abc import Sequence
from dataclasses import dataclass

from harness.records.sweep_summary import CandidateSummary, ReasonCount, SweepSummary, grouped
from harness.reporting.section import Content, Frames, Section

TEMPLATE = """
<p>Every candidate is trained to the lowest budget; of its results at most one in {{ reduction }} goes on to the next,
the best first, spread over the front{% if floor %}, and only what beats {{ floor }}{% endif %}.</p>
<div class="wide"><table class="plain halving">
<thead><tr><th scope="col">Training steps</th><th scope="col">Candidates</th><th scope="col"></th>
<th scope="col">Why those that stopped did</th></tr></thead><tbody>
{% for level in levels %}
<tr data-level="{{ level.steps }}"><th scope="row"><span class="title">{{ "{:,}".format(level.steps) }}</span></th>
<td>{{ "{:,}".format(level.came | length) }}</td>
<td><span class="stack" style="width:{{ level.width }}%" aria-hidden="true">
{%- for fate in level.fates %}<i class="f-{{ fate.look }}" style="flex:{{ fate.names | length }}"></i>{% endfor %}
</span>
{% for fate in level.fates %}
<details class="fate"><summary><i class="f-{{ fate.look }}"></i>
<span data-fate="{{ fate.look }}">{{ "{:,}".format(fate.names | length) }}</span> {{ fate.title }}</summary>
<p>{{ fate.names[:most] | join(", ") }}{% if fate.names | length > most %}, and
{{ "{:,}".format(fate.names | length - most) }} more{% endif %}</p></details>
{% endfor %}</td>
<td>{% for reason in level.reasons %}<p>{{ reason.text }} <span class="n">({{ "{:,}".format(reason.times) }})</span></p>
{% endfor %}</td></tr>
{% endfor %}
</tbody></table></div>
"""
MOST_NAMED, MOST_REASONS = 60, 6
FATES = {
    "on": "went on to the next",
    "complete": "complete: trained to the last",
    "stopped": "stopped here",
    "failed": "failed here",
    "open": "not decided yet: trained, waiting, or awaiting a measurement",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Fate:
    look: str  # a key of FATES
    title: str
    names: Sequence[str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Level:
    steps: int
    came: Sequence[str]
    fates: Sequence[Fate]
    reasons: Sequence[ReasonCount]
    width: float  # of its bar, in per cent of the lowest level's


def content(frames: Frames) -> Content | None:
    search = frames.study.search
    if search is None or len(search.levels) < 2 or not any(each.levels for each in search.candidates):
        return None
    floor = search.judging.floor.what if search.floor is not None and search.judging.floor is not None else ""
    levels = ladder(search)
    return Content(
        context={"levels": levels, "reduction": search.reduction, "floor": floor, "most": MOST_NAMED},
    )


def ladder(search: SweepSummary) -> list[Level]:
    """The budgets, lowest first."""
    most = max(1, sum(bool(each.levels) for each in search.candidates))
    return [_level(search, steps, most) for steps in search.levels]


def _level(search: SweepSummary, steps: int, most: int) -> Level:
    came = [each for each in search.candidates if any(level.steps == steps for level in each.levels)]
    fates = {each.name: _fate(each, steps) for each in came}
    stopped = [each.reason for each in came if fates[each.name] in ("stopped", "failed")]
    return Level(
        steps=steps,
        came=[each.name for each in came],
        fates=[
            Fate(look=look, title=title, names=names)
            for look, title in FATES.items()
            if (names := [name for name, fate in fates.items() if fate == look])
        ],
        reasons=grouped(stopped)[:MOST_REASONS],
        width=round(100 * len(came) / most, 1),
    )


def _fate(candidate: CandidateSummary, steps: int) -> str:
    if candidate.levels[-1].steps > steps:
        return "on"
    return {"complete": "complete", "stopped": "stopped", "failed": "failed"}.get(candidate.state, "open")


SECTION = Section(name="halving", title="Budgets", template=TEMPLATE, content=content, kinds=("sweep",))
