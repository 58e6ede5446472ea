"""One network, many scores: over guidance and steps, from the stored score sweeps of the page's trials."""

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from harness.records.quantity import Measured
from harness.reporting.cells import Text, reading_text
from harness.reporting.drawing import INK_GREY, headed, wrapped
from harness.reporting.entries import score_column, sweep_departures, swept
from harness.reporting.format import signed
from harness.reporting.frames import reading
from harness.reporting.score_sweeps import (
    VARIED,
    ScorePoint,
    ScoreSweep,
    best_note,
    best_of,
    less_the_best,
    score_label,
    score_traces,
)
from harness.reporting.section import Content, Frames, Section

TEMPLATE = """
{% from "macros.html.j2" import piece, drawing %}
{% if sweeps %}
<p>Each network's score at several guidance scales and numbers of solver steps, all from the same noise and for the same
classes; the interval is the sampling noise of one score. The best was chosen by the very scores shown, so its own is
flattered: fresh samples, sampling.seed=1, tell what it is worth.</p>
{{ drawing("guidance", height, "Scores over the guidance scale, a line a number of steps") }}
{% for each in sweeps %}
<h3>{{ each.title }}</h3>
<p class="scale">{{ each.label }}; {{ each.note }}. All points: {% for name, value in each.conditions %}<span
class="pair"><i>{{ name }}</i> {{ value }}</span>{% endfor %}{% if each.departures %}
&dagger; Unlike this page's protocol in more than guidance and steps: {{ each.departures }}.{% endif %}</p>
<div class="wide"><table class="ladder sweep">
<thead><tr><th scope="col">Solver steps</th>{% for scale in each.scales %}<th scope="col">guidance {{ scale }}</th>
{%- endfor %}</tr></thead><tbody>
{% for steps, cells in each.rows %}
<tr><th scope="row">{{ steps }}</th>
{%- for cell in cells %}<td{% if cell and cell.best %} class="best"{% endif %}>
{%- if cell %}{{ piece(cell.value) }}{% if cell.best %}<span class="mark front best">the best</span>
{%- elif cell.apart %}<span class="spread">{{ cell.apart }}</span>{% endif %}{% endif %}</td>{% endfor %}</tr>
{% endfor %}
</tbody></table></div>
{% endfor %}
<p class="scale">Below a score: its difference from the best one, 95%, paired by their common noise. An interval with 0
in it does not tell the two apart. An empty cell was not asked for.</p>
{% else %}
<p><span class="k-missing">not measured</span> No score over guidance and steps is stored of these networks; this makes
one:</p>
<pre><code>{{ command }}</code></pre>
{% endif %}
"""
COLUMNS, PANEL_PX = 3, 330
APART = 0.012  # of the span of the scales, between the lines
LABEL = 28  # characters of an axis' title on a line
HIDDEN = ("micro_batch", "seed")
"""Of the conditions, what a reader of the head need not see; "Measured under" has all."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    value: Text
    best: bool
    apart: str  # from the best


def content(frames: Frames) -> Content | None:
    score = score_column(frames)
    key = next((record.key for record in frames.records.values() if record and record.state == "complete"), "KEY")
    command = f"harness evaluate {key} --guidance 1 1.25 1.5 2 --steps 10 25 50"
    sweeps = {} if score is None else _sweeps(frames)
    if score is None or not sweeps:
        return None if score is None else Content(context={"sweeps": [], "command": command})
    return Content(
        context={"sweeps": [_table(title, sweep, name, frames) for title, (sweep, name) in sweeps.items()]},
        figure=guidance_figure({title: (sweep.points, name) for title, (sweep, name) in sweeps.items()}),
    )


def _sweeps(frames: Frames) -> dict[str, tuple[ScoreSweep, str]]:
    """Title -> a sweep of several points, and the score that tells its best: the page's, where its points have it."""
    score, titled = score_column(frames), dict[str, tuple[ScoreSweep, str]]()
    assert score is not None
    for sweep in (each for each in swept(frames) if len(each.measurements) > 1 and each.scores):
        name = score.quantity if score.quantity in sweep.scores else sweep.scores[0]
        title = sweep.title
        again = sum(other == title or other.startswith(f"{title}, sweep") for other in titled)
        titled[f"{title}, sweep {again + 1}" if again else title] = (sweep, name)
    return titled


