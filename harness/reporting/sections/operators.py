"""Where the predicted time of each rung goes, operator by operator: what an edit takes from, and what is left."""

from collections.abc import Mapping, Sequence
from typing import Any

from harness.records.placed_cost import PlacedCost
from harness.records.quantity import Predicted
from harness.reporting.cells import Head, Text, exact, heads
from harness.reporting.format import listed, number
from harness.reporting.section import Content, Frames, Section

TEMPLATE = """
{% from "macros.html.j2" import piece %}
<p>Predicted for the {{ chips }}{% if twin %}, of the same edits on {{ twin }}{% endif %}, not measured: the
milliseconds of each operator, and its share of the network's. Their sum is the prediction; its interval is of the
whole, and an operator has none of its own. An operator that takes less than {{ least }} everywhere is among the others.
What becomes part of the operator before it takes no time.</p>
<div class="wide"><table class="plain cards operators">
<thead><tr><th scope="col">Operator</th>
{% for head in heads %}<th scope="col">{{ head.number }} {{ head.title }}</th>{% endfor %}
</tr></thead><tbody>
{% for row in rows %}
<tr{% if row.total %} class="total"{% endif %}><th scope="row">
{%- if row.code %}<code>{{ row.name }}</code>{% else %}{{ row.name }}{% endif %}</th>
{% for cell in row.cells %}<td data-label="{{ heads[loop.index0].title }}">
{%- if cell.text %}{{ piece(cell.text) }}{% if cell.share %}<span class="spread">{{ cell.share }}</span>{% endif %}
{%- endif %}</td>{% endfor %}</tr>
{% endfor %}
</tbody></table></div>
{% for titles, why in without %}<p class="scale">{{ titles }}: no milliseconds, {{ why }}.</p>{% endfor %}
"""
LEAST = 0.01
"""Share of the time, in any rung, that gives an operator its line."""
OVERHEAD, OTHERS, ALL = "start of a prediction", "the other operators", "all"


def content(frames: Frames) -> Content | None:
    """None where nothing is predicted."""
    known = {name: cost for name, cost in frames.placed.items() if isinstance(cost.latency, Predicted)}
    if not known:
        return None
    shown: dict[str, Head] = {name: head for name, head in heads(frames).items() if name in known}
    named = _named(known)
    lines = {name: {each: cost.operators[each].ms or 0.0 for each in named if each in cost.operators}
             for name, cost in known.items()}  # fmt: skip
    rest = {name: sum(share.ms or 0.0 for each, share in cost.operators.items() if each not in named)
            for name, cost in known.items()}  # fmt: skip
    rows = [_row(each, {name: lines[name].get(each) for name in shown}, known, code=True) for each in named]
    rows.append(_row(OTHERS, {name: rest[name] for name in shown}, known))
    rows.append(_row(OVERHEAD, {name: known[name].fixed_ms for name in shown}, known))
    rows.append(_row(ALL, {name: _whole(known[name]) for name in shown}, known) | {"total": True})
    without: dict[str, list[str]] = {}
    for name, cost in frames.placed.items():
        if not isinstance(cost.latency, Predicted):
            without.setdefault(cost.latency.reason, []).append(frames.study.titles[name])
    chips = listed(list(dict.fromkeys(cost.chip for cost in known.values())))
    context = {
        "chips": chips, "twin": frames.study.twin_name, "least": f"{LEAST:.0%}", "heads": list(shown.values()),
        "rows": rows, "without": [(listed(titles), why) for why, titles in without.items()],
    }  # fmt: skip
    return Content(context=context)


def _whole(cost: PlacedCost) -> float:
    return sum(share.ms or 0.0 for share in cost.operators.values()) + cost.fixed_ms


def _named(known: Mapping[str, PlacedCost]) -> Sequence[str]:
    """The operators with a line, the one that takes the greatest share of any rung first."""
    most: dict[str, float] = {}
    for cost in known.values():
        for name, share in cost.operators.items():
            most[name] = max(most.get(name, 0.0), (share.ms or 0.0) / _whole(cost))
    return [name for name, share in sorted(most.items(), key=lambda item: -item[1]) if share >= LEAST]


def _row(
    name: str, times: Mapping[str, float | None], known: Mapping[str, PlacedCost], *, code: bool = False
) -> dict[str, Any]:
    cells = []
    for subject, ms in times.items():
        data = {"subject": subject, "operator": name, "value": exact(ms)}
        text = Text(kind="predicted", text=number(ms, "ms"), data=data) if ms else None
        share = f"{ms / _whole(known[subject]):.0%}" if ms and name != ALL else ""
        cells.append({"text": text, "share": share})
    return {"name": name, "cells": cells, "code": code, "total": False}


SECTION = Section(
    name="operators", title="Where the time goes", template=TEMPLATE, content=content, kinds=("ablation",)
)  # fmt: skip
