"""A study in W&B: what is written offline, read back by W&B's own messages and models; and what is uploaded of it."""

import json
import os
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import wandb
from fake_sweep import OBJECTIVES, World
from wandb_files import wandb_records
from wandb_server import Server, serving
from wandb_workspaces.reports.v2 import Report
from wandb_workspaces.reports.v2.internal import Project, ReportViewspec
from wandb_workspaces.workspaces import Workspace
from wandb_workspaces.workspaces.internal import View, WorkspaceViewspec

from harness.cli import main
from harness.dashboards.wandb_cloud import WandbCloud
from harness.dashboards.wandb_plan import PLAN, offline_runs, read_plan, run_id_of, upload, write_plan
from harness.dashboards.wandb_study import study_of, tracker_of
from harness.dashboards.wandb_views import markdown_table, workspace_of
from harness.records.errors import UserError
from harness.records.manifest import Manifest, Rung, write_manifest
from harness.records.plain import to_plain
from harness.records.quantity import Counted, Failed, Measured
from harness.records.record import TrialRecord
from harness.records.store import Store
from harness.search.finalists import Finalists, rescore_finalists
from harness.search.status import sweep_summary
from harness.search.study import DEFINITION
from harness.tracking.tracker import Run, tracker


@pytest.fixture(autouse=True)
def _no_account(monkeypatch, tmp_path):
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "wandb-config"))
    wandb.teardown()  # it remembers the environment of the first run in this process


def swept(out: Path, settings=None) -> World:
    """A sweep of 9, of which two were trained again; its page; and a training promoted from one of them."""
    (out / "fake").mkdir(parents=True)
    world = World(out / "fake")
    driver = world.driver(trials=9, budgets=(100, 300), limits={"macs": 20_000}, settings=settings or {})
    began = {"objectives": OBJECTIVES, "budgets": [100, 300], "reduction": 3, "seed": 0, "protocol": {"recipe": {}}}
    world.study.set_user_attr("began", began)
    world.study.set_user_attr(DEFINITION, to_plain(driver.definition))
    rescore_finalists(driver, Finalists(most=2, seeds=2), driver.run())
    (out / "fake" / "report.html").write_text("<p>the page")
    chosen = world.workers.records[sweep_summary(out / "fake", "fake").candidates[-1].key or key_of(out)]
    child = replace(chosen, protocol_fingerprint="longer", parent=chosen.key, fidelity="full")
    Store(out / "store").put(child)
    Store(out / "store").put(replace(child, protocol_fingerprint="other", parent="f" * 16))
    world.child = child
    return world


def key_of(out: Path) -> str:
    return next(each.key for each in sweep_summary(out / "fake", "fake").candidates if each.key)


def test_a_sweep_is_a_row_a_candidate_with_page_and_lineage_without_an_account(tmp_path, cheap):
    world = swept(tmp_path)
    plan, summary = write_plan(tmp_path, "fake"), sweep_summary(tmp_path / "fake", "fake")
    assert plan == read_plan(tmp_path / "fake" / PLAN)
    assert plan.links == ({"run": world.child.key, "uses": f"weights-{world.child.parent}"},)
    assert set(plan.runs[1:]) == {*world.workers.records, world.child.key}
    (folder,) = offline_runs(tmp_path, plan)
    records = wandb_records(folder / f"run-{plan.runs[0]}.wandb")
    header = next(each.run for each in records if each.WhichOneof("record_type") == "run")
    assert (header.run_group, header.job_type, header.display_name) == ("fake", "study", "fake")
    artifacts = {each.artifact.type: each.artifact for each in records if each.WhichOneof("record_type") == "artifact"}
    (page,) = artifacts["page"].manifest.contents
    assert Path(page.local_path).read_text() == "<p>the page"
    places = {entry.path: entry.local_path for entry in artifacts["run_table"].manifest.contents}
    table = json.loads(Path(places["candidates.table.json"]).read_text())
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
    assert [row["candidate"] for row in rows] == [each.name for each in summary.candidates]
    assert Counter(row["state"] for row in rows) == Counter(each.state for each in summary.candidates)
    finalists = {each.name: each for each in summary.conclusions.finalists}
    for row, each in zip(rows, summary.candidates, strict=True):
        assert ((row["kid"], row["macs"]) if each.values else None) == each.values
        assert (row["rescored kid"] is not None) == (each.name in finalists)
        if each.name in finalists:
            assert row["rescored kid"] == finalists[each.name].objectives["kid"].mean
        assert row["knob ffn"] == str(each.parameters["ffn"])
        assert row["on the search's front"] == (each.name in summary.front)
        assert (row["reason"], row["run"]) == (each.reason, each.key)


