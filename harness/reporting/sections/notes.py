"""How to read an ablation's page: what spoils its reading, what was tested and what was not, what it is of. Computed,
never written by hand; nothing that was not tested is called a result."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from harness.measure.statistics_trends import Fall
from harness.records.terminal import count_text
from harness.reporting.cells import protocol_notes
from harness.reporting.definition import ClaimRule, Column
from harness.reporting.format import inside, listed, points
from harness.reporting.outcomes import columns_of
from harness.reporting.remarks import remarks_in, remarks_of, teachers_played
from harness.reporting.section import Content, Frames, Section
from harness.reporting.sections.provenance import facts_of

TEMPLATE = """
{% from "macros.html.j2" import facts_list %}
{{ facts_list(facts) }}
<dl class="reading">
{% for note in notes %}
<div id="note-{{ note.name }}"{% if note.warns %} class="warns"{% endif %}><dt>{{ note.title }}</dt><dd>{{ note.text }}
</dd></div>
{% endfor %}
</dl>
<div class="tests">
{% for kind, title, nothing in (
  ("tested", "Tested", "nothing: no statement about a difference is made here"),
  ("untested", "Not tested", "nothing is left out"),
) %}
<div class="{{ kind }}"><h3>{{ title }}</h3>
<ul>
{% for line in tests if line.kind == kind %}
<li><b>{{ line.lead }}:</b> {{ line.text }}</li>
{% else %}
<li>{{ nothing }}</li>
{% endfor %}
</ul></div>
{% endfor %}
</div>
"""

RESULTS = """
{% from "macros.html.j2" import facts_list %}
{% if sentence %}<p class="sentence">{{ sentence }}</p>{% endif %}
{% for line in lines if line.kind == "warning" %}
<p class="warning"><b>{{ line.lead }}:</b> {{ line.text }}</p>
{% endfor %}
<div class="answer">
{% for line in lines if line.kind == "result" %}
<p><b>{{ line.lead }}:</b> {{ line.text }}</p>
{% endfor %}
</div>
{{ facts_list(facts) }}
{% if scale_note %}
<p class="scale"><b>Scale.</b> {{ scale_note }}</p>
{% endif %}
"""
"""The top of pages that have no statements to test: a `sentence` that answers, `lines` of what came out, `facts`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    lead: str
    text: str
    kind: Literal["warning", "result", "tested", "untested"] = "result"


@dataclass(frozen=True, kw_only=True, slots=True)
class Note:
    """A thing to know before the page is believed, and the few words that point to it from its top."""

    name: str  # `undertrained`; its anchor is `note-undertrained`
    chip: str  # empty: the top does not point to it
    title: str
    text: str
    warns: bool = False


def content(frames: Frames) -> Content:
    return Content(
        context={
            "facts": facts_of(frames),
            "notes": notes_of(frames),
            "tests": [*_tested(frames), *_untested(frames)],
        }
    )


def notes_of(frames: Frames) -> list[Note]:
    """In the order of their weight."""
    own = (
        _damaged(frames),
        _records(frames),
        _remarks(frames),
        _beaten(frames),
        _undertrained(frames),
        _too_few_validations(frames),
        _seeds(frames),
        _protocols(frames),
    )
    others = (_predicted(frames), _scale(frames), _teachers(frames), _published(frames))
    return [note for note in (*own, *others) if note is not None]


def _damaged(frames: Frames) -> Note | None:
    if not (unreadable := frames.unreadable):
        return None
    (name, seed), why = next(iter(unreadable.items()))
    chip = f"{count_text(len(unreadable), 'record')} cannot be read"
    text = f"{chip}, and count as not measured; {frames.study.titles[name]}, seed {seed}: {why}."
    return Note(name="damaged", chip=chip, title="Damaged, or of another version", text=text, warns=True)


def _records(frames: Frames) -> Note | None:
    lost = [key for key, record in frames.records.items() if record is None and key not in frames.unreadable]
    unfinished = [record.state for record in frames.records.values() if record and record.state != "complete"]
    if not lost and not unfinished:
        return None
    total = len(frames.records)
    parts = [f"{len(lost)} of {total} trainings have no record yet"] if lost else []
    parts += [f"{count} {'is' if count == 1 else 'are'} {state}" for state, count in Counter(unfinished).items()]
    text = f"{'; '.join(parts)}. `{frames.study.command}` continues where the study stopped."
    whole = total - len(lost) - len(unfinished) - len(frames.unreadable)
    return Note(name="records", chip=f"{whole} of {total} trainings done", title="Unfinished", text=text, warns=True)


