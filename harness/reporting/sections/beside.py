"""Printed networks and ours in one table, each with where its numbers come from and under which protocol."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from harness.reporting.cells import Text, interval, names_of, protocol_notes, published_text, reading_text, value_text
from harness.reporting.definition import Column
from harness.reporting.entries import Entry, column_basis, entries, printed_only
from harness.reporting.format import number
from harness.reporting.published import LABELS, PublishedCell
from harness.reporting.section import Content, Frames, Section
from harness.reporting.sections.table import absences

TEMPLATE = """
{% from "macros.html.j2" import kinds, piece, printed, other_protocols %}
<p>{% if published %}What is printed stands as printed, in orange, with the label of its source; what is not known is
empty. {% endif %}Ours: the mean over {{ seeds }} seed{{ "s" if seeds != 1 }}, with the range.
{%- if best %} &ldquo;Best of&rdquo;: the best point of a stored score sweep over guidance and steps, of one network; it
is flattered by the choice.{% endif %}</p>
<div class="wide"><table class="ladder beside">
<thead><tr><th scope="col">Network</th><th scope="col">From</th>
{% for column in columns %}
<th scope="col" title="{{ column.explanation }}">{{ column.title }}
{%- if column.of_twin %}<small>of the twin</small>{% endif %}
{%- if column.quantity in names %}<small>{{ names[column.quantity] }}</small>{% endif %}
{%- if column.published %}<small>printed: {{ published.columns[column.published].title }}</small>{% endif %}</th>
{% endfor %}
{% for name in extra %}
<th scope="col">{{ published.columns[name].title }}<small>printed only</small></th>
{% endfor %}
<th scope="col">Protocol</th></tr></thead>
<tbody>
{% for row in rows %}
<tr data-entry="{{ row.name }}" data-source="{{ row.source }}"{% if row.beaten %} class="beaten"{% endif %}>
<th scope="row"><span class="title">{{ row.title }}</span>
{%- if row.note %}<span class="name">{{ row.note }}</span>{% endif %}
{%- if row.beaten %}<span class="mark" title="beaten {{ row.beaten }}">beaten</span>{% endif %}</th>
<td class="from">{{ row.origin }}</td>
{% for cell in row.cells %}
<td>{% if cell.own %}{{ piece(cell.own) }}{% endif %}
{%- for spread in cell.spreads %}<span class="spread">{{ spread }}</span>{% endfor %}
{%- if cell.printed %}{{ printed(cell.printed) }}{% endif %}</td>
{% endfor %}
<td class="from under">{{ row.protocol }}</td></tr>
{% endfor %}
</tbody></table></div>
{{ other_protocols(notes, protocol_name) }}
<div class="legends">
<ul class="legend words">
{{ kinds() }}
{% if published %}<li><span class="k-published">1.23 <span class="source">[P]</span></span> printed</li>{% endif %}
</ul>
<dl class="notes">
{% for column in columns %}
<div><dt>{{ column.title }}</dt><dd>{{ column.explanation }}</dd></div>
{% endfor %}
{% for what, why in absences %}
<div><dt>{{ what }}</dt><dd>{{ why }}</dd></div>
{% endfor %}
{% if published %}
{% for label, meaning in labels.items() %}
<div><dt>[{{ label }}]</dt><dd>{{ meaning }}</dd></div>
{% endfor %}
<div><dt>Printed</dt><dd>{{ published.source }}. {{ published.title }}. {{ published.conditions }}
{%- for note in published.notes %} {{ note }}{% endfor %}</dd></div>
{% endif %}
</dl>
</div>
"""

ORIGINS = {
    "printed": "printed",
    "study": "trained here",
    "best": "scored here",
    "others": "others' weights, scored here",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    own: Text | None = None
    spreads: tuple[str, ...] = ()
    printed: Text | None = None


def content(frames: Frames) -> Content:
    rows = entries(frames)
    published = frames.published if frames.published.rows else None
    points = [row for each in rows for row in each.readings.values()]
    return Content(
        context={
            "rows": [_row(each, frames) for each in rows],
            "columns": frames.columns,
            "extra": printed_only(frames),
            "names": names_of(frames.shown) | _score_names(rows, frames),
            "seeds": len(frames.study.seeds),
            "best": any(each.chosen for each in rows),
            "notes": protocol_notes([*frames.shown, *points]),
            "protocol_name": frames.study.protocol_name,
            "absences": absences(frames.columns, frames.estimates),
            "published": published,
            "labels": _labels(rows, frames.published.notes),
        },
        title="" if published else "Table",
    )


def _score_names(rows: Sequence[Entry], frames: Frames) -> dict[str, str]:
    """Quantity -> what the column's score is called."""
    bases = {column.quantity: column_basis(rows, column, frames) for column in frames.columns}
    return {quantity: basis.label for quantity, basis in bases.items() if basis is not None and basis.label}


