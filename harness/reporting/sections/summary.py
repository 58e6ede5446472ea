"""The first screen of an ablation's page: one sentence that answers it, and what each change did, a row a change."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from harness.records.plain import to_plain
from harness.records.yaml_text import write_yaml
from harness.reporting.cells import Head, Text, exact, heads, names_of, value_text
from harness.reporting.claims import Claim
from harness.reporting.definition import Column
from harness.reporting.format import inside, listed, number
from harness.reporting.outcomes import Outcome, caption, columns_of, difference_texts, outcomes_of
from harness.reporting.section import Content, Frames, Section
from harness.reporting.sections.notes import notes_of
from harness.reporting.subjects import Subject

TEMPLATE = """
{% from "macros.html.j2" import piece, attributes, chips %}
<p class="sentence">{{ sentence }}</p>
{{ chips(notes, linked) }}
<table class="matrix cards">
<caption>{{ caption }} Not told: the interval of the difference holds 0, or the reason stands there.
{%- if published %} Orange: what is published of the change, and whether its direction and its size agree here.
{%- if short %} &hellip;: quality that holds at this length of training and judges nothing published.{% endif %}
{%- endif %}</caption>
<thead><tr><th scope="col">{{ noun }}</th>
{% for column in columns %}
<th scope="col" title="{{ column.explanation }}">{{ column.title }}<small>{% if column.of_twin %}of the twin{% endif %}
{%- if column.quantity in names %}{{ "; " if column.of_twin }}{{ names[column.quantity] }}{% endif %}</small></th>
{% endfor %}
</tr></thead>
<tbody>
{% for row in rows %}
<tr data-row="{{ row.head.name }}"{% if row.head.beaten %} class="beaten"{% endif %}>
<th scope="row"><span class="number">{{ row.head.number }}</span><button type="button" class="title"
popovertarget="rung-{{ row.head.name }}">{{ row.head.title }}</button>
<span class="against">{{ "against " ~ row.against if row.against else "what the others begin with" }}</span>
{%- for short, long in row.marks %}<span class="mark" title="{{ long }}">{{ short }}</span>{% endfor %}</th>
{% for cell in row.cells %}
<td class="w-{{ cell.word | replace(' ', '-') }} m-{{ cell.kind }}" data-label="{{ cell.label }}"
{{- attributes(cell.data) }}>
{% if cell.word %}<span class="word" title="{{ cell.why }}">{{ cell.word }}</span>{% endif %}
{% if cell.value %}{{ piece(cell.value) }}{% endif %}
{% if cell.difference %}<span class="difference">{{ cell.difference }}</span>{% endif %}
{% if cell.interval %}<span class="spread">{{ cell.interval }}</span>{% endif %}
{% if cell.why and not cell.told_by_interval %}<span class="why">{{ cell.why }}</span>{% endif %}
{% if cell.published %}
<span class="printed" title="{{ cell.published.hint }}">{{ cell.published.text }}
{%- for mark in cell.marks %}
 <span class="agrees a-{{ mark.state | replace(" ", "-") }}" title="{{ mark.hint }}">
{{- mark.name }} {{ mark.sign }}</span>
{%- endfor %}</span>
{% endif %}</td>
{% endfor %}
</tr>
{% endfor %}
</tbody></table>
{% for card in cards %}
<div popover id="rung-{{ card.head.name }}" class="card" role="dialog" aria-label="{{ card.head.title }}">
<button type="button" class="close" popovertarget="rung-{{ card.head.name }}" popovertargetaction="hide"
aria-label="close">&times;</button>
<h3><span class="number">{{ card.head.number }}</span> {{ card.head.title }}</h3>
<div class="grid-of" data-grid="{{ card.head.name }}" data-title="{{ card.head.title }}"></div>
<dl class="settings">
{% for title, value in card.values %}<div><dt>{{ title }}</dt><dd>{{ piece(value) }}</dd></div>{% endfor %}
{% for knob, value in card.head.edits.items() %}<div><dt>{{ knob }}</dt><dd>{{ value }}</dd></div>{% endfor %}
{% for seed, key in card.keys %}<div><dt>seed {{ seed }}</dt><dd>{{ key }}</dd></div>{% endfor %}
</dl>
<details><summary>Configuration</summary><pre>{{ card.configuration }}</pre></details>
</div>
{% endfor %}
"""
LONGEST_TITLE, MOST_TITLES = 44, 2
LONGEST = 250  # characters: two lines


@dataclass(frozen=True, kw_only=True, slots=True)
class Mark:
    """Whether this run agrees with what is published, in one respect."""

    name: str  # `direction`, `size`
    state: str  # of the claim
    sign: str
    hint: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    label: str  # its column's, for a card
    kind: str
    data: Mapping[str, object]
    word: str = ""
    why: str = ""
    told_by_interval: bool = False  # the interval shows why nothing is told
    value: Text | None = None
    difference: str = ""
    interval: str = ""
    published: Text | None = None
    marks: Sequence[Mark] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    head: Head
    marks: Sequence[tuple[str, str]]  # none where every rung has one: the top says so
    against: str
    cells: Sequence[Cell]


@dataclass(frozen=True, kw_only=True, slots=True)
class Card:
    """What a rung is, in full."""

    head: Head
    values: Sequence[tuple[str, Text]]
    keys: Sequence[tuple[int, str]]
    configuration: str


def content(frames: Frames) -> Content:
    outcomes, columns, row_heads = outcomes_of(frames), columns_of(frames), heads(frames)
    rows = [
        Row(
            head=row_heads[rung.name],
            marks=() if all(head.marks for head in row_heads.values()) else row_heads[rung.name].marks,
            against=_named(row_heads[rung.against]) if rung.against else "",
            cells=[_cell(outcomes.get((rung.name, column.quantity)), rung, column, frames) for column in columns],
        )
        for rung in frames.study.subjects
    ]
    context = {
        "sentence": sentence(frames, outcomes),
        "notes": notes_of(frames),
        "linked": "notes" in frames.definition.sections,
        "caption": caption(frames, columns),
        "published": any(claim.direction.state != "no claim" for claim in frames.claims),
        "short": any(claim.direction.state == "at this length" for claim in frames.claims),
        "noun": frames.study.noun.capitalize(),
        "columns": columns,
        "names": names_of(frames.shown),
        "rows": rows,
        "cards": [_card(frames, rung, row_heads[rung.name]) for rung in frames.study.subjects],
    }
    return Content(context=context)


def _named(head: Head) -> str:
    return f"{head.number} {_short(head.title)}"


def _short(title: str) -> str:
    return title if len(title) <= LONGEST_TITLE else f"{title[: LONGEST_TITLE - 1].rstrip()}\u2026"


def _cell(outcome: Outcome | None, rung: Subject, column: Column, frames: Frames) -> Cell:
    estimate = frames.estimates[rung.name, column.quantity]
    if outcome is None:  # it is compared to nothing: its value stands there
        return Cell(label=column.title, kind=estimate.kind, data={}, value=value_text(estimate, column))
    difference, interval = difference_texts(outcome)
    data = {"subject": rung.name, "outcome": column.quantity, "word": outcome.word}
    data |= {"difference": exact(outcome.difference), "low": exact(outcome.low), "high": exact(outcome.high)}
    return Cell(
        label=column.title,
        kind=outcome.kind,
        data=data,
        word=f"predicted {outcome.word}" if _is_predicted_word(outcome) else outcome.word,
        why=outcome.why,
        told_by_interval=outcome.low is not None and outcome.high is not None and outcome.low <= 0 <= outcome.high,
        difference=difference,
        interval=interval,
        published=_published(outcome.claim),
        marks=list(_marks(outcome.claim)),
    )


def _is_predicted_word(outcome: Outcome) -> bool:
    return outcome.kind == "predicted" and outcome.word != "not told"


def _published(claim: Claim | None) -> Text | None:
    if claim is None or claim.published is None or claim.direction.state == "no claim":
        return None
    cell = claim.published
    return Text(kind="published", text=f"{cell.shown} {cell.source}", hint="what is published of this change")


def _marks(claim: Claim | None) -> Iterable[Mark]:
    """Direction and size apart."""
    if claim is None:
        return
    signs = {"supports": "\u2713", "met": "\u2713", "contradicts": "\u2717", "missed": "\u2717"}
    signs |= {"inconclusive": "?", "at this length": "\u2026"}
    for name, state, why in (
        ("direction", claim.direction.state, claim.direction.reason),
        ("size", claim.size.state, claim.size.reason),
    ):
        if state in signs:
            yield Mark(name=name, state=state, sign=signs[state], hint=f"{name}: {state}{f', {why}' if why else ''}")


def _card(frames: Frames, rung: Subject, head: Head) -> Card:
    records = {seed: frames.records[rung.name, seed] for seed in rung.trials}
    architectures = [record.architecture for record in records.values() if record is not None]
    shown = [*frames.columns, *frames.asides]
    return Card(
        head=head,
        values=[(frames.title(c.quantity), value_text(frames.estimates[rung.name, c.quantity], c)) for c in shown],
        keys=[(seed, "no record" if each is None else f"trial {each.key}") for seed, each in records.items()],
        configuration=write_yaml(to_plain(architectures[0])) if architectures else "no record of it yet",
    )


# -- the sentence


def sentence(frames: Frames, outcomes: Mapping[tuple[str, str], Outcome]) -> str:
    """The page's answer, in at most two lines: nothing that was not shown is said."""
    columns = columns_of(frames)
    rungs = [rung.name for rung in frames.study.subjects if rung.against is not None]
    if not rungs:
        return _alone(frames, columns)
    score = next((column for column in columns if column.spread == "seeds"), None)
    costs = [column for column in columns if column.spread != "seeds"]
    scored = score is not None and any(frames.estimates[rung, score.quantity].value is not None for rung in rungs)
    if score is None or not scored:
        why = "quality was not measured" if score is None else f"{inside(score.title)} is not measured yet"
        return f"{_saving(frames, outcomes, rungs, costs)}; {why}."
    words = {word: [rung for rung in rungs if outcomes[rung, score.quantity].word == word]
             for word in ("better", "same", "worse", "not told")}  # fmt: skip
    if len(words["not told"]) == len(rungs):
        opening = f"No change is shown to move {score.title} ({_why_untold(frames, outcomes, rungs, score)})"
        return f"{opening}; {_saving(frames, outcomes, rungs, costs, first=False)}."
    return _verdict(frames, outcomes, score, costs, words)