def _remarks(frames: Frames) -> Note | None:
    if not (remarks := remarks_in(frames.records, frames.study.titles)):
        return None
    count = sum(bool(record and remarks_of(record)) for record in frames.records.values())
    chip = f"remarks of {count_text(count, 'training')}"
    return Note(name="remarks", chip=chip, title="Told while training", text=f"{'; '.join(remarks)}.", warns=True)


def _beaten(frames: Frames) -> Note | None:
    beaten = {rung: why for rung, why in frames.checks.beaten.items() if why}
    if not beaten:
        return None
    named = [f"{frames.study.titles[rung]} ({why})" for rung, why in beaten.items()]
    those = "It is" if len(named) == 1 else "They are"
    text = f"{'; '.join(named)}. {those} grey, unranked and compared with nothing in quality."
    chip = f"{len(named)} of {len(frames.study.subjects)} {frames.study.noun}s beaten without training"
    return Note(name="beaten", chip=chip, title="Beaten without training", text=text, warns=True)


def _undertrained(frames: Frames) -> Note | None:
    falling = frames.checks.undertrained
    if not falling:
        return None
    who, most = _falls_text(falling, frames)
    text = (
        f"{who}: the validation loss still falls over the last third of the steps, by {most} (of where it ends). "
        "Quality here is that of a short training."
    )
    chip = f"{len(falling)} of {len(frames.study.subjects)} undertrained"
    return Note(name="undertrained", chip=chip, title="Undertrained", text=text, warns=True)


def _too_few_validations(frames: Frames) -> Note | None:
    """A steep fall that nothing tells from jitter is no sign of a long enough training."""
    if not (falling := frames.checks.too_few_validations):
        return None
    who, most = _falls_text(falling, frames)
    text = (
        f"{who}: the last third of the steps has two validations a training, too few to tell whether the loss still "
        f"falls. Between them it fell by {most}. A smaller recipe.validate_every, or more steps, would tell."
    )
    chip = "too few validations to tell who is undertrained"
    return Note(name="validations", chip=chip, title="Too few validations to tell", text=text, warns=True)


def _falls_text(falls: Mapping[str, Fall], frames: Frames) -> tuple[str, str]:
    """Whose these are, and how far: `2% to 9%, most in MQA`."""
    falling = {rung: fall.value for rung, fall in falls.items()}
    worst, total = max(falling, key=lambda rung: falling[rung]), len(frames.study.subjects)
    who = f"all {total} rungs" if len(falling) == total else listed([frames.study.titles[rung] for rung in falling])
    fell = f"{min(falling.values()):.1%} to {max(falling.values()):.1%}" if len(falling) > 1 else ""
    return who, f"{fell}, most in {frames.study.titles[worst]}" if fell else f"{falling[worst]:.1%}"


def _seeds(frames: Frames) -> Note | None:
    if not frames.tests.noises and len(frames.study.seeds) == 1 and frames.definition.claims:
        text = "There is no spread over seeds to compare with, so no difference of a score is told: train more seeds."
        return Note(name="seeds", chip="one seed", title="One seed a rung", text=text, warns=True)
    return None


def _protocols(frames: Frames) -> Note | None:
    others = protocol_notes(frames.shown)
    if not others:
        return None
    text = f"Marked \u2020 and compared with nothing of this page's protocol: {'; '.join(others)}."
    return Note(name="protocols", chip="\u2020 several protocols", title="Other protocols", text=text, warns=True)


def _predicted(frames: Frames) -> Note | None:
    kinds = {(estimate.quantity, estimate.kind) for estimate in frames.estimates.values()}
    predicted = [column for column in columns_of(frames) if (column.quantity, "predicted") in kinds]
    if not predicted:
        return None
    titles = listed([inside(column.title) for column in predicted])
    text = (
        f"{titles[0].upper()}{titles[1:]}: nobody measured it; it is predicted from the network's operators, with an "
        "interval. Where two intervals overlap the page does not tell which is less, and a prediction decides no claim."
    )
    return Note(name="predicted", chip=f"{titles} predicted", title="Predicted", text=text)


