"""Every quantity of every rung: this run's, its change, and what is published of it."""

from collections.abc import Sequence
from dataclasses import dataclass

from harness.reporting.cells import (
    NO_VALUE,
    Text,
    change_text,
    heads,
    names_of,
    protocol_notes,
    published_text,
    spread_text,
    value_text,
)
from harness.reporting.definition import Column
from harness.reporting.format import inside, number, several
from harness.reporting.frames import Estimate, Estimates
from harness.reporting.published import LABELS
from harness.reporting.section import Content, Frames, Section
from harness.reporting.subjects import Subject

TEMPLATE = """
{% from "macros.html.j2" import row_head, kinds, piece, printed, other_protocols %}
<p>Large: this run, the mean over {{ seeds }} seed{{ "s" if seeds != 1 }}, with the range. Below it: the change against
the rung named{% if published %}, and what is published of it{% endif %}. A score's change stands with its 95% interval,
as a difference where the reference is too near 0 for a percentage.{% if twin %} Costs are the deployment twin's: the
same edits on {{ twin }}.{% endif %}{% if published %} A published cell that is not known stays empty.{% endif %}</p>
<div class="wide"><table class="ladder cards">
<thead><tr><th scope="col">Rung</th>
{% for column in columns %}
<th scope="col" title="{{ column.explanation }}">{{ column.title }}
{%- if column.of_twin %}<small>of the twin</small>{% endif %}
{%- if column.quantity in names %}<small>{{ names[column.quantity] }}</small>{% endif %}
{%- if column.published %}<small>published: {{ published.columns[column.published].title }}</small>{% endif %}</th>
{% endfor %}
{% if asides %}
<th scope="col" title="Shown as what it is; no evidence for a published count or latency.">The network trained here
<small>not judged</small></th>
{% endif %}
</tr></thead>
<tbody>
{% for row in rows %}
<tr data-row="{{ row.head.name }}"{% if row.head.beaten %} class="beaten"{% endif %}>{{ row_head(row.head) }}
{% for cell in row.cells %}
<td data-label="{{ columns[loop.index0].title }}">{{ piece(cell.value) }}
{%- for spread in cell.spreads %}<span class="spread">{{ spread }}</span>{% endfor %}
{%- if cell.change %}{{ piece(cell.change) }}{% endif %}
{%- if cell.published %}{{ printed(cell.published) }}{% endif %}</td>
{% endfor %}
{% if row.asides %}
<td class="aside" data-label="Trained here">
{%- for title, value in row.asides %}<span><i>{{ title }}</i> {{ piece(value) }}</span>{% endfor %}</td>
{% endif %}
</tr>
{% endfor %}
</tbody></table></div>
{{ other_protocols(notes, protocol_name) }}
<div class="legends">
<ul class="legend words">
{{ kinds() }}
<li><span class="k-change">\u221212.3%</span> change here</li>
{% if published %}
<li><span class="k-published">\u221212% <span class="source">[P]</span></span> published</li>
{% endif %}
</ul>
<dl class="notes">
{% for column in columns %}
<div><dt>{{ column.title }}</dt><dd>{{ column.explanation }}</dd></div>
{% endfor %}
{% for column in asides %}
<div><dt>{{ column.title }}, here</dt><dd>{{ column.explanation }}</dd></div>
{% endfor %}
{% for what, why in absences %}
<div><dt>{{ what }}</dt><dd>{{ why }}</dd></div>
{% endfor %}
{% if published %}
{% for label, meaning in labels.items() %}
<div><dt>[{{ label }}]</dt><dd>{{ meaning }}</dd></div>
{% endfor %}
<div><dt>Published</dt><dd>{{ published.source }}. {{ published.title }}. {{ published.conditions }}</dd></div>
{% endif %}
</dl>
</div>
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    value: Text
    spreads: tuple[str, ...]
    change: Text | None
    published: Text | None


def content(frames: Frames) -> Content:
    row_heads, asides = heads(frames), frames.asides
    rows = [
        {
            "head": row_heads[rung.name],
            "cells": [_cell(frames, rung, column) for column in frames.columns],
            "asides": [(inside(c.title), value_text(frames.estimates[rung.name, c.quantity], c)) for c in asides],
        }
        for rung in frames.study.subjects
    ]
    return Content(
        context={
            "rows": rows,
            "columns": frames.columns,
            "asides": asides,
            "seeds": len(frames.study.seeds),
            "twin": frames.study.twin_name,
            "names": names_of(frames.control_readings) | names_of(frames.shown),
            "absences": absences(frames.columns, frames.estimates),
            "published": frames.published if frames.published.rows else None,
            "labels": LABELS,
            "notes": protocol_notes(frames.shown),
            "protocol_name": frames.study.protocol_name,
        }
    )


def absences(columns: Sequence[Column], estimates: Estimates) -> list[tuple[str, str]]:
    """(`Latency on iPhone, unavailable`, why) for what has no value in the table."""
    titles = {column.quantity: column.title for column in columns}
    reasons: dict[str, list[str]] = {}
    for (_, quantity), estimate in estimates.items():
        if quantity in titles and estimate.kind in NO_VALUE:
            reasons.setdefault(f"{titles[quantity]}, {NO_VALUE[estimate.kind]}", []).append(estimate.note)
    return [(what, several(why)) for what, why in reasons.items()]


def _cell(frames: Frames, rung: Subject, column: Column) -> Cell:
    estimate = frames.estimates[rung.name, column.quantity]
    printed = frames.published.cell(rung.name, column.published)
    return Cell(
        value=value_text(estimate, column),
        spreads=_spreads(estimate, column),
        change=change_text(estimate, column, frames.tests),
        published=None
        if printed is None
        else published_text(rung.name, column.published or "", frames.published, printed),
    )


def _spreads(estimate: Estimate, column: Column) -> tuple[str, ...]:
    """The column's spread; beside a spread over seeds, apart from it, what the images of one score make of it."""
    parts = [text] if (text := spread_text(estimate, column)) else []
    if estimate.value is not None and estimate.note:
        parts.append(estimate.note)
    spreads = [", ".join(parts)] if parts else []
    if column.spread == "seeds" and estimate.sampling is not None:
        spreads.append(f"each ±{number(estimate.sampling, estimate.unit)} by its images")
    return tuple(spreads)


SECTION = Section(name="table", title="Table", template=TEMPLATE, content=content, kinds=("ablation",))
