"""The claim sheet: each rung's tests, and what they say of what is published. Without published numbers, the tests."""

from collections.abc import Mapping
from dataclasses import dataclass

from harness.reporting.cells import Text, heads, published_text
from harness.reporting.claims import Claim, caption_verdict
from harness.reporting.format import change
from harness.reporting.section import Content, Frames, Section

TEMPLATE = """
{% from "macros.html.j2" import row_head, printed, attributes %}
{% if published %}
<p>Does this run support, contradict, or not tell what is published of each rung? First the direction of a change, then,
where a size is printed, whether it is met. The rules stand below the table; they are the same for every run.</p>
{% else %}
<p>What each change did, as far as it was tested. The rules stand below the table; they are the same for every run.</p>
{% endif %}
<div class="wide"><table class="claims cards">
<thead><tr><th scope="col">Rung</th>
{% for rule, column in rules %}
<th scope="col">{{ rule.title }}<small>by {{ column.title }}{% if column.of_twin %} of the twin{% endif %}</small></th>
{% endfor %}
{% if caption %}<th scope="col">The caption<small>&ldquo;{{ caption }}&rdquo;</small></th>{% endif %}
</tr></thead>
<tbody>
{% for head, cells in rows %}
<tr data-row="{{ head.name }}"{% if head.beaten %} class="beaten"{% endif %}>{{ row_head(head) }}
{% for cell in cells %}
<td class="v-{{ cell.verdict | replace(' ', '-') }}" data-label="{{ titles[loop.index0] }}"{{ attributes(cell.data) }}>
{% if cell.verdict != "no claim" %}
<span class="verdict">{{ cell.verdict }}</span>
{% endif %}
{% if cell.published %}<span class="said">{{ printed(cell.published) }}</span>{% endif %}
<span class="reason">{{ cell.reason }}</span>
{% if cell.shown %}<span class="reason">{{ cell.shown }}</span>{% endif %}
{% if cell.tests %}<span class="reason">{{ cell.tests }}, corrected for {{ statements }} tests</span>{% endif %}
{% if cell.size_reason %}
<span class="size z-{{ cell.size | replace(' ', '-') }}">size: {{ cell.size_reason }}</span>
{% endif %}
{% if cell.beside %}<span class="reason">{{ cell.beside }} (shown, not judged)</span>{% endif %}
</td>
{% endfor %}
</tr>
{% endfor %}
</tbody></table></div>
{% for note in notes %}
<p class="scale">{{ note }}</p>
{% endfor %}
<details><summary>The rules</summary>
<ul>
{% for title, noise in seeded %}
<li><b>{{ title }}</b>: {% if noise %}the noise of all rungs is one model, whose spread is constant for small scores and
grows in proportion to the mean for large ones ({{ noise.sentence }}). Student's t on it tests each statement, and
p is corrected for the {{ statements }} tests of this table together (step down, by the joint distribution of the
differences), so that the chance that any of them is wrong is 5%.
{% if published %}
Of &ldquo;lower&rdquo; and &ldquo;higher&rdquo; it is tested whether there is a difference; of &ldquo;about the
same&rdquo; whether the change lies within the margin (two one-sided tests), and whether beyond.
{% else %}
It is tested whether there is a difference.
{% endif %}
More seeds tell more. Nobody knows where noise turns from constant to proportional: of a rung far from all others that
costs up to 10 points of the chance to tell it, in simulations. The intervals beside the statements are at 95%, each for
itself: one may exclude 0 where the corrected test leaves it open.{% elif seeds == 1 %}one seed per rung: no spread over
seeds, so no verdict.
The difference beside it is that of the two networks, with the noise of their images alone (paired: they begin with the
same noise).{% else %}no rung has scores of two seeds that count (beaten rungs do not), so there is no spread and no
verdict.{% endif %}</li>
{% endfor %}
{% if published %}
{% if margins %}
<li><b>&ldquo;About the same&rdquo;</b> is supported where the change is proved to lie within
{% for margin, title in margins %}&plusmn;{{ "%g" % (margin * 100) }}% ({{ title }}){{ ", " if not loop.last }}{%
endfor %}, margins that were fixed before the run. No proof of a difference is no proof of equality: it is
inconclusive.</li>
{% endif %}
<li><b>Counts</b> are exact: the sign decides the direction.{% if laptop %} They are judged on the deployment twin
{%- if twin %}, {{ twin }}{% endif %}; those of the small networks that were trained are no evidence.{% endif %}</li>
<li><b>Latency</b> decides only where it was measured on the device that the claim is about; then the intervals of the
instrument must separate. Another device, or a prediction, is shown but not judged. No change is computed between a
measured and a predicted value.</li>
<li><b>The size</b> of a printed change is met within {{ "%.1f" % (tolerance * 100) }} points; it is a verdict of its
own. A score has none: its images and features are others than the publication's.</li>
{% endif %}
{% if must_beat %}
<li><b>Beaten</b>: a rung whose mean is no better than the score of {{ must_beat | map("replace", "_", " ") |
join(" or ") }} is grey and takes part in no comparison of quality.</li>
{% endif %}
{% if scored %}
<li><b>Undertrained</b>: a straight line through each seed's validation losses, from the last one at or before two
thirds of the steps; the mean fall over that third, relative to where the lines end, is above 0 beyond the points'
jitter
around their lines (pooled over the page, one-sided at 5%, each rung for itself).
{% if published %}What is published is of networks trained to the end: a change in quality of an undertrained rung, or
from one, holds at this length of training and neither supports nor contradicts.{% endif %}
{% if falls %} Falls here:
{% for title, fall in falls %}{{ title }} {{ "%.1f" % (fall * 100) }}%{{ "; " if not loop.last }}{% endfor %}.{% endif
%}
</li>
{% endif %}
{% if caption %}
<li><b>The caption</b>: contradicted if a metric is hurt, or if all are known and nothing improves; supported if one
improves, none is hurt and all are known; else inconclusive. Quality is that of the networks trained here{% if twin %},
costs
are the twin's{% endif %}; a change proved to lie within its margin neither improves nor hurts.</li>
{% endif %}
</ul></details>
"""

