"""Every quantity of one network, or of two side by side: how it was obtained, its interval, and of two what is known of
the difference. Scores under two protocols stand side by side and are not compared."""

from collections.abc import Mapping, Sequence
from typing import Any

from harness.records.quantities import QUANTITIES, TWIN
from harness.reporting.cells import Text, exact, shown
from harness.reporting.findings import by_images, change_of
from harness.reporting.format import change, number
from harness.reporting.frames import Estimate, Reading
from harness.reporting.section import Content, Frames, Section

TEMPLATE = """
{% from "macros.html.j2" import piece, kinds %}
{% for line in lines %}<p>{{ line }}</p>{% endfor %}
<div class="wide"><table class="plain numbers"><thead><tr><th scope="col">Quantity</th>
{% for name in names %}<th scope="col">{{ name }}</th>{% endfor %}
<th scope="col">{{ "Difference" if names | length > 1 else "What it is" }}</th></tr></thead><tbody>
{% for row in rows %}
<tr><th scope="row"><span title="{{ row.explanation }}">{{ row.title }}</span>
{% if row.name %}<span class="name">{{ row.name }}</span>{% endif %}</th>
{% for cell in row.cells %}
<td>{{ piece(cell.text) }}{% if cell.note %}<span class="spread">{{ cell.note }}</span>{% endif %}</td>
{% endfor %}
<td class="what">{{ row.explanation if row.difference is none else row.difference }}</td></tr>
{% endfor %}
</tbody></table></div>
<ul class="legend words">{{ kinds() }}</ul>
"""


def content(frames: Frames) -> Content | None:
    names = [one.name for one in frames.study.subjects]
    quantities = list(dict.fromkeys(row.quantity for row in frames.shown if row.kind != "missing"))
    if not quantities:
        return None
    protocols = _other_protocols(frames)
    rows = [_row(frames, quantity, names, protocols) for quantity in _sorted(quantities)]
    titles = [one.title for one in frames.study.subjects]
    return Content(context={"names": titles, "rows": rows, "lines": _lines(frames, protocols)})


def difference_of(frames: Frames, quantity: str) -> str:
    """What is known of the second network's difference from the first, in words."""
    estimates = [frames.estimates[one.name, quantity] for one in frames.study.subjects]
    return _difference(frames, quantity, estimates, _other_protocols(frames))


def _other_protocols(frames: Frames) -> dict[str, str]:
    return {row.subject: row.other_protocol for row in frames.shown if row.other_protocol}


def _lines(frames: Frames, protocols: Mapping[str, str]) -> list[str]:
    lines = []
    for name, apart in protocols.items():
        title = frames.study.titles[name]
        lines.append(f"{title} has another protocol ({apart}): its scores stand here and are not compared.")
    if len(frames.study.subjects) > 1 and not protocols:
        seeds = [", ".join(map(str, one.trials)) or "none" for one in frames.study.subjects]
        titles = [one.title for one in frames.study.subjects]
        by_seed = "; ".join(f"{title}: {each}" for title, each in zip(titles, seeds, strict=True))
        lines.append(f"Trainings with the same protocol in this store, by seed: {by_seed}.")
    return lines


def _sorted(quantities: Sequence[str]) -> list[str]:
    """In the order in which quantities are known: scores, counts, times; the twin's behind."""
    order = {name: index for index, name in enumerate(QUANTITIES)}
    return sorted(quantities, key=lambda name: (name.startswith(TWIN), order.get(name.removeprefix(TWIN), len(order))))


def _row(frames: Frames, quantity: str, names: Sequence[str], protocols: Mapping[str, str]) -> dict[str, Any]:
    estimates = [frames.estimates[name, quantity] for name in names]
    known = QUANTITIES.get(quantity.removeprefix(TWIN))
    labels = dict.fromkeys(filter(None, (_label(frames, name, quantity) for name in names)))
    return {
        "title": frames.title(quantity),
        "name": " and ".join(labels),
        "cells": [_cell(frames, each) for each in estimates],
        "difference": _difference(frames, quantity, estimates, protocols) if len(names) > 1 else None,
        "explanation": known.explanation if known else "",
    }


