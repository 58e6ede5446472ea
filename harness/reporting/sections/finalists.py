"""A sweep's finalists: trained again with fresh seeds, re-scored, and which of them are not distinguished."""

from collections.abc import Mapping

from harness.records.conclusions import Conclusions, Finalist, RescoredObjective
from harness.reporting.cells import Text, exact
from harness.reporting.format import number, signed
from harness.reporting.section import Content, Frames, Section
from harness.reporting.sections.sweep_summary import mean_of

TEMPLATE = """
{% from "macros.html.j2" import piece %}
<p>The best of many noisy scores is good partly by luck. So the best were trained again with fresh seeds and scored
with
fresh samples, which chose nobody; the search's own value stands beside. Best first, by the mean of
{{ objectives[0].title }}.</p>
<div class="wide"><table class="plain finalists cards">
<thead><tr><th scope="col">Candidate</th>
{% for objective in objectives %}
{% if objective.varies %}
<th scope="col">{{ objective.title }}, re-scored<small>mean &plusmn; standard error</small></th>
<th scope="col">in the search<small>less the mean</small></th>
<th scope="col">Rank</th>
<th scope="col">Not distinguished from</th>
{% else %}
<th scope="col">{{ objective.title }}</th>
{% endif %}
{% endfor %}
<th scope="col">On the front</th></tr></thead><tbody>
{% for row in rows %}
<tr data-row="{{ row.name }}"{% if row.beaten %} class="beaten"{% endif %}>
<th scope="row"><span class="title">{{ row.name }}</span>
<span class="name">{{ row.knobs }}</span>
{% for seed, href in row.pages %}<a href="{{ href }}">seed {{ seed }}</a>{{ ", " if not loop.last }}{% endfor %}</th>
{% for cell in row.cells %}
<td data-label="{{ labels[loop.index0] }}"
{%- if cell.data is not none %} data-subject="{{ row.name }}" data-rescored="{{ cell.data }}"{% endif %}>
{{- cell.text if cell.text is string else piece(cell.text) }}
{%- if cell.small %}<span class="spread">{{ cell.small }}</span>{% endif %}</td>
{% endfor %}
<td data-label="On the front">{{ "yes" if row.on_front else "no" }}</td></tr>
{% endfor %}
</tbody></table></div>
<p class="scale">{{ rule }}</p>
{% for name, sentence in noise %}
<p class="scale">Noise of {{ name }}: {{ sentence }}.</p>
{% endfor %}
"""


def content(frames: Frames) -> Content | None:
    search = frames.study.search
    if search is None or search.conclusions is None or not search.conclusions.finalists:
        return None
    conclusions = search.conclusions
    objectives = [
        {"title": frames.title(name), "varies": name in conclusions.varying} for name in conclusions.directions
    ]
    rows = [
        {
            "name": finalist.name,
            "knobs": knobs_text(finalist.parameters),
            "pages": _pages(finalist, frames),
            "cells": _cells(finalist, conclusions, frames),
            "on_front": finalist.on_front,
            "beaten": finalist.beaten,
        }
        for finalist in conclusions.finalists
    ]
    noise = [(frames.title(name), sentence) for name, sentence in conclusions.noise.items()]
    context = {"objectives": objectives, "rows": rows, "rule": _rule(conclusions), "noise": noise}
    return Content(context=context | {"labels": [label for each in objectives for label in _labels(each)]})


def _labels(objective: Mapping[str, object]) -> list[str]:
    """Of its cells, where each candidate is a card."""
    title = str(objective["title"])
    if not objective["varies"]:
        return [title]
    return [f"{title}, re-scored", "in the search", "Rank", "Not distinguished from"]


def _cells(finalist: Finalist, conclusions: Conclusions, frames: Frames) -> list[dict[str, object]]:
    cells: list[dict[str, object]] = []
    for name in conclusions.directions:
        objective = finalist.objectives[name]
        if name in conclusions.varying:
            cells += _varying(objective)
        else:
            cells.append(_cell(_recorded(finalist.name, name, objective.mean, frames)))
    return cells


def _recorded(finalist: str, quantity: str, value: float, frames: Frames) -> Text:
    """What no seed changes, in the look of what the candidate's record calls it."""
    known = frames.estimates.get((finalist, quantity))
    kind = "recorded" if known is None or known.value is None else known.kind
    data = {"subject": finalist, "objective": quantity, "value": exact(value)}
    return Text(kind=kind, text=frames.text(quantity, value), data=data)


def _pages(finalist: Finalist, frames: Frames) -> list[tuple[int, str]]:
    """(fresh seed, its trial's page), of those that are there."""
    pages = ((seed, frames.links.trial(key)) for seed, key in finalist.trials.items())
    return [(seed, href) for seed, href in pages if href]


def _varying(objective: RescoredObjective) -> list[dict[str, object]]:
    ties = [f"{name} (equivalent)" if name in objective.equivalent else name for name in objective.ties]
    return [
        _cell(mean_of(objective), data=repr(objective.mean)),
        _cell(number(objective.search), small=signed(objective.search_minus_mean)),
        _cell("beaten" if objective.rank is None else str(objective.rank)),
        _cell(", ".join(ties) or "none"),
    ]


def _cell(text: Text | str, *, small: str = "", data: str | None = None) -> dict[str, object]:
    return {"text": text, "small": small, "data": data}


def _rule(conclusions: Conclusions) -> str:
    return (
        "Ranks and the front are by the re-scored means. Two are not distinguished where the p of their difference, "
        f"corrected for all statements of this table together, is at least {1 - conclusions.level:.2g}; equivalent "
        f"where each is proved to lie within {conclusions.margin:.0%} of the other (two one-sided tests, corrected "
        "together with those of a difference)."
    )


def knobs_text(parameters: Mapping[str, object]) -> str:
    return ", ".join(f"{knob}={value}" for knob, value in parameters.items())


SECTION = Section(name="finalists", title="Finalists", template=TEMPLATE, content=content, kinds=("sweep",))
