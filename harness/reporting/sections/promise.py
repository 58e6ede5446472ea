"""A promoted network: what the search promised of it beside what its full training gave. What it was chosen by
is partly luck, whichever it was, and is said; each is of another protocol, and stands in a column of its own."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean

from harness.measure.statistics import noise_of
from harness.records.manifest import Promotion
from harness.records.quantities import QUANTITIES, TWIN
from harness.records.record import TrialRecord
from harness.records.terminal import count_text
from harness.reporting.cells import Text, exact, reading_text
from harness.reporting.format import number
from harness.reporting.frames import departures, reading
from harness.reporting.section import Content, Frames, Promise, Section

TEMPLATE = """
{% from "macros.html.j2" import kinds, piece %}
<p>{{ sentence }}</p>
{% for one in promises %}
<div class="wide"><table class="plain promise">
<thead><tr><th scope="col">{{ one.title }}</th>
{% for head in one.heads %}
<th scope="col">{{ head.title }}<small>{{ head.of }}</small></th>
{% endfor %}
</tr></thead><tbody>
{% for row in one.rows %}
<tr data-promise="{{ row.quantity }}"><th scope="row">{{ row.title }}</th>
{% for cell in row.cells %}
<td>{% if cell %}{{ piece(cell.text) }}{% if cell.small %}<span class="spread">{{ cell.small }}</span>{% endif %}
{%- endif %}</td>
{% endfor %}
</tr>
{% endfor %}
</tbody></table></div>
{% if one.departures %}
<p class="scale">&dagger; The search's protocol is not this training's, so their scores are not compared:
{{ one.departures }}.</p>
{% endif %}
{% endfor %}
<ul class="legend words">{{ kinds() }}</ul>
"""
SENTENCE = "What the search said of this network before it was promoted, and what its full training gave."
CHOSEN = {
    "search": "--rule {rule} chose it among {among} by their own values, one training each: the best is partly luck.",
    "rescored": (
        "--rule {rule} chose it by the means of the re-scored: the best of {among} re-scored is still partly luck, and "
        "so is the search's own value, which had it re-scored."
    ),
    "rungs": "--rule {rule} chose it among {among} rungs by the means of their seeds: the best of them is partly luck.",
}
THE_ONLY_ONE = (
    "It was the only one that was re-scored, so its re-scored mean chose nobody; the search's own value did, and is "
    "partly luck."
)
NOT_RECORDED = "How it was chosen is not recorded: if by its scores, they are partly luck."
BY_NAME = "It was promoted by name: if its scores were why, they are partly luck."


def content(frames: Frames) -> Content | None:
    if not frames.promises:
        return None
    promises = [_promise(name, promise, frames) for name, promise in frames.promises.items()]
    first = next(iter(frames.promises.values()))
    return Content(context={"promises": promises, "sentence": f"{SENTENCE} {chosen_by(first.promotion)}"})


def chosen_by(promotion: Promotion | None) -> str:
    if promotion is None or not promotion.trials:
        return NOT_RECORDED
    if not promotion.rule:
        return BY_NAME
    if promotion.basis == "rescored" and promotion.among == 1:
        return THE_ONLY_ONE
    return CHOSEN[promotion.basis].format(rule=promotion.rule, among=promotion.among)


def _promise(name: str, promise: Promise, frames: Frames) -> dict[str, object]:
    given = [record for (subject, _), record in frames.records.items() if subject == name and record is not None]
    parent = promise.searched[0]
    own = f"seed {parent.seed}" if len(promise.searched) == 1 else count_text(len(promise.searched), "seed")
    columns = [("The search", f"{parent.name}, {own}", list(promise.searched))]
    if promise.again:
        columns.append(("Re-scored", count_text(len(promise.again), "fresh seed"), list(promise.again)))
    columns_shown = [(title, of, records, ", ".join(_apart(records, frames))) for title, of, records in columns]
    columns_shown.append(("Full training", count_text(len(given), "seed"), given, ""))
    apart = _apart([*promise.searched, *promise.again], frames)
    names = _quantities([*promise.again, *promise.searched, *given], frames)
    rows = [
        {
            "quantity": quantity,
            "title": frames.title(quantity),
            "cells": [_cell(quantity, title, records, other) for title, _, records, other in columns_shown],
        }
        for quantity in names
    ]
    heads = [{"title": f"{title} †" if other else title, "of": of} for title, of, _, other in columns_shown]
    return {"title": name, "heads": heads, "rows": rows, "departures": ", ".join(apart)}


def _apart(records: Sequence[TrialRecord], frames: Frames) -> list[str]:
    """In what the protocol of any of them is not the page's."""
    departing = (each for record in records for each in departures(record.protocol, frames.study.protocol))
    return list(dict.fromkeys(departing))


def _quantities(records: Sequence[TrialRecord], frames: Frames) -> list[str]:
    """The scores first, then what else somebody measured, counted or predicted, as the records name them."""
    known = dict.fromkeys(name for record in records for name in record.quantities)
    scores = [name for name in frames.study.judging.scores if name in known]
    return [*scores, *(name for name in known if name.removeprefix(TWIN) in QUANTITIES and name not in scores)]


def _cell(quantity: str, title: str, records: Sequence[TrialRecord], other: str) -> Mapping[str, object] | None:
    """One record's value with its own interval; of several the mean, with an interval of the trainings' noise."""
    rows = [reading(title, record.seed, quantity, record) for record in records]
    scores = {row.seed or 0: float(row.value) for row in rows if row.value is not None}
    of_trainings = quantity in QUANTITIES and QUANTITIES[quantity].is_learnt
    if not of_trainings or len(scores) < 2:
        row = next((row for row in rows if row.value is not None), rows[0] if rows else None)
        if row is None:
            return None
        text = reading_text(replace(row, other_protocol=other if of_trainings and row.value is not None else ""))
        return {"text": text, "small": _between(row.low, row.high, row.spread)}
    noise, mean = noise_of({title: scores}), fmean(scores.values())
    data = {"subject": title, "quantity": quantity, "kind": "measured", "value": exact(mean)}
    text = Text(kind="measured", text=number(mean, rows[0].unit), data=data, other_protocol=other)
    interval = None if noise is None else noise.contrast({title: 1.0})
    spread = f"95%, {len(scores)} trainings"
    return {"text": text, "small": "" if interval is None else _between(interval.low, interval.high, spread)}


def _between(low: float | None, high: float | None, what: str) -> str:
    return "" if low is None or high is None else f"{number(low)} to {number(high)}{what and f', {what}'}"


SECTION = Section(name="promise", title="Promised and given", template=TEMPLATE, content=content, kinds=("ablation",))
