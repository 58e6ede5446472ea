"""Every candidate of a sweep, whatever became of it, in a table that sorts, filters and is saved as CSV.

The page holds all rows once, as JSON; page.js draws so many of them at a time. The first stand in the page as it is
opened, for readers without JavaScript. A cell of the JSON is a text; a list of a number and its text, of the kind that
its column has; or such a list with kind, hint and mark, where they differ. 0 is a cell of a candidate that was never
trained.
"""

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from harness.records.sweep_summary import CandidateSummary, SweepSummary
from harness.reporting.cells import Text, exact, protocol_notes, reading_text
from harness.reporting.definition import Column
from harness.reporting.format import number
from harness.reporting.section import Content, Frames, Section
from harness.reporting.sections.finalists import knobs_text
from harness.reporting.sweep_costs import hours_of, hours_unit

BEATEN = "beaten"
"""The state of a complete one that is no better than the floor: page.js draws its row grey."""
SHOWN = 50
"""Rows that are drawn at a time."""
TEMPLATE = """
{% from "macros.html.j2" import piece, other_protocols %}
<p>All {{ "{:,}".format(count) }} candidates: the front first, then the trained ones by training steps and
{{ objective }}, then the others.{% if same %} The same in all: {{ same }}.{% endif %}</p>
<div class="rows-tools" data-rows-tools hidden>
<label>Filter <input type="search" data-rows-filter placeholder="a word, kid&lt;0.5, state=failed" size="30"></label>
<label><input type="checkbox" data-rows-front> the front alone</label>
<button type="button" data-rows-csv="{{ study }}-candidates.csv">CSV</button>
<span role="status" data-rows-count></span>
<span class="pager"><button type="button" data-rows-step="-1">previous</button>
<button type="button" data-rows-step="1">next</button></span>
</div>
<noscript><p class="scale">The first {{ rows | length }}; the others need JavaScript.</p></noscript>
<div class="wide"><table class="plain candidates" data-rows="candidates-rows" data-shown="{{ shown }}">
<thead><tr>
{% for column in columns %}<th scope="col" title="{{ column.explanation }}">{{ column.title }}
{%- if column.small %}<small>{{ column.small }}</small>{% endif %}</th>
{% endfor %}
</tr></thead><tbody>
{% for row in rows %}
<tr data-row="{{ row.name }}"{% if row.cells[1] == "beaten" %} class="beaten"{% endif %}>{% for cell in row.cells %}
{% if loop.first %}<th scope="row">{% if row.href %}<a class="title" href="{{ row.href }}">{{ row.name }}</a>
{% else %}<span class="title">{{ row.name }}</span>{% endif %}
{% if row.rung %}<span class="name">{{ row.rung }} of the ladder</span>{% endif %}
{% if row.on_front %}<span class="mark front">front</span>{% endif %}</th>
{% else %}<td>{{ cell if cell is string else piece(cell) }}</td>{% endif %}
{% endfor %}</tr>
{% endfor %}
</tbody></table></div>
<script type="application/json" id="candidates-rows">{{ data }}</script>
<div popover id="candidate-card" class="card" role="dialog" aria-label="candidate">
<button type="button" class="close" popovertarget="candidate-card" popovertargetaction="hide" aria-label="close">&times;
</button><h3></h3><div class="grid-of" data-grid="" data-title=""></div><p class="links"></p>
<dl class="settings"></dl></div>
{{ other_protocols(notes, protocol_name) }}
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Head:
    key: str  # in the CSV, and in a filter: `kid<0.5`
    title: str
    small: str = ""
    explanation: str = ""


Cell = Text | str


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    name: str
    rung: str
    on_front: bool
    href: str  # its trial's page; empty where there is none
    cells: Sequence[Cell]  # the name first


def content(frames: Frames) -> Content | None:
    search = frames.study.search
    if search is None or not search.candidates:
        return None
    front = {name: place for place, name in enumerate(search.front)}
    ordered = sorted(search.candidates, key=lambda each: _place(each, search, front))
    same, varying = _knobs(ordered, search)
    columns = [column for column in frames.columns if not _is_objective(column, frames)]
    table = Table(frames=frames, search=search, columns=columns, knobs=varying)
    rows = [table.row(each, each.name in front) for each in ordered]
    context = {
        "study": search.name,
        "count": len(rows),
        "objective": frames.title(next(iter(search.objectives))),
        "columns": table.heads,
        "rows": rows[:SHOWN],
        "shown": SHOWN,
        "same": knobs_text(same),
        "data": embedded(table.data(rows)),
        "notes": protocol_notes([row for row in frames.shown if row.other_protocol and row.subject in table.names]),
        "protocol_name": frames.study.protocol_name,
    }
    return Content(context=context)


class Table:
    def __init__(
        self, *, frames: Frames, search: SweepSummary, columns: Sequence[Column], knobs: Sequence[str]
    ) -> None:
        self.frames, self.search, self.columns, self.knobs = frames, search, columns, knobs
        self.readings = {(row.subject, row.quantity): row for row in frames.shown}
        self.names = {each.name for each in search.candidates}
        self.unit = hours_unit(frames)

    @property
    def heads(self) -> list[Head]:
        objectives = [
            Head(key=name, title=self.frames.title(name), small="objective") for name in self.search.objectives
        ]
        columns = [
            Head(key=each.quantity, title=each.title, small="of the twin" if each.of_twin else "",
                 explanation=each.explanation)
            for each in self.columns
        ]  # fmt: skip
        return [
            Head(key="candidate", title="Candidate"),
            Head(key="state", title="State"),
            Head(key="steps", title="Steps", explanation="Of training, at the highest budget with a result."),
            *objectives,
            *columns,
            Head(key=self.unit.replace("-", "_").lower(), title=self.unit),
            *(Head(key=name, title=name, small="knob") for name in self.knobs),
            Head(key="reason", title="Why", explanation="Why it was refused, stopped or failed, or does not count."),
        ]

    def row(self, candidate: CandidateSummary, on_front: bool) -> Row:
        steps = Text(kind="plain", text=f"{candidate.steps:,}", data={"value": exact(candidate.steps)})
        cells: list[Cell] = [candidate.name, BEATEN if candidate.beaten else candidate.state, steps]
        cells += [self._objective(candidate, at) for at in range(len(self.search.objectives))]
        cells += [self._reading(candidate, column) for column in self.columns]
        cells.append(self._hours(candidate))
        cells += [_knob(candidate.parameters.get(name)) for name in self.knobs]
        cells.append(candidate.reason)
        href = self.frames.links.trial(candidate.key) if candidate.key else ""
        return Row(name=candidate.name, rung=candidate.rung, on_front=on_front, href=href, cells=cells)

    def _objective(self, candidate: CandidateSummary, at: int) -> Text:
        """The study's own value, in the look of what its record calls it."""
        name = list(self.search.objectives)[at]
        estimate = self.frames.estimates.get((candidate.name, name))
        value = candidate.values[at] if candidate.values is not None else None
        data = {"subject": candidate.name, "objective": name, "value": exact(value)}
        if value is None:
            return (
                Text(kind="missing", text="not known", data=data, hint=candidate.reason) if candidate.key else UNTRAINED
            )
        kind = estimate.kind if estimate is not None and estimate.value is not None else "recorded"
        other = estimate.other_protocol if estimate is not None else ""
        return Text(kind=kind, text=self.frames.text(name, value), data=data, other_protocol=other)

    def _reading(self, candidate: CandidateSummary, column: Column) -> Text:
        row = self.readings.get((candidate.name, column.quantity))
        return UNTRAINED if row is None else reading_text(row)

    def _hours(self, candidate: CandidateSummary) -> Text:
        if not candidate.key:
            return UNTRAINED
        hours = hours_of(candidate, self.frames)
        if hours is None:
            return Text(kind="missing", text="not recorded", data={"value": ""})
        return Text(kind="plain", text=number(hours), data={"value": exact(hours)})

    def data(self, rows: Sequence[Row]) -> dict[str, Any]:
        """What page.js draws."""
        kinds = [_usual([row.cells[at] for row in rows]) for at in range(len(self.heads))]
        heads = [
            {"key": head.key, "title": f"{head.title}, {head.small}" if head.small else head.title, "kind": kind}
            for head, kind in zip(self.heads, kinds, strict=True)
        ]
        cells = [[_short(cell, kind) for cell, kind in zip(row.cells, kinds, strict=True)] for row in rows]
        return {
            "columns": heads,
            "rows": cells,
            "front": [at for at, row in enumerate(rows) if row.on_front],
            "rungs": {at: row.rung for at, row in enumerate(rows) if row.rung},
            "pages": {at: row.href for at, row in enumerate(rows) if row.href},
            "untrained": UNTRAINED.text,
        }