def test_workspace_and_report_are_read_by_w_and_b_s_own_models(tmp_path, cheap):
    swept(tmp_path, settings={"tracker.project": "phones"})
    plan = write_plan(tmp_path, "fake", "me")
    assert (plan.project, plan.entity) == ("phones", "me")
    spec = WorkspaceViewspec.model_validate(plan.workspace["spec"])
    view = View(entity="me", project="p", display_name="x", name="nw-x-v", id="1", spec=spec)
    workspace = Workspace._from_model(view)
    assert [section.name for section in workspace.sections] == ["Trade-off", "Knobs", "Curves", "Samples"]
    (scatter,), (parallel, importance), curves, (samples,) = [section.panels for section in workspace.sections]
    assert (scatter.x.name, scatter.y.name) == ("macs", "kid")
    assert [column.metric.name for column in parallel.columns] == [
        *(f"tree.knob.{knob}" for knob in ("ffn", "width", "middle", "last", "time")), "kid", "macs",
    ]  # fmt: skip
    accessors = [column["accessor"] for column in plan.workspace["spec"]["section"]["panelBankConfig"]["sections"][1]
                 ["panels"][0]["config"]["columns"]]  # fmt: skip
    assert accessors[0] == "config:tree.value.knob.ffn"
    assert (importance.with_respect_to, [curve.x.name for curve in curves]) == ("kid", ["step", "step"])
    assert samples.media_keys == ["samples"]
    (runs,) = plan.workspace["spec"]["section"]["runSets"]
    wanted = [(each["key"]["name"], each["op"], each["value"]) for each in runs["filters"]["filters"]]
    assert wanted == [("group", "IN", ["fake"]), ("jobType", "!=", "study")]
    assert runs["sort"]["keys"] == [{"key": {"section": "summary", "name": "kid"}, "ascending": True}]
    model = ReportViewspec(
        id="1", display_name="fake", description="", project=Project(name="p", entity_name="me"),
        spec=plan.report["spec"],
    )  # fmt: skip
    blocks = [type(block).__name__ for block in Report._from_model(model).blocks]
    assert blocks[:4] == ["H1", "MarkdownBlock", "H2", "PanelGrid"]
    assert blocks.count("PanelGrid") == 4


def test_text_of_a_table_stays_text(tmp_path, cheap):
    swept(tmp_path)
    study = replace(study_of(tmp_path, "fake"), columns=("reason", "kid"), rows=(("a|b<i>\n[x](y)", 0.123456),) * 60)
    lines = markdown_table(study).splitlines()
    assert lines[2] == r"| a\|b\<i\> \[x\](y) | 0.1235 |"
    assert lines[-1] == "10 more are in the table of the run 'fake'."


class StandIn:
    """A server that has everything but one run."""

    def __init__(self) -> None:
        self.synced: list[list[Path]] = []
        self.saved: list[tuple[str, str | None]] = []

    def sync(self, folders):
        self.synced.append(list(folders))

    def save(self, kind, name, view, known):
        assert view["spec"]
        self.saved.append((kind, known))
        return f"id of {kind}", f"https://w/{kind}/{name}"

    def link(self, _run, uses):
        return f"no {uses}"


def test_the_same_plan_is_uploaded_once_and_replaced_afterwards(tmp_path, cheap):
    world, cloud = swept(tmp_path), StandIn()
    plan = write_plan(tmp_path, "fake")
    trial = Run(id=plan.runs[1], name="trial-0", group="fake", job_type="trial")
    with tracker(study_of(tmp_path, "fake").tracker, trial, tmp_path / "tracking") as sink:
        sink.finish({}, {})
    with tracker(study_of(tmp_path, "fake").tracker, replace(trial, id="another"), tmp_path / "tracking") as sink:
        sink.finish({}, {})
    for known in (None, "id of {}"):
        addresses, remarks = upload(tmp_path, "fake", cloud)
        assert cloud.saved[-2:] == [(kind, known and known.format(kind)) for kind in ("workspace", "report")]
        assert set(map(run_id_of, cloud.synced[-1])) == {*plan.runs[:2]}
        assert addresses["workspace"].startswith("https://w/workspace/")
        uses = f"weights-{world.child.parent}"
        assert remarks == [f"{world.child.key} is not linked to {uses}: no {uses}"]
        write_plan(tmp_path, "fake")
    assert len(offline_runs(tmp_path, plan)) == 2, "the study's own run replaces itself"


