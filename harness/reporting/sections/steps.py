"""Scores over the number of solver steps, each network by its best solver and guidance at that number; from the stored
score sweeps of the page's trials."""

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean

import plotly.graph_objects as go

from harness.measure.statistics import Noise, noise_of, sampling_difference
from harness.records.quantities import more_is_better
from harness.records.quantity import Measured
from harness.reporting.drawing import BLUE, GREY, ORANGE, PURPLE, RED, headed
from harness.reporting.entries import score_column, sweep_departures, swept
from harness.reporting.format import number, signed
from harness.reporting.score_sweeps import score_label
from harness.reporting.section import Content, Frames, Section

TEMPLATE = """
{% from "macros.html.j2" import drawing %}
{% if rows %}
<p>Each network's {{ label }} against the number of solver steps, from the same noise and for the same classes. At each
number it stands by the solver and guidance that are best for it in the mean over seeds, of those that were tried:
chosen by the scores that are shown, from as many as are named, so that a network with more to choose from is flattered
more.</p>
{{ drawing("steps", height, "Scores over the number of solver steps") }}
<div class="wide"><table class="ladder sweep">
<thead><tr><th scope="col">Solver steps</th>{% for title in titles %}<th scope="col">{{ title }}</th>{% endfor %}</tr>
</thead><tbody>
{% for steps, cells in rows %}
<tr><th scope="row">{{ steps }}</th>
{%- for cell in cells %}<td>{% if cell %}{{ cell.value }}<span class="spread">{{ cell.how }}</span>
{%- if cell.apart %}<span class="spread">{{ cell.apart }}</span>{% endif %}{% endif %}</td>{% endfor %}</tr>
{% endfor %}
</tbody></table></div>
<p class="scale">A cell: mean over {{ seeds }}; the best of how many; its difference from {{ first }} at as many steps,
with the 95% interval of that comparison alone. {{ noise }}</p>
{% if apart %}<p class="scale">Left out, scored otherwise than this page's trials: {{ apart }}.</p>{% endif %}
{% else %}
<p><span class="k-missing">not measured</span> No score over steps is stored of these networks; this makes them:</p>
<pre><code>{{ command }}</code></pre>
{% endif %}
"""
HEIGHT = 420
SAMPLING = {f"sampling.{name}" for name in ("solver", "steps", "guidance_scale")}
"""What a network may choose."""
COLOURS, SYMBOLS = (BLUE, ORANGE, PURPLE, RED, GREY), ("circle", "square", "diamond", "triangle-up", "x")
BY_SEEDS = "It is the noise over seeds, pooled over the networks at that number of steps."
BY_SAMPLES = "With a single seed it is the noise of sampling alone: another training would differ by more."

Way = tuple[str, float]
"""Solver, guidance scale."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Best:
    """Of one network at one number of steps."""

    way: Way
    tried: int
    scores: Mapping[int | None, Measured]  # by seed

    @property
    def mean(self) -> float:
        return mean(each.value for each in self.scores.values())

    @property
    def how(self) -> str:
        solver, scale = self.way
        guided = "no guidance" if scale == 1 else f"guidance {scale:g}"
        return f"{solver}, {guided}; best of {self.tried}"


def content(frames: Frames) -> Content | None:
    column = score_column(frames)
    if column is None:
        return None
    best, label, apart = bests(frames, column.quantity)
    if not best:
        return Content(context={"rows": [], "command": frames.study.command})
    titles = {one.name: one.title for one in frames.study.subjects if one.name in best}
    first, every = next(iter(titles)), sorted({steps for each in best.values() for steps in each})
    noises = {steps: _noise(best, steps) for steps in every}
    rows = [(steps, [_cell(best, name, first, steps, noises[steps]) for name in titles]) for steps in every]
    seeds = len(frames.study.seeds)
    return Content(
        context={
            "rows": rows, "titles": list(titles.values()), "label": label, "first": titles[first],
            "seeds": f"{seeds} seeds" if seeds > 1 else "one seed", "noise": BY_SEEDS if seeds > 1 else BY_SAMPLES,
            "apart": ", ".join(sorted(apart)),
        },
        figure=steps_figure({titles[name]: each for name, each in best.items()}, label),
    )  # fmt: skip


def bests(frames: Frames, score: str) -> tuple[dict[str, dict[int, Best]], str, set[str]]:
    """Subject -> steps -> its best; what the score is called; and what was scored otherwise than the page's trials."""
    by_network: dict[str, dict[int, dict[Way, dict[int | None, Measured]]]] = {}
    apart, label = set(), score
    for sweep in swept(frames):
        others = sweep_departures(sweep, sweep.measurements[-1], frames.study)
        if other := [each for each in others if each.partition("=")[0] not in SAMPLING]:
            apart.add(f"{sweep.title} ({', '.join(other)})")
            continue
        if sweep.span is not None or score not in sweep.scores:
            continue
        label = score_label(sweep.points, score)
        for point in sweep.points:
            way = str(sweep.conditions["solver"]), point.guidance
            if isinstance(scored := point.scores[score], Measured):
                at = by_network.setdefault(sweep.of.name, {}).setdefault(point.steps, {})
                at.setdefault(way, {})[sweep.of.seed] = scored
    best = {name: {steps: _best(ways, score) for steps, ways in each.items()} for name, each in by_network.items()}
    return {one.name: best[one.name] for one in frames.study.subjects if one.name in best}, label, apart


