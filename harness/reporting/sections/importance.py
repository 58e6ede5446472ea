"""Which knobs of a sweep decide each objective, and which nobody can tell by so many candidates."""

from collections import Counter
from collections.abc import Iterable, Sequence

from harness.records.quantities import is_learnt
from harness.records.sweep_summary import CandidateSummary, SweepSummary
from harness.reporting.format import inside, listed
from harness.reporting.importance import FEWEST, FEWEST_BEST, Importances, KnobImportance, importances
from harness.reporting.section import Content, Frames, Section

TEMPLATE = """
<p>{{ method }}</p>
{% if rows %}
<div class="wide"><table class="plain importance">
<thead><tr><th scope="col">Knob</th>
{% for title, count in objectives %}<th scope="col">{{ title }}<small>{{ count }} candidates</small></th>{% endfor %}
</tr></thead><tbody>
{% for row in rows %}
<tr data-row="{{ row.knob }}"><th scope="row"><span class="title">{{ row.knob }}</span>
{% if row.when %}<span class="name">only where {{ row.when }}</span>{% endif %}</th>
{% for cell in row.cells %}
<td data-importance="{{ cell.exact }}" data-n="{{ cell.n }}">{% if cell.exact %}
<span class="bar{{ '' if cell.told else ' untold' }}"><i style="width:{{ cell.width }}%"></i>
{%- if cell.chance is not none %}<b style="left:{{ cell.chance }}%" title="what chance reaches"></b>{% endif %}</span>
<span class="told">{{ cell.text }}</span>{% endif %} <span class="n">{{ cell.note }}</span></td>
{% endfor %}
</tr>
{% endfor %}
</tbody></table></div>
{% if has_chance %}
<ul class="legend">
<li><span class="bar key"><i style="width:100%"></i></span>more than chance gives</li>
<li><span class="bar untold key"><i style="width:100%"></i></span>no more than chance gives: not told</li>
<li><span class="bar key"><b style="left:50%"></b></span>what chance reaches: when the values are dealt out anew among
the candidates, some knob of that column gets beyond its mark in one deal of 20</li>
</ul>
{% endif %}
{% endif %}
{% for sentence in unsaid %}
<p class="scale">{{ sentence }}</p>
{% endfor %}
{% if left_out %}
<details><summary>Who is left out, and why</summary><ul>
{% for title, sentences in left_out %}<li>{{ title }}: {{ sentences | join("; ") }}.</li>{% endfor %}
</ul></details>
{% endif %}
"""
PED_ANOVA = (
    "How much each knob alone accounts for of whether a candidate is among the best tenth (of fewer than 50, the best "
    f"{FEWEST_BEST}), by Optuna's PED-ANOVA. The rest is other knobs, their combinations and noise, so that a column "
    "does not add up to 100%; a choice of three cannot single out a tenth, so a decisive knob, too, stays far below. "
    "A knob that exists only beside others is judged among the candidates that have it."
)
FANOVA = (
    "How much each knob alone accounts for of the variance of the objective, by Optuna's fANOVA, as this page asks. "
    "The rest is combinations of knobs. A knob that exists only beside others is judged among the candidates that have "
    "it. "
    "What chance would give is not known of fANOVA."
)
MOST_NAMED = 12


def content(frames: Frames) -> Content | None:
    search = frames.study.search
    if search is None or not search.knobs or not any(each.key for each in search.candidates):
        return None
    method = frames.definition.importance
    results = importances(search, method)
    drawn = [each for each in results if any(knob.share is not None for knob in each.knobs)]
    context = {
        "method": FANOVA if method == "fanova" else PED_ANOVA,
        "objectives": [(heading(each, search, frames), f"{len(each.candidates):,}") for each in drawn],
        "rows": _rows(drawn, search),
        "has_chance": any(knob.chance is not None for each in drawn for knob in each.knobs),
        "unsaid": list(_unsaid([each for each in results if each not in drawn], search, frames)),
        "left_out": [
            (heading(each, search, frames), sentences) for each in drawn if (sentences := _left_out(each, search))
        ],
    }
    return Content(context=context)


def heading(of: Importances, search: SweepSummary, frames: Frames) -> str:
    """`KID after 300 steps, of those that halving let so far`."""
    title = frames.title(of.objective)
    if len(search.levels) == 1 or not is_learnt(of.objective):
        return title
    return f"{title} after {of.steps:,} steps{', of those that halving let so far' if of.chosen else ''}"


def _rows(drawn: Sequence[Importances], search: SweepSummary) -> list[dict[str, object]]:
    """A knob a row, the one that accounts for most first; one that no column has a number of comes last."""
    largest = max((knob.share or 0.0 for each in drawn for knob in each.knobs), default=0.0) or 1.0
    by_knob = {name: [each.knobs[at] for each in drawn] for at, name in enumerate(search.knobs)} if drawn else {}
    order = sorted(by_knob, key=lambda name: -max(cell.share or 0.0 for cell in by_knob[name]))
    rows: list[dict[str, object]] = []
    for name in order:
        cells = [_cell(cell, of, largest) for cell, of in zip(by_knob[name], drawn, strict=True)]
        rows.append({"knob": name, "when": _when(search, name), "cells": cells})
    return rows


def _cell(knob: KnobImportance, of: Importances, largest: float) -> dict[str, object]:
    share, chance = knob.share, knob.chance
    scale = 100 / max(largest, 1e-12)
    return {
        "exact": "" if share is None else repr(share),
        "n": knob.candidates,
        "text": "" if share is None else f"{share:.1%}",
        "told": chance is None or knob.is_told,
        "width": f"{scale * (share or 0.0):.1f}",
        "chance": None if chance is None else f"{min(100.0, scale * chance):.1f}",
        "note": knob.why
        if share is None
        else ""
        if knob.candidates == len(of.candidates)
        else f"n = {knob.candidates:,}",
    }


def _when(search: SweepSummary, knob: str) -> str:
    conditions = search.knobs[knob].when.items()
    return ", ".join(f"{other} is {listed([str(value) for value in values], 'or')}" for other, values in conditions)


def _unsaid(missing: Sequence[Importances], search: SweepSummary, frames: Frames) -> Iterable[str]:
    for each in missing:
        if len(each.candidates) < FEWEST:
            why = f"{len(each.candidates)} candidates have a value, and it takes {FEWEST}"
        else:
            why = "; ".join(f"{knob.knob}: {knob.why}" for knob in each.knobs)
        yield f"Not told what decides {inside(heading(each, search, frames))}: {why}."


def _left_out(of: Importances, search: SweepSummary) -> list[str]:
    """`2 were refused untrained: trial-4 and trial-5`."""
    inside_names = {each.name for each in of.candidates}
    groups: dict[str, list[CandidateSummary]] = {}
    for each in search.candidates:
        if each.name not in inside_names:
            groups.setdefault(_why_out(each), []).append(each)
    counts = Counter({why: len(group) for why, group in groups.items()})
    return [f"{count:,} {why} ({_named(groups[why])})" for why, count in counts.most_common()]


def _why_out(candidate: CandidateSummary) -> str:
    return {
        "refused": "refused untrained",
        "failed": "failed without a value there",
        "running": "not so far yet",
        "stopped": "stopped before",
        "complete": "without a value there",
    }[candidate.state]


def _named(candidates: Sequence[CandidateSummary]) -> str:
    names = [each.name for each in candidates[:MOST_NAMED]]
    more = len(candidates) - len(names)
    return ", ".join([*names, f"and {more:,} more"] if more else names)


SECTION = Section(name="importance", title="Importance", template=TEMPLATE, content=content, kinds=("sweep",))