def _why_untold(
    frames: Frames, outcomes: Mapping[tuple[str, str], Outcome], rungs: Sequence[str], score: Column
) -> str:
    """Why no change is told at all: what would tell one depends on it."""
    against = frames.study.against
    if all({rung, against[rung]} & frames.checks.beaten.keys() for rung in rungs):
        return "what needs no training beats each, or what it is compared to"
    if all(rule.quantity != score.quantity for rule in frames.definition.claims):
        return "this page tests none"
    if all(outcomes[rung, score.quantity].difference is None for rung in rungs):
        return "no two of them can be compared yet"
    return "one seed a rung cannot tell" if len(frames.study.seeds) == 1 else "more seeds would tell more"


def _alone(frames: Frames, columns: Sequence[Column]) -> str:
    """Of a study that compares nothing: what it has."""
    values = []
    for column in columns:
        estimate = frames.estimates[frames.study.subjects[0].name, column.quantity]
        if estimate.value is not None:
            how = "predicted " if estimate.kind == "predicted" else ""
            values.append(f"{how}{inside(column.title)} {number(estimate.value, estimate.unit)}")
    return f"One network, compared with none: {', '.join(values) or 'nothing is known of it yet'}."


def _verdict(
    frames: Frames,
    outcomes: Mapping[tuple[str, str], Outcome],
    score: Column,
    costs: Sequence[Column],
    words: Mapping[str, Sequence[str]],
) -> str:
    """As much of it as has room: first without costs, then with fewer names."""
    texts = []
    for most, with_costs in ((MOST_TITLES, True), (MOST_TITLES, False), (1, False)):
        texts.append("; ".join(_clauses(frames, outcomes, score, costs, words, most, with_costs)) + ".")
    return next((text for text in texts if len(text) <= LONGEST), texts[-1])


