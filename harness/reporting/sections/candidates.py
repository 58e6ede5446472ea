"""The candidates of a sweep that were trained: the front first, then the best of the first objective."""

import math
from collections.abc import Sequence

from harness.records.sweep_summary import CandidateSummary, SweepSummary
from harness.reporting.cells import Text, exact, protocol_notes, reading_text
from harness.reporting.definition import Column
from harness.reporting.section import Content, Frames, Section
from harness.reporting.sections.finalists import knobs_text

MOST = 500
TEMPLATE = """
{% from "macros.html.j2" import piece, other_protocols %}
<p>Trained candidates, the front first, then by training steps and {{ objectives[0][1] }}.{% if left_out %}
{{ left_out }} more are in the study, {{ place }}.{% endif %}{% if same %} The same in all: {{ same }}.{% endif %}</p>
<div class="wide"><table class="plain candidates">
<thead><tr><th scope="col">Candidate</th><th scope="col">State</th><th scope="col">Steps</th>
{% for _, title in objectives %}<th scope="col">{{ title }}<small>objective</small></th>{% endfor %}
{% for column in columns %}<th scope="col" title="{{ column.explanation }}">{{ column.title }}
{%- if column.of_twin %}<small>of the twin</small>{% endif %}</th>{% endfor %}
<th scope="col">Knobs</th></tr></thead><tbody>
{% for row in rows %}
<tr data-row="{{ row.name }}"><th scope="row"><span class="title">{{ row.name }}</span>
{% if row.rung %}<span class="name">{{ row.rung }} of the ladder</span>{% endif %}
{% if row.on_front %}<span class="mark front">front</span>{% endif %}</th>
<td>{{ row.state }}</td><td>{{ row.steps }}</td>
{% for cell in row.cells %}<td>{{ piece(cell) }}</td>{% endfor %}
<td class="knobs">{% for name, value in row.knobs %}<span class="pair"><i>{{ name }}</i> {{ value }}</span> {% endfor %}
</td></tr>
{% endfor %}
</tbody></table></div>
{{ other_protocols(notes, protocol_name) }}
"""


def content(frames: Frames) -> Content | None:
    search = frames.study.search
    trained = [] if search is None else [each for each in search.candidates if each.key]
    if search is None or not trained:
        return None
    columns = [column for column in frames.columns if not _is_objective(column, frames)]
    ordered = sorted(trained, key=lambda each: _place(each, search))
    readings = {(row.subject, row.quantity): row for row in frames.shown}
    same, varying = _knobs(ordered)
    rows = []
    for each in ordered[:MOST]:
        cells = [_objective(each, at, frames) for at in range(len(search.objectives))]
        cells += [reading_text(readings[each.name, column.quantity]) for column in columns]
        row = {"name": each.name, "rung": each.rung, "on_front": each.name in search.front, "state": each.state}
        rows.append({**row, "steps": f"{each.steps:,}", "cells": cells, "knobs": _chosen(each, varying)})
    context = {
        "objectives": [(name, frames.title(name)) for name in search.objectives],
        "columns": columns,
        "rows": rows,
        "left_out": len(ordered) - len(rows),
        "place": search.place,
        "same": knobs_text(same),
        "notes": protocol_notes([row for row in frames.shown if row.subject in {each.name for each in trained}]),
        "protocol_name": frames.study.protocol_name,
    }
    return Content(context=context)


def _is_objective(column: Column, frames: Frames) -> bool:
    """Whether the objectives' columns have it already: itself, or what stands in for it everywhere."""
    objectives = frames.study.search.objectives if frames.study.search is not None else {}
    example = frames.examples.get(column.quantity)
    stands_in = column.stand_in in objectives and (example is None or example.kind == "predicted")
    return column.quantity in objectives or stands_in


def _knobs(candidates: Sequence[CandidateSummary]) -> tuple[dict[str, object], set[str]]:
    """What all candidates have in common, and the names of the knobs in which they differ."""
    names = dict.fromkeys(name for each in candidates for name in each.parameters)
    values = {name: [each.parameters.get(name) for each in candidates] for name in names}
    same = {name: of[0] for name, of in values.items() if len(of) > 1 and len(set(map(repr, of))) == 1}
    return same, set(names) - set(same)


def _chosen(candidate: CandidateSummary, varying: set[str]) -> list[tuple[str, object]]:
    return [(name, value) for name, value in candidate.parameters.items() if name in varying]


def _place(candidate: CandidateSummary, search: SweepSummary) -> tuple[int, int, float]:
    if candidate.name in search.front:
        return search.front.index(candidate.name), 0, 0.0
    sign = -1.0 if next(iter(search.objectives.values())) == "maximize" else 1.0
    value = sign * candidate.values[0] if candidate.values else math.inf
    return len(search.front), -candidate.steps, value


def _objective(candidate: CandidateSummary, at: int, frames: Frames) -> Text:
    """The study's own value, in the look of what its record calls it."""
    search = frames.study.search
    name = list(search.objectives)[at] if search is not None else ""
    estimate = frames.estimates.get((candidate.name, name))
    value = candidate.values[at] if candidate.values is not None else None
    data = {"subject": candidate.name, "objective": name, "value": exact(value)}
    if value is None:
        return Text(kind="missing", text="not known", data=data, hint=candidate.reason)
    kind = estimate.kind if estimate is not None and estimate.value is not None else "recorded"
    other = estimate.other_protocol if estimate is not None else ""
    return Text(kind=kind, text=frames.text(name, value), data=data, other_protocol=other)


SECTION = Section(name="candidates", title="Candidates", template=TEMPLATE, content=content, kinds=("sweep",))