UNTRAINED = Text(kind="missing", text="not trained", data={"value": ""})


def _usual(cells: Iterable[Cell]) -> str:
    """The kind that most numbers of a column have."""
    kinds = Counter(cell.kind for cell in cells if isinstance(cell, Text) and cell.data.get("value"))
    return kinds.most_common(1)[0][0] if kinds else ""


def _short(cell: Cell, kind: str) -> Any:
    if isinstance(cell, str):
        return cell
    if cell is UNTRAINED:
        return 0
    value = float(str(cell.data.get("value") or "nan"))
    plain = [_whole(value) if math.isfinite(value) else None, cell.text]
    if cell.kind == kind and not cell.other_protocol:
        return plain
    return [*plain, cell.kind, cell.hint, cell.other_protocol]


def _whole(value: float) -> float | int:
    return int(value) if value.is_integer() and abs(value) < 2**53 else value


def _knob(value: object) -> Cell:
    """A number sorts as one; a knob that the candidate does not have is said to be none of it."""
    if value is None:
        return "–"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return Text(
        kind="plain", text=str(value) if isinstance(value, int) else number(value), data={"value": exact(value)}
    )


def embedded(value: Any) -> Markup:
    """JSON that is safe inside a script element: no `<` remains, so none can close it."""
    text = json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace("&", "\\u0026"))