def _label(frames: Frames, name: str, quantity: str) -> str:
    conditions = (row.conditions for row in frames.shown if (row.subject, row.quantity) == (name, quantity))
    named = next((each for each in conditions if each), {})
    return str(named.get("label") or (f"for {named['chip']}" if "chip" in named else ""))


def _cell(frames: Frames, estimate: Estimate) -> dict[str, object]:
    """The value with its interval; of several seeds their mean and range."""
    data = {"subject": estimate.subject, "quantity": estimate.quantity, "kind": estimate.kind}
    data["value"] = exact(estimate.value)
    text = Text(
        kind=estimate.kind, text=shown(estimate), data=data, hint=estimate.note, other_protocol=estimate.other_protocol
    )
    if estimate.value is None:
        return {"text": text, "note": estimate.note}
    if len(estimate.values) > 1:
        low, high = (number(end, estimate.unit) for end in estimate.seed_range)
        return {"text": text, "note": f"mean of {len(estimate.values)} seeds, {low} to {high}"}
    row = next(iter(_readings(frames, estimate)), None)
    if row is None or row.low is None or row.high is None:
        return {"text": text, "note": estimate.note}
    spread = f", {row.spread}" if row.spread else ""
    return {"text": text, "note": f"{number(row.low, row.unit)} to {number(row.high, row.unit)}{spread}"}


def _readings(frames: Frames, estimate: Estimate) -> list[Reading]:
    key = estimate.subject, estimate.quantity
    return [row for row in frames.shown if (row.subject, row.quantity) == key and row.value is not None]


def _difference(frames: Frames, quantity: str, estimates: Sequence[Estimate], protocols: Mapping[str, str]) -> str:
    """What is known of it, in words: of B against A."""
    a, b = estimates
    if a.value is None or b.value is None:
        return "one of them has no value"
    if a.kind != b.kind:
        return f"one is {a.kind}, the other {b.kind}: not compared"
    if a.kind == "counted":
        return "the same" if a.value == b.value else _relative(a.value, b.value)
    if _is_score(quantity):
        return "another protocol: not compared" if protocols else _of_scores(frames, quantity, a, b)
    if apart := frames.apart.get((b.subject, quantity)):
        return f"{apart}: not compared"
    if None in (a.low, a.high, b.low, b.high):
        return "no interval: not compared"
    if b.overlaps(a):
        return "the intervals overlap: not told"
    return f"{_relative(a.value, b.value)}{', predicted' if a.kind == 'predicted' else ''}"


def _relative(a: float, b: float) -> str:
    return change(b / a - 1) if a > 0 else number(b - a)


def _is_score(quantity: str) -> bool:
    known = QUANTITIES.get(quantity)
    return known is not None and known.spread == "seeds"


def _of_scores(frames: Frames, quantity: str, a: Estimate, b: Estimate) -> str:
    """From the page's noise model where there are seeds; of one training each, what their images alone can say."""
    claim = next((each for each in frames.claims if each.rule.quantity == quantity), None)
    change = change_of(frames.tests.noises, quantity, b.subject, a.subject)
    if change is None:
        if not all(any(row.replicates for row in _readings(frames, each)) for each in (a, b)):
            return "one training each, and no interval of their difference: not compared"
        return by_images(b.subject, a.subject, quantity, frames.shown)
    if claim is None or claim.finding.unknown:
        return f"{change.shown}; not tested"
    words = {"improved": "better", "hurt": "worse", "same": "the same", "inconclusive": "not told apart"}
    return f"{change.shown}; {words[claim.finding.effect]} ({claim.finding.tests})"


SECTION = Section(
    name="numbers", title="Numbers", template=TEMPLATE, content=content, kinds=("trial", "comparison"),
)  # fmt: skip