def _row(entry: Entry, frames: Frames) -> dict[str, object]:
    cells = [_cell(entry, column, frames) for column in frames.columns]
    for name in printed_only(frames):
        cell = entry.printed.get(name)
        cells.append(Cell(printed=None if cell is None else _printed(entry, name, cell, frames)))
    return {
        "name": entry.name,
        "source": entry.source,
        "title": entry.title,
        "note": entry.chosen or (entry.name if entry.source == "study" else ""),
        "beaten": frames.checks.beaten.get(entry.name, "") if entry.source in ("study", "best") else "",
        "origin": ORIGINS[entry.source],
        "cells": cells,
        "protocol": _protocol(entry),
    }


def _protocol(entry: Entry) -> str:
    if entry.source == "printed":
        return "† its own paper's"
    return f"† {', '.join(entry.departures)}" if entry.departures else "this page's"


def _cell(entry: Entry, column: Column, frames: Frames) -> Cell:
    if entry.source == "printed":
        cell = entry.printed.get(column.published or "")
        if cell is None or column.published is None:
            return Cell()
        return Cell(printed=_printed(entry, column.published, cell, frames))
    if column.quantity in entry.elsewhere:
        return _elsewhere(entry, column)
    if column.quantity in entry.readings:
        row = entry.readings[column.quantity]
        return Cell(own=reading_text(row), spreads=_between(row.low, row.high))
    if column.quantity not in entry.estimates:
        return Cell(own=_nothing(entry, column)) if column.spread == "seeds" else Cell()
    estimate = entry.estimates[column.quantity]
    return Cell(own=value_text(estimate, column), spreads=_between(*interval(estimate, column)))


def _elsewhere(entry: Entry, column: Column) -> Cell:
    """Another score than the column's: its name and value, and no number in the column."""
    own = entry.own(column.quantity)
    value = "" if own is None or own.value is None else f": {number(own.value)}"
    return Cell(spreads=(f"{entry.elsewhere[column.quantity]}{value}",))


def _nothing(entry: Entry, column: Column) -> Text:
    """Of others' weights without a stored score."""
    data = {"subject": f"{entry.name}, others", "quantity": column.quantity, "kind": "missing"}
    return Text(kind="missing", text="not measured", data=data, hint="no score of its key is stored")


def _printed(entry: Entry, column: str, cell: PublishedCell, frames: Frames) -> Text:
    """As printed; the head of the table says of which column."""
    unit = frames.published.columns[column].unit if cell.value is not None else ""
    return replace(
        published_text(entry.name, column, frames.published, cell), text=f"{cell.shown} {unit}".rstrip()
    )  # fmt: skip


def _between(low: float | None, high: float | None) -> tuple[str, ...]:
    return () if low is None or high is None else (f"{number(float(low))} to {number(float(high))}",)


def _labels(rows: Sequence[Entry], notes: Sequence[str]) -> dict[str, str]:
    """The labels that stand on the page, with their meaning."""
    used = {label for row in rows for cell in row.printed.values() for label in cell.labels}
    used |= {label for label in LABELS for note in notes if f"[{label}]" in note}
    return {label: meaning for label, meaning in LABELS.items() if label in used}


SECTION = Section(name="beside", title="Beside what is printed", template=TEMPLATE, content=content)
