"""A study's workspace and report in W&B, as code: plain JSON, made without an account.

A sweep looks like a sweep there: a row a candidate, its knobs and objectives as parallel coordinates, the trade-off,
what each knob matters, the curves, the samples. The values are those of the runs; nothing is computed here.
"""

import json
from typing import Any

import wandb_workspaces.reports.v2 as reports
import wandb_workspaces.workspaces as workspaces
from wandb_workspaces import expr

from harness.dashboards.wandb_study import STUDY, Study
from harness.records.quantities import title_of
from harness.tracking.wandb_run import STEP

LONGEST_TABLE = 50  # rows in the report's text; the run of the study has them all


def workspace_of(study: Study) -> dict[str, Any]:
    """`{displayName, spec}` of a saved view of the project."""
    first, way = next(iter(study.objectives.items()))
    workspace = workspaces.Workspace(
        entity="",  # known when it is uploaded
        project=study.tracker.project,
        name=_plain(f"{study.name}: trials"),
        sections=[
            workspaces.Section(name=name, panels=panels, is_open=True) for name, panels in _sections(study).items()
        ],
        runset_settings=workspaces.RunsetSettings(
            filters=_trials(study),
            order=[expr.Ordering(expr.Summary(first), ascending=way == "minimize")],
            pinned_columns=["run:displayName", "run:state", *(f"summary:{name}" for name in study.objectives)],
        ),
    )
    view = workspace._to_model()
    return {"displayName": view.display_name, "spec": _json(view.spec)}


def report_of(study: Study) -> dict[str, Any]:
    """`{displayName, description, spec}` of a report."""
    runs = reports.Runset(name=study.name, filters=_trials(study))
    blocks: list[Any] = [reports.H1(study.name), reports.MarkdownBlock(study.summary)]
    for name, panels in _sections(study).items():
        blocks += [reports.H2(name), reports.PanelGrid(runsets=[runs], panels=panels)]
    blocks += [reports.H2("All of them"), reports.MarkdownBlock(markdown_table(study))]
    report = reports.Report(
        entity="", project=study.tracker.project, title=study.name, description="Made by harness", blocks=blocks
    )
    model = report._to_model()  # type: ignore[no-untyped-call]
    return {"displayName": report.title, "description": report.description, "spec": _json(model.spec)}


def _trials(study: Study) -> list[Any]:
    """All runs of the study but the one that has its table and page."""
    return [expr.Metric("Group").isin([study.name]), expr.Metric("JobType") != STUDY]


def _sections(study: Study) -> dict[str, list[Any]]:
    (first, _), *others = study.objectives.items()
    wide = reports.Layout(w=24, h=9)
    trade_off: list[Any] = []
    for cost, _ in others:
        x, y = reports.SummaryMetric(cost), reports.SummaryMetric(first)
        title = f"{_title(study, first)} against {_title(study, cost)}"
        trade_off.append(reports.ScatterPlot(title=title, x=x, y=y, log_x=True, layout=reports.Layout(w=12, h=9)))
    if not trade_off:
        trade_off.append(reports.BarPlot(title=_title(study, first), metrics=[first], layout=wide))
    sections = {"Trade-off": trade_off}
    if study.knobs:
        sections["Knobs"] = [
            reports.ParallelCoordinatesPlot(columns=_axes(study), layout=wide),
            reports.ParameterImportancePlot(with_respect_to=first, layout=reports.Layout(w=24, h=9)),
        ]
    sections["Curves"] = [
        reports.LinePlot(title=title_of(name), x=STEP, y=[name], log_y=True, layout=reports.Layout(w=12, h=8))
        for name in ("train_loss", "validation_loss")
    ]
    if study.picture:
        sections["Samples"] = [reports.MediaBrowser(media_keys=[study.picture], layout=reports.Layout(w=24, h=12))]
    return sections


def _axes(study: Study) -> list[Any]:
    """The knobs, by the tree in a run's configuration, then the objectives with the better end above."""
    column = reports.ParallelCoordinatesPlotColumn
    knobs = [column(metric=reports.Config(f"tree.knob.{knob}"), display_name=knob) for knob in study.knobs]
    return knobs + [
        column(metric=reports.SummaryMetric(name), display_name=_title(study, name), inverted=way == "minimize")
        for name, way in study.objectives.items()
    ]


def _title(study: Study, name: str) -> str:
    more = " (more is better)" if study.objectives[name] == "maximize" else ""
    return f"{name if '.' in name else title_of(name)}{more}"


def markdown_table(study: Study) -> str:
    """The study's table, as far as a report can have it; text in it stays text."""
    rows = study.rows[:LONGEST_TABLE]
    lines = [study.columns, ("---",) * len(study.columns), *rows]
    shown = ["| " + " | ".join(map(_text, line)) + " |" for line in lines]
    left = len(study.rows) - len(rows)
    return "\n".join([*shown, *([f"\n{left} more are in the table of the run '{study.name}'."] if left else [])])


def _text(cell: Any) -> str:
    if isinstance(cell, float):
        return f"{cell:.4g}"
    text = "" if cell is None else " ".join(str(cell).split())
    return text if text == "---" else "".join(f"\\{each}" if each in "\\|`*_[]<>#!$" else each for each in text)


def _plain(text: str) -> str:
    """W&B takes no emoji in the name of a view."""
    return text.encode("ascii", "replace").decode()


def _json(model: Any) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(model.model_dump_json(by_alias=True, exclude_none=True))
    return plain
