"""What W&B gets of a study beside its trials' runs, written without an account, and uploaded by the same command later:

    OUT/tracking/wandb/offline-run-*    a run of the study's own: its table, its page, the packages of its networks
    OUT/NAME/wandb.json                 what only a server holds: workspace, report, and who was trained from whom

Uploading sends the runs by `wandb sync`, then the workspace and the report, which replace those that an earlier upload
made, then the links. What was uploaded is noted in the file.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol

from harness.dashboards.files import packages
from harness.dashboards.wandb_study import STUDY, Study, study_of
from harness.records.errors import UserError
from harness.records.plain import from_plain, to_plain
from harness.records.store import write_atomic
from harness.tracking.tracker import Run
from harness.tracking.wandb_run import start_wandb, weights_artifact

PLAN = "wandb.json"
Kind = Literal["workspace", "report"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """The file."""

    project: str
    entity: str | None
    runs: tuple[str, ...]
    """Ids of the study's runs, of its trials, and of what was promoted from them."""
    workspace: Mapping[str, Any]
    report: Mapping[str, Any]
    links: tuple[Mapping[str, str], ...]
    """`{run, uses}`: the artifact that a run began from."""
    uploaded: Mapping[str, str] = field(default_factory=dict)
    """`workspace`, `report`: the server's ids of those that the next upload replaces."""


class Cloud(Protocol):
    """W&B's server, as far as it is needed."""

    def sync(self, folders: Sequence[Path]) -> None:
        """Upload offline runs."""

    def save(self, kind: Kind, name: str, view: Mapping[str, Any], known: str | None) -> tuple[str, str]:
        """Make it, or replace the one whose id is `known`; its id and its address."""

    def link(self, run: str, uses: str) -> str | None:
        """Note that the run used that artifact; why that cannot be, else None."""


def write_plan(out: Path, name: str, entity: str | None = None, published: Sequence[Path] = ()) -> Plan:
    """Write the study's run and OUT/NAME/wandb.json. UserError where the study's runs are not for W&B."""
    try:
        from harness.dashboards.wandb_views import report_of, workspace_of
    except ImportError as error:
        raise UserError(
            f"`harness dashboard wandb` needs the Python package {error.name}, which is not installed; install "
            "unet-harness[dashboard]"
        ) from error
    study = study_of(out, name)
    packed = _write_run(study, out, published)
    links = [{"run": link.run, "uses": weights_artifact(link.weights_of)} for link in study.links]
    links += [{"run": study.run_id, "uses": weights_artifact(key)} for key in packed]
    path = out / name / PLAN
    plan = Plan(
        project=study.tracker.project,
        entity=entity or study.tracker.entity,
        runs=(study.run_id, *study.keys, *(each.key for each in study.children)),
        workspace=workspace_of(study),
        report=report_of(study),
        links=tuple(links),
        uploaded=read_plan(path).uploaded if path.exists() else {},
    )
    _write(path, plan)
    return plan


def read_plan(path: Path) -> Plan:
    try:
        return from_plain(Plan, json.loads(path.read_text()))
    except (OSError, ValueError, UserError) as error:
        raise UserError(f"cannot read {path}: {error}; remove it, and this command writes it again") from error


def upload(out: Path, name: str, cloud: Cloud) -> tuple[dict[Kind, str], list[str]]:
    """The addresses of workspace and report; and what could not be linked, in sentences."""
    path = out / name / PLAN
    plan = read_plan(path)
    if folders := offline_runs(out, plan):
        cloud.sync(folders)
    addresses: dict[Kind, str] = {}
    views: dict[Kind, Mapping[str, Any]] = {"workspace": plan.workspace, "report": plan.report}
    for kind, view in views.items():
        known, addresses[kind] = cloud.save(kind, plan.runs[0][:11], view, plan.uploaded.get(kind))
        plan = replace(plan, uploaded={**plan.uploaded, kind: known})
        _write(path, plan)  # at once: a second one would be made otherwise
    obstacles = [(link, cloud.link(link["run"], link["uses"])) for link in plan.links]
    return addresses, [f"{link['run']} is not linked to {link['uses']}: {why}" for link, why in obstacles if why]


def offline_runs(out: Path, plan: Plan) -> list[Path]:
    """The folders of the study's runs that lie there, whether they were uploaded or not, in the order of their
    starts."""
    wanted = set(plan.runs)
    folders = (out / "tracking" / "wandb").glob("offline-run-*")
    return sorted(folder for folder in folders if run_id_of(folder) in wanted)


def run_id_of(folder: Path) -> str | None:
    """Of an offline run by its folder's name: `offline-run-20260730_101500-ID`, and `-1` in a second's second one."""
    match = re.fullmatch(r"offline-run-\w+-([0-9a-f]{16})(?:-\d+)?", folder.name)
    return match and match[1]


def _write(path: Path, plan: Plan) -> None:
    write_atomic(path, json.dumps(to_plain(plan), indent=1, ensure_ascii=False).encode())


def _write_run(study: Study, out: Path, published: Sequence[Path]) -> list[str]:
    """The run of the study's own; the keys of the trials whose packages are in it."""
    objectives = dict(study.objectives)
    run = Run(
        id=study.run_id,
        name=study.name,
        group=study.name,
        job_type=STUDY,
        config={"objectives": objectives, "knobs": list(study.knobs), "front": list(study.front)},
        tags=(study.name, STUDY),
    )
    keys = {*study.keys, *(each.key for each in study.children)}
    packed = {key: files for key, files in packages(out, published).items() if key in keys}
    page = out / study.name / "report.html"
    try:
        sink = start_wandb(replace(study.tracker, mode="offline"), run, out / "tracking")
        sink.table("candidates" if study.knobs else "trials", study.columns, study.rows)
        if page.is_file():
            sink.artifact(_named(f"page-{study.name}"), "page", {page.name: page}, "upload")
        for key, files in packed.items():
            sink.artifact(f"package-{key}", "package", {each.path.name: each.path for each in files})
        sink.finish({}, {})
    except Exception as error:  # whatever W&B raises
        why = " ".join(f"{type(error).__name__}: {error}".split())
        raise UserError(f"W&B could not write the run of '{study.name}' in {out / 'tracking'}: {why}") from error
    return list(packed)


def _named(text: str) -> str:
    """As an artifact may be called."""
    return re.sub(r"[^\w.-]", "-", text, flags=re.ASCII)