def _best(ways: Mapping[Way, Mapping[int | None, Measured]], score: str) -> Best:
    """Of those that most seeds have."""
    most = max(map(len, ways.values()))
    whole = {way: scores for way, scores in ways.items() if len(scores) == most}
    means = {way: mean(each.value for each in scores.values()) for way, scores in whole.items()}
    way = (max if more_is_better(score) else min)(means, key=lambda each: means[each])
    return Best(way=way, tried=len(whole), scores=whole[way])


def _noise(best: Mapping[str, Mapping[int, Best]], steps: int) -> Noise | None:
    scores = {name: each[steps].scores for name, each in best.items() if steps in each}
    values = {
        name: {seed: score.value for seed, score in each.items() if seed is not None} for name, each in scores.items()
    }
    return noise_of(values)


def _cell(
    best: Mapping[str, Mapping[int, Best]], name: str, first: str, steps: int, noise: Noise | None
) -> dict[str, str] | None:
    own, other = best[name].get(steps), best[first].get(steps)
    if own is None:
        return None
    between = "" if name == first or other is None else _difference(own, other, name, first, noise)
    return {"value": number(own.mean), "how": own.how, "apart": between}


def _difference(own: Best, other: Best, name: str, first: str, noise: Noise | None) -> str:
    if noise is not None:
        comparison = noise.compare(name, first)
        return f"{signed(comparison.difference)} ({signed(comparison.low)} to {signed(comparison.high)})"
    pairs = [(score, other.scores[seed]) for seed, score in own.scores.items() if seed in other.scores]
    if len(pairs) != 1 or not all(each.replicates for each in pairs[0]):
        return ""
    interval = sampling_difference(*pairs[0])
    return f"{signed(interval.value)} ({signed(interval.low)} to {signed(interval.high)})"


def steps_figure(best: Mapping[str, Mapping[int, Best]], label: str) -> go.Figure:
    """A line a network, by its title, with the range of its seeds."""
    figure, every = go.Figure(), sorted({steps for each in best.values() for steps in each})
    for place, (title, each) in enumerate(best.items()):
        figure.add_trace(_line(title, each, place))
    figure.update_xaxes(
        title="solver steps", type="log", tickvals=every, ticktext=[f"{steps}" for steps in every]
    )  # fmt: skip
    figure.update_yaxes(title=html.escape(label))
    figure.update_layout(
        height=HEIGHT, margin={"l": 60, "r": 16, "t": 48, "b": 48},
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
    )  # fmt: skip
    return headed(figure)


def _line(title: str, best: Mapping[int, Best], place: int) -> go.Scatter:
    steps = sorted(best)
    means = [best[number].mean for number in steps]
    values: list[Sequence[float]] = [[each.value for each in best[number].scores.values()] for number in steps]
    above = [max(each) - middle for each, middle in zip(values, means, strict=True)]
    below = [middle - min(each) for each, middle in zip(values, means, strict=True)]
    return go.Scatter(
        x=steps, y=means, name=html.escape(title), mode="lines+markers", hovertext=[best[each].how for each in steps],
        line={"color": COLOURS[place % len(COLOURS)], "width": 1.5},
        marker={"symbol": SYMBOLS[place % len(SYMBOLS)], "size": 8},
        error_y={"type": "data", "array": above, "arrayminus": below, "thickness": 1, "width": 3},
    )  # fmt: skip


SECTION = Section(name="steps", title="Scores over solver steps", template=TEMPLATE, content=content)
