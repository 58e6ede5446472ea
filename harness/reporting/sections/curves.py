"""Training and validation loss over the steps."""

import html
import math

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from harness.reporting.checks import TrainingChecks
from harness.reporting.definition import ReportDefinition
from harness.reporting.drawing import BLUE, GREY, INK_GREY, ORANGE, headed, on_a_phone, wrapped
from harness.reporting.format import number
from harness.reporting.frames import curves
from harness.reporting.section import Content, Frames, Section
from harness.reporting.subjects import PageKind, Study, Subject

TEMPLATE = """
{% from "macros.html.j2" import drawing %}
{% if height is defined %}
<p>{% if "train" in drawn %}<span class="swatch train"></span>training{{ " and " if "validation" in drawn }}{% endif %}
{% if "validation" in drawn %}<span class="swatch validation"></span>validation{% endif %} loss of each {{ noun }}, one
line per seed{% if several and "validation" in drawn %}; behind, in grey, the validation of the other {{ noun }}s
{%- endif %}. Loss on a logarithmic scale.</p>
{{ drawing("curves", height, alt, fits=true) }}
{% else %}
<p class="k-missing">not measured: no record has a curve</p>
{% endif %}
"""


def content(frames: Frames) -> Content | None:
    study, definition = frames.study, frames.definition
    if not trained(frames):
        return None
    frame = curves(frames.records, (definition.train_curve, definition.validation_curve))
    figure = None if frame.empty else curves_figure(frame, study, definition, frames.checks)
    names = {definition.train_curve: "train", definition.validation_curve: "validation"}
    context = {
        "noun": study.noun,
        "several": len(study.subjects) > 1,
        "drawn": [names[name] for name in frame["name"].unique()],
        "alt": _alt(frame, study, definition),
    }
    return Content(context=context, figure=figure)


def _alt(frame: pd.DataFrame, study: Study, definition: ReportDefinition) -> str:
    """The picture in words: where each validation ends."""
    validation = frame[frame["name"] == definition.validation_curve].sort_values("step")
    last = validation.groupby(["subject", "seed"])["value"].last().groupby("subject").mean()
    ends = [f"{one.title} {number(float(last[one.name]))}" for one in study.subjects if one.name in last.index]
    ends_text = f"; validation ends at {', '.join(ends)}" if ends else ""
    return f"Loss over the steps of training, a panel a {study.noun}{ends_text}."


def trained(frames: Frames) -> bool:
    """Whether the page is about trainings: it shows scores, or a record has a curve."""
    return bool(frames.definition.control_quantities) or any(one and one.curve for one in frames.records.values())


def curves_figure(frame: pd.DataFrame, study: Study, definition: ReportDefinition, checks: TrainingChecks) -> go.Figure:
    """A panel per subject, a line per seed; the other subjects' validation in grey behind."""
    columns = min(4, len(study.subjects))
    figure, rows = _panels(columns, 34, study, checks)
    validation = frame[frame["name"] == definition.validation_curve]
    for index, subject in enumerate(study.subjects):
        place = {"row": index // columns + 1, "col": index % columns + 1}
        for (other, _), line in validation[validation["subject"] != subject.name].groupby(["subject", "seed"]):
            _line(figure, line, f"validation, {other}", {"color": GREY, "width": 0.7}, 0.35, place)
        for name, color, width, opacity in (
            (definition.train_curve, BLUE, 1.0, 0.55),
            (definition.validation_curve, INK_GREY if subject.name in checks.beaten else ORANGE, 2.0, 1.0),
        ):
            chosen = frame[(frame["subject"] == subject.name) & (frame["name"] == name)]
            for seed, line in chosen.groupby("seed"):
                style = {"color": color, "width": width, "dash": "solid"}
                _line(figure, line, f"{name}, seed {seed}", style, opacity, place)
    figure.update_yaxes(type="log", nticks=6)
    figure.update_layout(height=74 + 210 * rows, margin={"l": 46, "r": 10, "t": 58, "b": 44}, showlegend=False)
    narrow, narrow_rows = _panels(min(2, columns), 22, study, checks)
    return headed(on_a_phone(figure, narrow, height=74 + 210 * narrow_rows))


def _panels(columns: int, width: int, study: Study, checks: TrainingChecks) -> tuple[go.Figure, int]:
    """Empty, with titles in lines of `width` characters; and in how many rows."""
    rows = math.ceil(len(study.subjects) / columns)
    figure = make_subplots(
        rows=rows, cols=columns, shared_xaxes=True, shared_yaxes=True, horizontal_spacing=0.02,
        vertical_spacing=0.3 / rows,
        subplot_titles=[_panel_title(subject, checks, width) for subject in study.subjects],
    )  # fmt: skip
    figure.update_xaxes(title={"text": "step", "standoff": 4}, row=rows)
    return figure, rows


def _panel_title(subject: Subject, checks: TrainingChecks, width: int) -> str:
    mark = ", ".join(short for short, _ in checks.marks(subject.name))
    return wrapped(subject.title, width) + (f"<br><i><sup>{html.escape(mark)}</sup></i>" if mark else "")


def _line(
    figure: go.Figure, line: pd.DataFrame, name: str, style: dict[str, object], opacity: float, place: dict[str, int]
) -> None:
    line = line.sort_values("step")
    background = style["color"] == GREY
    mode = "lines" if len(line) > 1 else "markers"  # one point has no line
    figure.add_trace(
        go.Scatter(
            x=line["step"].tolist(), y=line["value"].tolist(), mode=mode, name=html.escape(name), line=style,
            opacity=opacity, hoverinfo="skip" if background else "x+y+name",
        ),
        **place,
    )  # fmt: skip


KINDS: tuple[PageKind, ...] = ("ablation", "chain", "trial", "comparison")
SECTION = Section(name="curves", title="Loss curves", template=TEMPLATE, content=content, kinds=KINDS)