def _clauses(
    frames: Frames,
    outcomes: Mapping[tuple[str, str], Outcome],
    score: Column,
    costs: Sequence[Column],
    words: Mapping[str, Sequence[str]],
    most: int,
    with_costs: bool,
) -> Iterable[str]:
    latency = next((column for column in costs if column.spread == "instrument"), None)
    macs = next((column for column in costs if column.quantity.endswith("macs")), None)
    both = [] if latency is None else [r for r in words["better"] if outcomes[r, latency.quantity].word == "better"]
    if both:
        predicted = latency is not None and outcomes[both[0], latency.quantity].kind == "predicted"
        how = "predicted to be faster" if predicted else "faster"
        yield f"{_titles(frames, both, most)} {'is' if len(both) == 1 else 'are'} both better and {how}"
    elif latency is not None:
        yield f"No {frames.study.noun} is shown to be both better and faster"
    if better := [rung for rung in words["better"] if rung not in both]:
        notes = {rung: _cost(outcomes[rung, macs.quantity], macs) for rung in better if macs} if with_costs else {}
        yield f"{score.title} is better with {_titles(frames, better, most, notes)}"
    if words["worse"]:
        subject = "worse" if words["better"] else f"{score.title} is worse"
        yield f"{subject} with {_titles(frames, words['worse'], most)}"
    total = sum(len(several) for several in words.values())
    if words["not told"]:
        yield f"{len(words['not told'])} of {total} changes are not told"


