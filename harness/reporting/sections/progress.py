"""How far a search had come after so many candidates: the hypervolume of its front, or the best of one objective."""

import math
from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from harness.records.sweep_summary import SweepSummary
from harness.reporting.drawing import BLUE
from harness.reporting.section import Content, Frames, Section

TEMPLATE = """
{% from "macros.html.j2" import drawing %}
<p>{% if single %}The best so far, over the candidates in the order of proposal.{% else %}
The hypervolume of the front over the candidates in the order of proposal: the share of the box between the worst and
the best value of each objective, {{ scales }}, that the front so far covers. All of it would be one candidate that is
best
in everything.{% endif %} Only candidates trained to the last level count.{% if alone %} It stands alone, since a sweep
has no arm drawn at random: whether it beats chance, a sweep of the same space with <code>sampler=random</code>
tells.{% endif %}</p>
{{ drawing("progress", height, alt) }}
"""
MOST_DRAWN = 1500


def content(frames: Frames) -> Content | None:
    search = frames.study.search
    steps = [] if search is None else course(search)
    if search is None or len(steps) < 2:
        return None
    first = next(iter(search.objectives))
    single = len(search.objectives) == 1
    title = f"Best {frames.title(first)}" if single else "Hypervolume, share of the box"
    context = {
        "single": single,
        "scales": _scales(search, frames),
        "alone": set(search.samplers) - {"random", "qmc", "grid"},
        "alt": f"{title} from {steps[0][1]:.3g} after candidate {steps[0][0]} to {steps[-1][1]:.3g} after candidate "
        f"{steps[-1][0]}",
    }
    return Content(context=context, figure=progress_figure(steps, title))


def course(search: SweepSummary) -> list[tuple[int, float]]:
    """(candidates proposed, hypervolume or best value so far), once for each change, and the end."""
    proposed = enumerate(search.candidates, start=1)
    counted = [(at, each.values) for at, each in proposed if each.state == "complete" and not each.beaten]
    complete = [(at, values) for at, values in counted if values is not None and all(map(math.isfinite, values))]
    if len(complete) < 2:
        return []
    signs = [-1.0 if direction == "maximize" else 1.0 for direction in search.objectives.values()]
    if len(signs) == 1:
        best = np.minimum.accumulate([signs[0] * values[0] for _, values in complete]) * signs[0]
        points = [(at, float(value)) for (at, _), value in zip(complete, best, strict=True)]
    else:
        losses = _in_box(np.array([values for _, values in complete], dtype=float), signs)
        points = list(zip([at for at, _ in complete], _hypervolumes(losses), strict=True))
    changed = [
        each for before, each in zip([None, *points], points, strict=False) if before is None or before[1] != each[1]
    ]
    return changed if changed[-1] is points[-1] else [*changed, points[-1]]


def _in_box(values: np.ndarray, signs: Sequence[float]) -> np.ndarray:
    """Each objective from 0, its best, to 1, its worst; logarithmic where all values are above 0."""
    columns = []
    for column, sign in zip(values.T, signs, strict=True):
        losses = sign * (np.log(column) if (column > 0).all() else column)
        span = float(np.ptp(losses)) or 1.0
        columns.append((losses - losses.min()) / span)
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
    values = [each.values for each in search.candidates if each.state == "complete" and each.values is not None]
    linear = [name for at, name in enumerate(search.objectives) if any(each[at] <= 0 for each in values)]
    if not linear:
        return "on a scale of ratios"
    return f"on a scale of ratios but for {', '.join(frames.title(name) for name in linear)}, which reaches 0"


def progress_figure(points: Sequence[tuple[int, float]], title: str) -> go.Figure:
    drawn = points if len(points) <= MOST_DRAWN else [*points[:: len(points) // MOST_DRAWN + 1], points[-1]]
    figure = go.Figure(
        go.Scatter(
            x=[at for at, _ in drawn], y=[value for _, value in drawn], mode="lines+markers", name=title,
            line={"color": BLUE, "width": 2, "shape": "hv"}, marker={"size": 4},
        )
    )  # fmt: skip
    figure.update_xaxes(title={"text": "candidates proposed", "standoff": 8}, tickformat="d")
    figure.update_yaxes(title={"text": title, "standoff": 6})
    figure.update_layout(height=320, margin={"l": 64, "r": 16, "t": 16, "b": 56}, showlegend=False)
    return figure


SECTION = Section(name="progress", title="Progress", template=TEMPLATE, content=content, kinds=("sweep",))
