"""`harness status` and `harness stop` as a user calls them."""

import json
import shutil
from pathlib import Path

import pytest

from harness.cli import main
from harness.launch.attempt import Result, new_attempt
from harness.launch.events import log_event, report_progress
from harness.processes.locks import FileLock
from harness.records.record import CurvePoint

COUNTED = ("data=digits", "coreml=none", "latency=none", "tracker=none", "launcher=debug")


@pytest.fixture(scope="module")
def studies(tmp_path_factory, cache):
    """A working directory with a finished sweep `search` and a finished ablation `tiny`."""
    from tiny_study import lay_out

    folder = lay_out(tmp_path_factory.mktemp("studies"), cache)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["sweep", "search", "trials=2"]) == 0
        assert main(["ablate", "tiny"]) == 0
    return folder


@pytest.fixture
def output_of(studies, monkeypatch, capsys):
    monkeypatch.chdir(studies)
    monkeypatch.setenv("COLUMNS", "200")

    def call(*words):
        assert main(list(words)) == 0
        return capsys.readouterr().out

    return call


def test_a_sweep_shows_its_candidates_its_front_and_that_no_driver_runs(output_of):
    shown = " ".join(output_of("status", "search").split())
    assert "driver none runs" in shown
    assert "candidates 2 of 2 submitted: 2 complete" in shown
    assert "end not known: no driver runs" in shown
    assert "Pareto front of the search's own values kid macs candidate trial-" in shown
    assert "ffn=" in shown


def test_an_ablation_shows_its_rungs_and_seeds(output_of):
    shown = " ".join(output_of("status", "tiny").split())
    assert "trials 2: 2 complete" in shown
    assert "rung seed 0 base done, KID " in shown


def test_json_is_one_object_and_nothing_else(output_of):
    sweep = json.loads(output_of("status", "search", "--json"))
    assert (sweep["kind"], sweep["states"]["complete"], sweep["driver"]["runs"]) == ("sweep", 2, False)
    assert len(sweep["front"]) >= 1
    ablation = json.loads(output_of("status", "tiny", "--json"))
    assert [cell["state"] for cell in ablation["cells"]] == ["complete", "complete"]
    assert json.loads(output_of("status", "--json")).keys() == {"search", "tiny"}


def test_a_running_training_shows_all_that_it_said(output_of, studies):
    folder = studies / "runs" / "tiny" / "attempts"
    attempt = new_attempt(folder / "held")
    try:
        attempt.make_current()
        for event in ("started", "lost", "resumed"):
            log_event(folder, event, key="held", attempt=attempt.name)
        points = {"validation_loss": 0.25, "watched.kid": 0.031}
        newest = tuple(CurvePoint(step=300, name=name, value=value) for name, value in points.items())
        more = {"images_per_second": 1234.0, "seconds_left": 150.0, "processes": 4, "newest": newest}
        report_progress(attempt.folder, "train", 320, 1000, **more)
        shown = " ".join(output_of("status", "tiny").split())
        assert (
            "held train 320/1,000 1,234 images/s 2 min left validation loss 0.25 at 300, kid 0.031 at 300 2 " in shown
        )
        assert "has not begun, first of 4" in shown
        (job,) = json.loads(output_of("status", "tiny", "--json"))["other_jobs"]
        said = job["progress"]
        assert (job["starts"], job["time_limits"]) == (2, None)
        assert {name: said[name] for name in ("step", "of", "images_per_second", "seconds_left", "processes")} == {
            "step": 320, "of": 1000, "images_per_second": 1234.0, "seconds_left": 150.0, "processes": 4
        }  # fmt: skip
        assert {point["name"]: point["value"] for point in said["newest"]} == points
    finally:
        shutil.rmtree(folder / "held")