def _cost(outcome: Outcome, column: Column) -> str:
    """` (27% fewer multiply-adds)`; empty where that is not told, or nothing."""
    if outcome.relative is None or outcome.word not in ("better", "worse"):
        return ""
    return f" ({abs(outcome.relative):.0%} {'fewer' if outcome.relative < 0 else 'more'} {inside(column.title)})"


def _saving(
    frames: Frames,
    outcomes: Mapping[tuple[str, str], Outcome],
    rungs: Sequence[str],
    costs: Sequence[Column],
    *,
    first: bool = True,
) -> str:
    """`separable convolutions: 37% fewer multiply-adds`: the change that saves most of what is counted."""
    column = next((each for each in costs if each.quantity.endswith("macs")), None) or next(iter(costs), None)
    saved = [] if column is None else [
        (relative, rung) for rung in rungs if (relative := outcomes[rung, column.quantity].relative) is not None
        and outcomes[rung, column.quantity].word == "better"
    ]  # fmt: skip
    if column is None or not saved:
        return "No saving is shown" if first else "no saving is shown"
    relative, rung = min(saved)
    what = inside(column.title)
    share = f"{abs(relative):.0%} {'less' if column.spread == 'instrument' else 'fewer'} {what}"
    return f"{'Most is saved by' if first else 'most is saved by'} {_titles(frames, [rung])}: {share}"


def _titles(
    frames: Frames, rungs: Sequence[str], most: int = MOST_TITLES, notes: Mapping[str, str] | None = None
) -> str:
    titles = [_short(frames.study.titles[rung]) + (notes or {}).get(rung, "") for rung in rungs[:most]]
    more = len(rungs) - len(titles)
    return listed([*titles, *([f"{more} more"] if more else [])])


SECTION = Section(
    name="summary", title="Summary", template=TEMPLATE, content=content, kinds=("ablation",), place="header"
)
