"""The top of an ablation's report: what spoils its reading, what came out, what was tested and what was not. Computed,
never written by hand; nothing that was not tested is called a result."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from harness.reporting.claims import Claim
from harness.reporting.definition import ClaimRule, Column
from harness.reporting.findings import change_of
from harness.reporting.format import change, inside, listed, number, points
from harness.reporting.frames import Estimate, relative
from harness.reporting.section import Content, Frames, Section
from harness.reporting.sections.provenance import facts_of
from harness.reporting.subjects import Study

TEMPLATE = """
{% from "macros.html.j2" import facts_list %}
{% for line in answer if line.kind == "warning" %}
<p class="warning"><b>{{ line.lead }}:</b> {{ line.text }}</p>
{% endfor %}
<div class="answer">
{% for line in answer if line.kind == "result" %}
<p><b>{{ line.lead }}:</b> {{ line.text }}</p>
{% endfor %}
</div>
<div class="tests">
{% for kind, title, nothing in (
  ("tested", "Tested", "nothing: no statement about a difference is made here"),
  ("untested", "Not tested", "nothing is left out"),
) %}
<div class="{{ kind }}"><h2>{{ title }}</h2>
<ul>
{% for line in answer if line.kind == kind %}
<li><b>{{ line.lead }}:</b> {{ line.text }}</li>
{% else %}
<li>{{ nothing }}</li>
{% endfor %}
</ul></div>
{% endfor %}
</div>
{{ facts_list(facts) }}
{% if scale_note %}
<p class="scale"><b>Scale.</b> {{ scale_note }}</p>
{% endif %}
"""

RESULTS = """
{% from "macros.html.j2" import facts_list %}
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
"""The top of pages that have no statements to test: `lines` of what came out, and `facts`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    lead: str
    text: str
    kind: Literal["warning", "result", "tested", "untested"] = "result"


def content(frames: Frames) -> Content:
    definition = frames.definition
    return Content(
        context={"answer": answer(frames), "facts": facts_of(frames), "scale_note": definition.scale_note},
    )


def answer(frames: Frames) -> list[Line]:
    """The lines, in the order of reading."""
    results = [*_quality(frames), *_lowest_or_overall(frames), *_published(frames)]
    return [*_warnings(frames), *results, *_tested(frames), *_untested(frames)]


def _summed(frames: Frames) -> list[Column]:
    return [column for column in frames.columns if column.summary]


def _warnings(frames: Frames) -> Iterable[Line]:
    named = [f"{title} ({frames.checks.beaten[rung]})" for rung, title in frames.study.titles.items()
             if rung in frames.checks.beaten]  # fmt: skip
    if named:
        those = "It is" if len(named) == 1 else "They are"
        text = f"{'; '.join(named)}. {those} grey, unranked and compared with nothing in quality."
        yield Line(lead="Beaten without training", text=text, kind="warning")
    falling = {rung: fall.value for rung, fall in frames.checks.undertrained.items()}
    if falling:
        worst, total = max(falling, key=lambda rung: falling[rung]), len(frames.study.subjects)
        who = f"all {total} rungs" if len(falling) == total else listed([frames.study.titles[rung] for rung in falling])
        fell = f"{min(falling.values()):.1%} to {max(falling.values()):.1%}" if len(falling) > 1 else ""
        most = f"{fell}, most in {frames.study.titles[worst]}" if fell else f"{falling[worst]:.1%}"
        text = (
            f"{who}: the validation loss still falls over the last third of the steps, by {most}. "
            "Quality here is that of a short training."
        )
        yield Line(lead="Undertrained", text=text, kind="warning")


def _quality(frames: Frames) -> Iterable[Line]:
    quality = [claim for claim in frames.claims if claim.rule.rule == "seeds"]
    if not quality:
        return
    name = frames.definition.column(quality[0].rule.quantity).title
    by_effect: dict[str, list[Claim]] = {"improved": [], "hurt": [], "same": [], "inconclusive": []}
    for claim in quality:
        by_effect[claim.finding.effect].append(claim)
    count = {effect: len(chosen) for effect, chosen in by_effect.items()}
    same = f", {count['same']} left it as it was" if count["same"] else ""
    yield Line(
        lead="In short",
        text=f"of {len(quality)} changes {count['improved']} improved {name}, {count['hurt']} worsened it{same}; "
        f"{count['inconclusive']} {'is' if count['inconclusive'] == 1 else 'are'} inconclusive.",
    )
    for effect, lead in (("improved", "Helped"), ("hurt", "Hurt"), ("same", "Made no difference")):
        if by_effect[effect]:
            text = "; ".join(f"{frames.study.titles[c.rung]} ({_costs(c.rung, frames)})" for c in by_effect[effect])
            yield Line(lead=lead, text=f"{text}.")
    open_ = [frames.study.titles[claim.rung] for claim in by_effect["inconclusive"] if not claim.finding.unknown]
    if open_:
        yield Line(lead="Inconclusive", text=f"{'; '.join(open_)}: tested, and the seeds leave it open.")


def _costs(rung: str, frames: Frames) -> str:
    """All known changes of one rung: `KID −12.0% (−20.0% to −3.0%), parameters −3.1%`."""
    parts = []
    against = next(one.against for one in frames.study.subjects if one.name == rung)
    for column in _summed(frames):
        ours = frames.estimates[rung, column.quantity]
        seeds = change_of(frames.tests.noises.get(column.quantity), rung, against)
        if seeds is not None:
            parts.append(f"{_named(column, ours)} {seeds.shown}")
        elif ours.change is not None and column.spread != "seeds":
            parts.append(f"{_named(column, ours)} {change(ours.change)}")
    return ", ".join(parts) or "nothing known"


def _lowest_or_overall(frames: Frames) -> Iterable[Line]:
    if _one_at_a_time(frames.study):
        yield Line(lead="Lowest", text=_lowest(frames))
    else:
        yield Line(lead="From the first rung to the last", text=_overall(frames))


def _overall(frames: Frames) -> str:
    """What is exact or measured of both ends; scores only as they are, for nothing here tests the two ends."""
    parts = []
    first, last = frames.study.subjects[0].name, frames.study.subjects[-1].name
    for column in _summed(frames):
        before, after = frames.estimates[first, column.quantity], frames.estimates[last, column.quantity]
        if before.value is None or after.value is None or before.kind != after.kind:
            continue
        values = f"{number(before.value, before.unit)} to {number(after.value, after.unit)}"
        if column.spread == "seeds":
            if not {first, last} & set(frames.checks.beaten):
                parts.append(f"{_named(column, after)} {values} (means, not tested)")
            continue
        total = relative(after.value, before.value)
        if total is not None:
            parts.append(f"{_named(column, after)} {change(total)} ({values})")
    return ", ".join(parts) + "." if parts else "nothing is known of both yet."


def _one_at_a_time(study: Study) -> bool:
    """Whether every rung stands on its own beside the first, so that the last is not the sum of all changes."""
    return len(study.subjects) > 2 and all(rung.against == study.subjects[0].name for rung in study.subjects[1:])


def _lowest(frames: Frames) -> str:
    """The rung with the least of each quantity, of those that no control beats, where it is known of all in one way."""
    parts = []
    rungs = [rung for rung in frames.study.subjects if rung.name not in frames.checks.beaten]
    for column in _summed(frames):
        each = [frames.estimates[rung.name, column.quantity] for rung in rungs]
        values = [one.value for one in each if one.value is not None]
        if values and len(values) == len(each) and len({one.kind for one in each}) == 1:
            least = values.index(min(values))
            how = "mean, order not tested" if column.spread == "seeds" else ""
            value = ", ".join(filter(None, [number(values[least], each[least].unit), how]))
            parts.append(f"{_named(column, each[least])} {rungs[least].title} ({value})")
    return ", ".join(parts) + "." if parts else "no quantity is known for every rung yet."


def _named(column: Column, estimate: Estimate) -> str:
    """`parameters`, or `predicted latency on iPhone`: a prediction is never shown as if it were measured."""
    title = inside(column.title)
    return f"predicted {title}" if estimate.kind == "predicted" and not title.startswith("predicted") else title


def _published(frames: Frames) -> Iterable[Line]:
    states = Counter(claim.direction.state for claim in frames.claims)
    published = len(frames.claims) - states["no claim"]
    if not published:
        return
    text = (
        f"of {published} published directions this run supports {states['supports']} and contradicts "
        f"{states['contradicts']}; {states['inconclusive']} are inconclusive."
    )
    sizes = Counter(claim.size.state for claim in frames.claims)
    printed = len(frames.claims) - sizes["no claim"]
    if printed:
        text += (
            f" Of {printed} printed sizes {sizes['met']} are met within {points(frames.definition.tolerance)}, "
            f"{sizes['missed']} missed, {sizes['inconclusive']} inconclusive."
        )
    yield Line(lead="The published claims", text=text)


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


SECTION = Section(
    name="summary", title="Summary", template=TEMPLATE, content=content, kinds=("ablation",), place="header"
)