def _scale(frames: Frames) -> Note | None:
    if not frames.definition.scale_note:
        return None
    whose = ", costs of their twins" if frames.study.twin is not None else ""
    chip = f"stand-ins: small networks{whose}" if frames.definition.scale == "laptop" else ""
    return Note(name="scale", chip=chip, title="Scale", text=frames.definition.scale_note)


def _teachers(frames: Frames) -> Note | None:
    if not (played := teachers_played(frames.records, frames.study.titles)):
        return None
    return Note(name="teacher", chip="", title="The few-step teacher", text=f"{'; '.join(played)}.")


def _published(frames: Frames) -> Note | None:
    states = Counter(claim.direction.state for claim in frames.claims)
    published = len(frames.claims) - states["no claim"]
    if not published:
        return None
    text = (
        f"Of {published} published directions this run supports {states['supports']} and contradicts "
        f"{states['contradicts']}; {states['inconclusive']} are inconclusive."
    )
    if short := states["at this length"]:
        text += f" {short} more {'is' if short == 1 else 'are'} told at this length of training only."
    sizes = Counter(claim.size.state for claim in frames.claims)
    printed = len(frames.claims) - sizes["no claim"]
    if printed:
        text += (
            f" Of {printed} printed sizes {sizes['met']} are met within {points(frames.definition.tolerance)}, "
            f"{sizes['missed']} missed, {sizes['inconclusive']} inconclusive."
        )
    sheet = " The claim sheet has each." if "claims" in frames.definition.sections else ""
    return Note(name="published", chip="", title="The published claims", text=text + sheet)


def _tested(frames: Frames) -> Iterable[Line]:
    for rule in frames.definition.claims:
        chosen = [claim for claim in frames.claims if claim.rule == rule]
        answered = [claim for claim in chosen if not claim.finding.unknown]
        if answered:
            of = (
                f"all {len(chosen)} changes"
                if len(answered) == len(chosen)
                else f"{len(answered)} of {len(chosen)} changes"
            )
            what = f"{frames.definition.column(rule.quantity).title} of " if rule.rule == "seeds" else ""
            yield Line(lead=rule.title, text=f"{what}{of}, {_method_text(rule, frames)}", kind="tested")


def _method_text(rule: ClaimRule, frames: Frames) -> str:
    if rule.rule == "seeds":
        seeds, noise = len(frames.study.seeds), frames.tests.noises[rule.quantity]
        paired = ", paired by seed" if noise.paired else ""
        statements = len(frames.tests.adjusted)
        return f"by {seeds} trainings per rung{paired}; p corrected for {statements} tests."
    where = f" on the deployment twin, {frames.study.twin_name}" if rule.quantity.startswith("twin.") else ""
    return f"counted{where}: exact." if rule.rule == "count" else f"measured{where}."


def _untested(frames: Frames) -> Iterable[Line]:
    for rule in frames.definition.claims:
        why: dict[str, list[str]] = {}
        for claim in (claim for claim in frames.claims if claim.rule == rule and claim.finding.unknown):
            why.setdefault(claim.finding.unknown, []).append(frames.study.titles[claim.rung])
        total = sum(claim.rule == rule for claim in frames.claims)
        for reason, titles in why.items():
            who = "" if len(titles) == total else f"{listed(titles)}: "
            yield Line(lead=rule.title, text=f"{who}{reason}.", kind="untested")
    shown = [column.title for column in frames.columns if not _is_tested(column, frames)]
    if shown:
        yield Line(lead=listed(shown), text="shown, not tested.", kind="untested")
    if frames.asides:
        text = "their counts and times are shown, and are no evidence for a published count or latency."
        yield Line(lead="The networks trained here", text=text, kind="untested")


def _is_tested(column: Column, frames: Frames) -> bool:
    return any(rule.quantity == column.quantity for rule in frames.definition.claims)


SECTION = Section(name="notes", title="How to read this", template=TEMPLATE, content=content, kinds=("ablation",))