def _is_objective(column: Column, frames: Frames) -> bool:
    """Whether the objectives' columns have it already: itself, or what stands in for it everywhere."""
    objectives = frames.study.search.objectives if frames.study.search is not None else {}
    example = frames.examples.get(column.quantity)
    stands_in = column.stand_in in objectives and (example is None or example.kind == "predicted")
    return column.quantity in objectives or stands_in


def _knobs(candidates: Sequence[CandidateSummary], search: SweepSummary) -> tuple[dict[str, object], list[str]]:
    """What all candidates have in common, and the names of the knobs in which they differ, in the space's order."""
    names = dict.fromkeys([*search.knobs, *(name for each in candidates for name in each.parameters)])
    seen = {name: {repr(each.parameters.get(name)) for each in candidates} for name in names}
    same = [name for name, values in seen.items() if len(candidates) > 1 and len(values) == 1]
    values = {name: candidates[0].parameters.get(name) for name in same}
    return {name: value for name, value in values.items() if value is not None}, [n for n in names if n not in same]


def _place(candidate: CandidateSummary, search: SweepSummary, front: Mapping[str, int]) -> tuple[int, int, float]:
    if candidate.name in front:
        return front[candidate.name], 0, 0.0
    sign = -1.0 if next(iter(search.objectives.values())) == "maximize" else 1.0
    value = sign * candidate.values[0] if candidate.values and not candidate.beaten else math.inf
    return len(front), -candidate.steps, value


SECTION = Section(name="candidates", title="Candidates", template=TEMPLATE, content=content, kinds=("sweep",))