def _table(title: str, sweep: ScoreSweep, score: str, frames: Frames) -> dict[str, object]:
    points, apart_from = sweep.points, sweep_departures(sweep, sweep.measurements[-1], frames.study)
    best, apart = best_of(points, score), less_the_best(points, score)
    cells: dict[tuple[int, float], Cell] = {}
    for point, measurement, interval in zip(points, sweep.measurements, apart, strict=True):
        name = f"{sweep.title}, guidance {point.guidance:g}, {point.steps} steps"
        text = reading_text(reading(name, sweep.of.seed, score, measurement))  # its head says under what
        between = "" if interval is None else f"{signed(interval[0])} to {signed(interval[1])}"
        cells[point.steps, point.guidance] = Cell(value=text, best=point == best, apart=between)
    scales = sorted({guidance for _, guidance in cells})
    return {
        "title": title,
        "label": score_label(points, score),
        "note": best_note(points, score),
        "conditions": [
            (name, f"{value:,}" if isinstance(value, int) else value)
            for name, value in sweep.conditions.items()
            if name not in HIDDEN
        ],
        "departures": ", ".join(each for each in apart_from if not _is_varied(each)),
        "scales": [f"{scale:g}" for scale in scales],
        "rows": [
            (steps, [cells.get((steps, scale)) for scale in scales]) for steps in sorted({each for each, _ in cells})
        ],
    }


def _is_varied(departure: str) -> bool:
    """`sampling.steps=50`: what the table's heads say."""
    return departure.partition("=")[0] in {f"sampling.{name}" for name in VARIED}


def guidance_figure(sweeps: Mapping[str, tuple[Sequence[ScorePoint], str]]) -> go.Figure:
    """A panel a sweep, in which a line is a number of steps, of one colour in all panels; the best has a ring."""
    columns = min(COLUMNS, len(sweeps))
    rows = math.ceil(len(sweeps) / columns)
    titles = [f"{html.escape(title)}; ring: best of {len(points)}" for title, (points, _) in sweeps.items()]
    figure = make_subplots(
        rows=rows, cols=columns, horizontal_spacing=0.08, vertical_spacing=0.3 / rows, subplot_titles=titles
    )  # fmt: skip
    every = sorted({point.steps for points, _ in sweeps.values() for point in points})
    for index, (points, score) in enumerate(sweeps.values()):
        place = {"row": index // columns + 1, "col": index % columns + 1}
        for trace in _traces(points, score, every):
            figure.add_trace(trace, **place)
        figure.update_yaxes(title={"text": wrapped(score_label(points, score), LABEL), "standoff": 4}, **place)
        figure.update_xaxes(title={"text": "guidance scale (1 is none)", "standoff": 4}, **place)
    for steps in map(str, every):  # one entry a number of steps
        for trace in list(figure.select_traces(selector={"legendgroup": steps}))[1:]:
            trace.showlegend = False
    figure.update_layout(
        height=110 + PANEL_PX * rows, margin={"l": 60, "r": 16, "t": 72, "b": 48},
        legend={"orientation": "h", "x": 0, "y": 0.995, "yanchor": "top", "yref": "container",
                "title": {"text": "solver steps"}},
    )  # fmt: skip
    return headed(figure)


def _traces(points: Sequence[ScorePoint], score: str, every: Sequence[int]) -> list[go.Scatter]:
    """The lines, a little apart sideways so that their intervals can be told, and the ring around the best."""
    scales = [point.guidance for point in points]
    apart = APART * ((max(scales) - min(scales)) or 1.0)
    shift = {steps: (place - (len(every) - 1) / 2) * apart for place, steps in enumerate(every)}
    traces = score_traces(points, score, every)
    for trace in traces:
        exact = [f"guidance {scale:g}, {trace.name} steps" for scale in trace.x]
        moved = [scale + shift[int(trace.name)] for scale in trace.x]
        trace.update(legendgroup=trace.name, x=moved, hovertext=exact, hoverinfo="text+y")
    best = best_of(points, score)
    if best is not None and isinstance(chosen := best.scores[score], Measured):
        ring = {"symbol": "circle-open", "size": 18, "color": INK_GREY, "line": {"width": 2}}
        x = [best.guidance + shift[best.steps]]
        traces.append(go.Scatter(x=x, y=[chosen.value], mode="markers", marker=ring, name="best", showlegend=False,
                                 hoverinfo="skip"))  # fmt: skip
    return traces


SECTION = Section(name="guidance", title="Guidance and steps", template=TEMPLATE, content=content)