def test_a_training_is_called_one_and_ends_when_its_job_says(output_of, studies):
    folder, store = studies / "runs" / "train-tiny_base", studies / "runs" / "store" / "trials"
    before = set(store.iterdir())
    try:
        output_of("train", "tiny_base.yaml", "count_only=true", *COUNTED)
        shown = " ".join(output_of("status", "train-tiny_base").split())
        assert shown.startswith("training train-tiny_base, runs/train-tiny_base/manifest.json driver none runs")
        assert "trials 1: 1 complete" in shown
        assert "end not known" in shown
        assert "network seed 0 tiny_base done" in shown
        assert "train-tiny_base training none runs 1 complete" in " ".join(output_of("status").split())
        (record,) = set(store.iterdir()) - before
        record.unlink()
        attempt = new_attempt(folder / "attempts" / record.stem)
        attempt.make_current()
        with FileLock.acquire(attempt.lock):
            report_progress(attempt.folder, "train", 320, 1000, seconds_left=3600.0)
            shown = " ".join(output_of("status", "train-tiny_base").split())
        assert "trials 1: 1 running" in shown
        assert "end in about 60 min (as what is training says of itself; its scores come after that)" in shown
        assert "tiny_base train 320/1,000" in shown
    finally:
        shutil.rmtree(folder)


def test_jobs_without_a_study_are_counted_by_their_workers(output_of, studies):
    folder = studies / "runs" / "score-1" / "attempts"
    try:
        for key, result in (("held", None), ("waits", None), ("over", Result(state="done"))):
            attempt = new_attempt(folder / key)
            attempt.make_current()
            if result is not None:
                attempt.write_result(result)
        with FileLock.acquire(folder / "held" / "attempt-001" / attempt.lock.name):
            shown = " ".join(output_of("status", "score-1").split())
            listed = " ".join(output_of("status").split())
        counted = "1 running, 1 has not begun, 1 done"
        assert f"jobs of score-1, {folder.relative_to(studies)} driver none runs state {counted}" in shown
        assert shown.endswith("waits has not begun")
        assert f"score-1 jobs none runs {counted}" in listed
        plain = json.loads(output_of("status", "score-1", "--json"))
        assert (plain["kind"], [job["key"] for job in plain["jobs"]]) == ("jobs", ["held", "waits"])
    finally:
        shutil.rmtree(folder.parent)


def test_without_a_name_every_study_is_a_line_and_a_damaged_one_does_not_hide_the_others(output_of, studies):
    lines = output_of("status").splitlines()
    assert [line.split()[:2] for line in lines] == [["study", "kind"], ["search", "sweep"], ["tiny", "ablation"]]
    manifest = studies / "runs" / "tiny" / "manifest.json"
    whole = manifest.read_text()
    try:
        manifest.write_text(whole[: len(whole) // 2])
        assert "search sweep none runs 2 complete" in " ".join(output_of("status").split())
        assert main(["status", "tiny"]) == 2
    finally:
        manifest.write_text(whole)


def test_watching_what_has_ended_ends(output_of):
    assert "no driver runs, so nothing more will change" in output_of("status", "search", "--watch")


def test_the_studys_own_out_is_where_it_is_looked_for(output_of, studies):
    (studies / "sweeps" / "elsewhere.yaml").write_text("space: tiny\nsettings: {out: nowhere}\n")
    assert main(["status", "elsewhere"]) == 2
    assert "2 complete" in output_of("status", "search", "out=runs")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("status serch", "unknown study in runs: 'serch'; choose one of: search, tiny"),
        ("stop serch", "unknown study in runs: 'serch'; choose one of: search, tiny"),
        ("status search out=nowhere", "no study was begun in nowhere; say where it lies with out=FOLDER"),
        ("status out=nowhere", "no study was begun in nowhere"),
        ("status search trials=3", "the only setting here is out=FOLDER, where the study lies, not trials"),
        ("status search --watch --json", "leave out --watch"),
        ("status --watch", "--watch shows one study; name it"),
        ("stop", "required: NAME"),
    ],
)
def test_mistakes_are_one_sentence(words, sentence, studies, refused, monkeypatch):
    monkeypatch.chdir(studies)
    assert sentence in refused(*words.split())
    assert not Path("nowhere").exists()
