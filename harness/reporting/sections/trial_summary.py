"""The head of a page about single networks: what each is, what is to know before its numbers are read, where it
belongs, and the commands that repeat or use it."""

from collections.abc import Sequence

from harness.records.placed_cost import PlacedCost
from harness.records.quantity import Predicted
from harness.reporting.entries import score_column
from harness.reporting.format import change, number
from harness.reporting.networks import ShownNetwork
from harness.reporting.section import Content, Frames, Section
from harness.reporting.sections.numbers import difference_of
from harness.reporting.sections.provenance import facts_of

TEMPLATE = """
{% from "macros.html.j2" import facts_list %}
{% if sentence %}<p class="sentence">{{ sentence }}</p>{% endif %}
{% if facts %}{{ facts_list(facts) }}{% endif %}
{% for one in networks %}
{% for line in one.said %}<p class="warning"><b>{{ one.title }}</b>: {{ line }}</p>{% endfor %}
{% endfor %}
{% if answer %}<div class="answer">{% for line in answer %}<p>{{ line }}</p>{% endfor %}</div>{% endif %}
{% for one in networks %}
{% if one.links %}
<p class="links">{% if networks | length > 1 %}{{ one.title }}: {% endif %}
{% for link in one.links %}
{% if link.href %}<a href="{{ link.href }}">{{ link.text }}</a>{% else %}{{ link.text }}{% endif %}
{% if link.note %} <span class="scale">{{ link.note }}</span>{% endif %}
{% if not loop.last %} &middot; {% endif %}
{% endfor %}</p>
{% endif %}
{% endfor %}
{% if commands %}
<pre><code>{% for what, command in commands %}
# {{ what }}
{{ command }}
{% endfor %}</code></pre>
{% endif %}
"""


def content(frames: Frames) -> Content | None:
    networks = list(frames.networks.values())
    if not networks:
        return None
    facts = [each for one in networks for each in _facts(one, several=len(networks) > 1)]
    if any(frames.records.values()):
        facts += [each for each in facts_of(frames) if not each[0].endswith("s")]  # without counts of one
    commands = dict.fromkeys(each for one in networks for each in one.commands)
    context = {"networks": networks, "facts": facts, "commands": list(commands), "answer": _answer(networks)}
    return Content(context={"sentence": sentence(frames), **context})


def sentence(frames: Frames) -> str:
    """What is known of the first score: of one trial its value, of two what the difference tells; empty where nobody
    has one."""
    column = score_column(frames)
    names = [] if column is None else [(one.name, column.quantity) for one in frames.study.subjects]
    known = [frames.estimates[name] for name in names if name in frames.estimates]
    if column is None or len(known) < len(names) or any(each.value is None for each in known):
        return ""
    titles = list(frames.study.titles.values())
    if len(known) > 1:
        return f"{column.title} of {titles[1]} against {titles[0]}: {difference_of(frames, column.quantity)}."
    (one,) = known
    ends = f" ({number(one.low)} to {number(one.high)})" if one.low is not None and one.high is not None else ""
    return f"{column.title} {number(one.value or 0.0, one.unit)}{ends}, of one training."


def _answer(networks: Sequence[ShownNetwork]) -> list[str]:
    """What the networks cost, in a line for each size that all of them have."""
    lines = []
    for where, costs in (("At deployment, the twin", [one.twin for one in networks]),
                         ("As trained" if networks[0].key else "Counted", [one.cost for one in networks])):  # fmt: skip
        known = [cost for cost in costs if cost is not None]
        if known and len(known) == len(networks):
            times = _alone(known[0]) if len(known) == 1 else _beside([one.title for one in networks], known)
            lines.append(f"{where}, at a {known[0].latent}x{known[0].latent} latent: {times}.")
    return lines


def _alone(cost: PlacedCost) -> str:
    return f"{number(cost.params)} parameters, {number(cost.macs)} multiply-adds, {_latency(cost)}"


def _latency(cost: PlacedCost) -> str:
    latency = cost.latency
    if not isinstance(latency, Predicted):
        return f"no latency: {latency.reason}"
    interval = f"{number(latency.low)} to {number(latency.high, 'ms')}"
    return f"{number(latency.value, 'ms')} ({interval}) predicted on the {cost.chip}"


def _beside(titles: Sequence[str], costs: Sequence[PlacedCost]) -> str:
    a, b = costs
    pairs = (("parameters", a.params, b.params), ("multiply-adds", a.macs, b.macs))
    counts = [f"{_change(before, after)} {name}" for name, before, after in pairs]
    latencies = f"{titles[0]} takes {_latency(a)}, {titles[1]} {_latency(b)}"
    return f"{titles[1]} has against {titles[0]} {' and '.join(counts)}; {latencies}{_told_apart(a, b)}"


def _change(before: int, after: int) -> str:
    """`+1.7% (605 M to 615 M)`"""
    return f"{change(after / before - 1) if before else ''} ({number(before)} to {number(after)})".strip()


def _told_apart(a: PlacedCost, b: PlacedCost) -> str:
    one, other = a.latency, b.latency
    if not isinstance(one, Predicted) or not isinstance(other, Predicted):
        return ""
    overlap = one.low <= other.high and other.low <= one.high
    return ": the intervals overlap, so which is faster is not told" if overlap else ""


def _facts(one: ShownNetwork, *, several: bool) -> list[tuple[str, str]]:
    return [(f"Key of {one.title}" if several else "Key", one.key)] if one.key else []


SECTION = Section(
    name="trial_summary", title="Summary", template=TEMPLATE, content=content, place="header",
    kinds=("trial", "comparison"),
)  # fmt: skip