SHOW_NOTES = {"beside", "printed"}
"""Sections with the publication's own notes, which need not stand on a page twice."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    verdict: str
    reason: str
    data: Mapping[str, object]
    published: Text | None = None
    size: str = "no claim"
    size_reason: str = ""
    shown: str = ""
    tests: str = ""
    beside: str = ""


def content(frames: Frames) -> Content | None:
    definition, published = frames.definition, frames.published
    if not definition.claims:
        return None
    row_heads = heads(frames)
    compared = [rung.name for rung in frames.study.subjects if rung.against is not None]
    seeded = dict.fromkeys(rule.quantity for rule in definition.claims if rule.rule == "seeds")
    context = {
        "rows": [(row_heads[rung], _cells(rung, frames)) for rung in compared],
        "titles": [*(rule.title for rule in definition.claims), "The caption"],
        "rules": [(rule, definition.column(rule.quantity)) for rule in definition.claims],
        "margins": [(rule.same_within, rule.title) for rule in definition.claims if rule.same_within is not None],
        "published": bool(published.rows),
        "caption": published.caption,
        "notes": () if SHOW_NOTES & set(definition.sections) else published.notes,
        "statements": len(frames.tests.adjusted),
        "seeds": len(frames.study.seeds),
        "seeded": [(definition.column(name).title, frames.tests.noises.get(name)) for name in seeded],
        "laptop": definition.scale == "laptop",
        "twin": frames.study.twin_name,
        "tolerance": definition.tolerance,
        "must_beat": definition.must_beat,
        "scored": bool(definition.control_quantities),
        "falls": [(frames.study.titles[rung], fall.value) for rung, fall in frames.checks.falls.items()],
    }
    return Content(context=context, title="" if published.rows else "The tests")


def _cells(rung: str, frames: Frames) -> list[Cell]:
    """One a rule, and the caption's where the publication has one."""
    claims = [claim for claim in frames.claims if claim.rung == rung]
    if not frames.published.rows:
        return [_effect_cell(claim, frames) for claim in claims]
    cells = [_claim_cell(claim, frames) for claim in claims]
    if frames.published.caption:
        verdict = caption_verdict(claims)
        data = {"subject": rung, "claim": "caption", "verdict": verdict.state}
        cells.append(Cell(verdict=verdict.state, reason=verdict.reason, data=data))
    return cells


def _claim_cell(claim: Claim, frames: Frames) -> Cell:
    data: dict[str, object] = {"subject": claim.rung, "claim": claim.rule.quantity, "verdict": claim.direction.state}
    if claim.size.state != "no claim":
        data["size"] = claim.size.state
    printed = claim.published
    return Cell(
        published=None
        if printed is None
        else published_text(claim.rung, claim.rule.published or "", frames.published, printed),
        verdict=claim.direction.state,
        size=claim.size.state,
        size_reason=claim.size.reason,
        reason=claim.direction.reason,
        shown="" if claim.finding.shown in claim.direction.reason else claim.finding.shown,
        tests=claim.finding.tests,
        beside=_beside_text(claim, frames),
        data=data,
    )


def _effect_cell(claim: Claim, frames: Frames) -> Cell:
    """Where nothing is published: what the change did."""
    finding = claim.finding
    return Cell(
        verdict=finding.effect,
        reason=finding.unknown,
        shown=finding.shown,
        tests=finding.tests,
        beside=_beside_text(claim, frames),
        data={"subject": claim.rung, "claim": claim.rule.quantity, "verdict": finding.effect},
    )


def _beside_text(claim: Claim, frames: Frames) -> str:
    if claim.rule.beside is None or claim.finding.unknown:
        return ""
    other = frames.estimates[claim.rung, claim.rule.beside]
    how = " predicted" if other.kind == "predicted" else ""
    title = frames.definition.column(claim.rule.beside).title
    return f"{title}:{how} {change(other.change)}" if other.change is not None else ""


SECTION = Section(name="claims", title="The claim sheet", template=TEMPLATE, content=content, kinds=("ablation",))
