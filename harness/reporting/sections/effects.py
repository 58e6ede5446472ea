"""What each choice of a factorial ablation does on its own, and whether two choices add up."""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from harness.measure.statistics import LEVEL
from harness.reporting.definition import Column
from harness.reporting.format import change, number, signed
from harness.reporting.section import Content, Frames, Section

Contrast: TypeAlias = dict[str, float]
"""Rung -> its weight; the weights add up to 0."""

TEMPLATE = """
<p>Each choice against the first one of its knob, as the mean over all combinations of the other knobs; then, of each
two choices, what both together do beyond the sum of what each does. The mean goes over the combinations whose partners
are there too: a rule may refuse some{% if beaten %}, and scores leave out what a control beats
({{ beaten | join("; ") }}){% endif %}.{% if tested %} The {{ tested }} intervals of scores hold together at 95% (each
at {{ level }}), apart from the page's other tests: one that excludes 0 tells a difference.{% endif %} Counts are
exact.</p>
<div class="wide"><table class="effects">
<thead><tr><th scope="col">Effect</th>
{% for column in columns %}<th scope="col">{{ column.title }}
{%- if column.of_twin %}<small>of the twin</small>{% endif %}</th>{% endfor %}
</tr></thead><tbody>
{% for title, cells in rows %}
<tr><th scope="row">{{ title }}</th>{% for cell in cells %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}
</tbody></table></div>
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Effect:
    title: str  # `attention: mhsa to mqa`, `attention=mqa beside feed_forward_ratio=3: beyond the sum`
    contrast: Contrast


def content(frames: Frames) -> Content | None:
    levels = {rung.name: rung.levels for rung in frames.study.subjects if rung.levels}
    titles = [effect.title for effect in effects_of(levels)]
    of_columns = {}
    for column in (column for column in frames.columns if column.spread != "instrument"):
        there = {rung: of_rung for rung, of_rung in levels.items() if _counts(frames, column, rung)}
        if effects := {effect.title: effect for effect in effects_of(there)}:
            of_columns[column] = effects
    if not of_columns:
        return None
    tested = sum(len(effects) for column, effects in of_columns.items() if column.spread == "seeds")
    level = 1 - (1 - LEVEL) / max(tested, 1)  # Bonferroni: wrong in any of them at most once in twenty pages
    context = {
        "columns": list(of_columns),
        "rows": [
            (title, [_cell(frames, column, effects.get(title), level) for column, effects in of_columns.items()])
            for title in titles
        ],
        "tested": tested,
        "level": f"{level:.1%}",
        "beaten": [frames.study.titles[rung] for rung in levels if rung in frames.checks.beaten],
    }
    return Content(context=context)


def _counts(frames: Frames, column: Column, rung: str) -> bool:
    """Whether the rung's value in the column may be compared: what the tests of the page leave out is left out here."""
    if column.spread != "seeds":
        return frames.estimates[rung, column.quantity].kind == "counted"
    noise = frames.tests.noises.get(column.quantity)
    refused = frames.checks.why_unranked(rung, column.quantity) or (rung, column.quantity) in frames.apart
    return noise is not None and rung in noise.groups and not refused


def effects_of(levels: Mapping[str, Mapping[str, str]]) -> Iterator[Effect]:
    """The main effects, then the interactions of two knobs, of rungs that are combinations: rung -> knob -> choice."""
    rungs = {tuple(sorted(of_rung.items())): rung for rung, of_rung in levels.items()}
    choices: dict[str, list[str]] = {}
    for of_rung in levels.values():
        for knob, choice in of_rung.items():
            choices.setdefault(knob, [])
            choices[knob] += [choice] if choice not in choices[knob] else []
    changes = [(knob, first, other) for knob, (first, *others) in choices.items() for other in others]
    for knob, first, other in changes:
        if contrast := _mean_over(rungs, levels, {knob: (first, other)}):
            yield Effect(title=f"{knob}: {first} to {other}", contrast=contrast)
    for one, two in itertools.combinations(changes, 2):
        if one[0] != two[0] and (contrast := _mean_over(rungs, levels, {one[0]: one[1:], two[0]: two[1:]})):
            title = f"{one[0]}={one[2]} together with {two[0]}={two[2]}: beyond their sum"
            yield Effect(title=title, contrast=contrast)


def _mean_over(
    rungs: Mapping[tuple[tuple[str, str], ...], str],
    levels: Mapping[str, Mapping[str, str]],
    changed: Mapping[str, tuple[str, str]],
) -> Contrast:
    """The difference (of one knob), or the difference of differences (of two), as the mean over what the other knobs
    have, as far as all its combinations are there: a rule may refuse some."""
    contrasts = []
    for of_rung in levels.values():
        if any(of_rung[knob] != first for knob, (first, _) in changed.items()):
            continue
        contrast: Contrast = {}
        for chosen in itertools.product((0, 1), repeat=len(changed)):
            picked = {knob: pair[at] for (knob, pair), at in zip(changed.items(), chosen, strict=True)}
            rung = rungs.get(tuple(sorted({**of_rung, **picked}.items())))
            if rung is None:
                break
            contrast[rung] = (-1.0) ** (len(changed) - sum(chosen))
        else:
            contrasts.append(contrast)
    return {rung: weight / len(contrasts) for contrast in contrasts for rung, weight in contrast.items()}


def _cell(frames: Frames, column: Column, effect: Effect | None, level: float) -> str:
    """The effect in the column's unit; of a score with its interval. A dash where no pair of combinations is there."""
    if effect is None:
        return "-"
    if column.spread == "seeds":
        interval = frames.tests.noises[column.quantity].contrast(effect.contrast, level)
        return f"{signed(interval.value)} ({signed(interval.low)} to {signed(interval.high)})"
    values = {rung: frames.estimates[rung, column.quantity].value or 0 for rung in effect.contrast}
    difference = sum(weight * values[rung] for rung, weight in effect.contrast.items())
    first = frames.estimates[frames.study.subjects[0].name, column.quantity].value
    relative = f" ({change(difference / first)} of the first rung)" if first else ""
    return ("+" if difference > 0 else "") + number(round(difference)) + relative


SECTION = Section(name="effects", title="Effects", template=TEMPLATE, content=content, kinds=("ablation",))