class ViewServer(Server):
    """That keeps views, too."""

    def answer(self, operation):
        if operation == "":  # those of wandb-workspaces have no name
            return {"upsertView": {"view": {"id": "Vmlldzox"}, "inserted": True}}
        return super().answer(operation)


def test_w_and_b_s_own_client_sends_it(tmp_path, cheap, monkeypatch):
    swept(tmp_path)
    plan = write_plan(tmp_path, "fake", "me")
    monkeypatch.setattr("wandb_server.Server", ViewServer)
    (work := tmp_path / "work").mkdir()
    monkeypatch.chdir(work)
    with serving() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
        addresses, remarks = upload(tmp_path, "fake", WandbCloud("unet-harness", "me"))
        saved = [each["variables"] for each in server.asked if "upsertView(" in each["query"]]
        assert [each["type"] for each in saved] == ["project-view", "runs"]
        assert [json.loads(each["spec"]) for each in saved] == [plan.workspace["spec"], plan.report["spec"]]
        assert len(server.rows) == 1
    assert addresses["report"] == f"{server.url}/me/unet-harness/reports/fake--Vmlldzox"
    assert len(remarks) == 1  # this server has no artifacts
    assert list(work.iterdir()) == []


def test_the_command_says_what_it_wrote_how_to_upload_it_and_what_cannot_be(tmp_path, cheap, capsys):
    swept(tmp_path)
    assert main(["dashboard", "wandb", "fake", "--upload", f"out={tmp_path}"]) != 0
    assert "needs a W&B key and this machine has none" in capsys.readouterr().err
    assert not (tmp_path / "fake" / PLAN).exists()
    with pytest.raises(UserError, match="'fake' ran with tracker=none, so there is nothing of it for W&B"):
        tracker_of("fake", {"tracker": "none"})
    assert main(["dashboard", "wandb", "fake", f"out={tmp_path}"]) == 0
    said = capsys.readouterr().out
    assert f"{tmp_path / 'fake' / PLAN}: a workspace, a report, 1 links between runs; 1 of the study's" in said
    assert f"`harness dashboard wandb fake out={tmp_path} --upload` uploads it all, after `wandb login`" in said
    (tmp_path / "fake" / PLAN).write_text("{")
    with pytest.raises(UserError, match="remove it, and this command writes it again"):
        write_plan(tmp_path, "fake")


def test_an_ablation_is_a_row_a_rung_and_seed_with_the_reasons_of_what_has_no_value(tmp_path):
    rungs = [
        Rung(name=name, title=name, architecture_fingerprint=name, against=None, edits={}) for name in ("base", "mqa")
    ]
    manifest = Manifest(
        name="ladder", rungs=tuple(rungs), seeds=(0, 1), protocol={}, protocol_fingerprint="p", controls={},
        command="harness ablate ladder", twin={"base": "thin_sdxl", "latent": 128},
    )  # fmt: skip
    (tmp_path / "ladder").mkdir()
    write_manifest(tmp_path / "ladder", manifest)
    quantities = {
        "kid": Measured(value=0.5, unit="1"),
        "fd": Failed(phase="quality", message="no memory"),
        "twin.macs": Counted(value=7, unit="multiply-adds"),
    }
    record = TrialRecord(
        name="base", architecture={}, architecture_fingerprint="base", protocol={}, protocol_fingerprint="p", seed=0,
        state="complete", quantities=quantities,
    )  # fmt: skip
    Store(tmp_path / "store").put(record)
    study = study_of(tmp_path, "ladder")
    rows = [dict(zip(study.columns, row, strict=True)) for row in study.rows]
    assert [(row["rung"], row["seed"], row["state"]) for row in rows] == [
        ("base", 0, "complete"), ("base", 1, "missing"), ("mqa", 0, "missing"), ("mqa", 1, "missing"),
    ]  # fmt: skip
    assert [rows[0][name] for name in ("kid", "fd", "twin.macs")] == [0.5, None, 7]
    assert (rows[0]["without a value"], rows[0]["run"]) == ("fd: quality: no memory", record.key)
    assert study.objectives == {"kid": "minimize", "twin.macs": "minimize"}
    sections = [each["name"] for each in workspace_of(study)["spec"]["section"]["panelBankConfig"]["sections"]]
    assert sections == ["Trade-off", "Curves", "Samples"]
