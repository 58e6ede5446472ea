"""How far a search had come after so many candidates: the hypervolume of its front, or the best of one objective."""

import math
from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from harness.records.sweep_summary import SweepSummary
from harness.reporting.drawing import BLUE, GREY
from harness.reporting.section import Content, Frames, Section

TEMPLATE = """
{% from "macros.html.j2" import drawing %}
<p>{% if single %}The best so far, over the candidates in the order of proposal.{% else %}
The hypervolume of the front over the candidates in the order of proposal: the share of the box between the worst and
the best value of each objective, {{ scales }}, that the front so far covers. All of it would be one candidate that is
best
in everything.{% endif %} Only candidates trained to the last level count.{% if beside %} Beside it the sweep
{{ beside }}, the same search all at random{{ "" if single else ", in the same box" }}: one run each, whose difference
is partly luck.{% elif alone %} It stands alone: whether it beats chance, a sweep of the same content under another name
with <code>sampler: random</code> tells, which is drawn beside it.{% endif %}</p>
{{ drawing("progress", height, alt) }}
"""
MOST_DRAWN = 1500


def content(frames: Frames) -> Content | None:
    search = frames.study.search
    steps = [] if search is None else course(search, search.chance)
    if search is None or len(steps) < 2:
        return None
    chance = [] if search.chance is None else course(search.chance, search)
    first = next(iter(search.objectives))
    single = len(search.objectives) == 1
    title = f"Best {frames.title(first)}" if single else "Hypervolume, share of the box"
    context = {
        "single": single,
        "scales": _scales(search, frames),
        "beside": search.chance.name if search.chance is not None and chance else "",
        "alone": set(search.samplers) - {"random", "qmc", "grid"},
        "alt": f"{title} from {steps[0][1]:.3g} after candidate {steps[0][0]} to {steps[-1][1]:.3g} after candidate "
        f"{steps[-1][0]}",
    }
    return Content(context=context, figure=progress_figure(steps, title, chance))


def course(search: SweepSummary, beside: SweepSummary | None = None) -> list[tuple[int, float]]:
    """(candidates proposed, hypervolume or best value so far), once for each change, and the end. The box is that of
    this search and of what stands beside it."""
    complete = _counted(search)
    if len(complete) < 2:
        return []
    every = [values for _, values in [*complete, *(_counted(beside) if beside is not None else [])]]
    signs = [-1.0 if direction == "maximize" else 1.0 for direction in search.objectives.values()]
    if len(signs) == 1:
        best = np.minimum.accumulate([signs[0] * values[0] for _, values in complete]) * signs[0]
        points = [(at, float(value)) for (at, _), value in zip(complete, best, strict=True)]
    else:
        losses = _in_box(np.array([values for _, values in complete], dtype=float), np.array(every, dtype=float), signs)
        points = list(zip([at for at, _ in complete], _hypervolumes(losses), strict=True))
    changed = [
        each for before, each in zip([None, *points], points, strict=False) if before is None or before[1] != each[1]
    ]
    return changed if changed[-1] is points[-1] else [*changed, points[-1]]


def _counted(search: SweepSummary) -> list[tuple[int, tuple[float, ...]]]:
    """(candidates proposed so far, values) of each that counts."""
    proposed = enumerate(search.candidates, start=1)
    counted = [(at, each.values) for at, each in proposed if each.state == "complete" and not each.beaten]
    return [(at, values) for at, values in counted if values is not None and all(map(math.isfinite, values))]


def _in_box(values: np.ndarray, every: np.ndarray, signs: Sequence[float]) -> np.ndarray:
    """Each objective from 0, the best of `every` value, to 1, their worst; logarithmic where all are above 0."""
    columns = []
    for column, whole, sign in zip(values.T, every.T, signs, strict=True):
        losses, box = (sign * (np.log(each) if (whole > 0).all() else each) for each in (column, whole))
        span = float(np.ptp(box)) or 1.0
        columns.append((losses - box.min()) / span)
    return np.stack(columns, axis=1)


def _hypervolumes(losses: np.ndarray) -> list[float]:
    """Of the front of the first 1, 2, ...; it is computed again where a new one changes the front."""
    from optuna._hypervolume import compute_hypervolume

    corner = np.ones(losses.shape[1])
    front = np.empty((0, losses.shape[1]))
    volume, volumes = 0.0, []
    for each in losses:
        if not (front <= each).all(axis=1).any():
            front = np.vstack([front[~(each <= front).all(axis=1)], each])
            volume = float(compute_hypervolume(front, corner))
        volumes.append(volume)
    return volumes


def _scales(search: SweepSummary, frames: Frames) -> str:
    values = [values for _, values in [*_counted(search), *(_counted(search.chance) if search.chance else [])]]
    linear = [name for at, name in enumerate(search.objectives) if any(each[at] <= 0 for each in values)]
    if not linear:
        return "on a scale of ratios"
    return f"on a scale of ratios but for {', '.join(frames.title(name) for name in linear)}, which reaches 0"


def progress_figure(
    points: Sequence[tuple[int, float]], title: str, chance: Sequence[tuple[int, float]] = ()
) -> go.Figure:
    figure = go.Figure()
    for course_of, name, color, dash in ((chance, "at random", GREY, "dot"), (points, "this search", BLUE, "solid")):
        if course_of:
            drawn = course_of[:: len(course_of) // MOST_DRAWN + 1]
            drawn = [*drawn, *([] if drawn[-1] is course_of[-1] else course_of[-1:])]
            figure.add_trace(
                go.Scatter(
                    x=[at for at, _ in drawn], y=[value for _, value in drawn], mode="lines+markers", name=name,
                    line={"color": color, "width": 2, "shape": "hv", "dash": dash}, marker={"size": 4},
                )
            )  # fmt: skip
    figure.update_xaxes(title={"text": "candidates proposed", "standoff": 8}, tickformat="d")
    figure.update_yaxes(title={"text": title, "standoff": 6})
    figure.update_layout(height=320, margin={"l": 64, "r": 16, "t": 16, "b": 56}, showlegend=bool(chance))
    return figure


SECTION = Section(name="progress", title="Progress", template=TEMPLATE, content=content, kinds=("sweep",))
