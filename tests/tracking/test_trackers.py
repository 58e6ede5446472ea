"""One contract for every tracker, and W&B's own promises: quiet, offline, bounded in time, never the trial's end."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Mapping
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from PIL import Image
from wandb_files import upload, wandb_history, wandb_records
from wandb_server import serving

from harness.records.errors import UserError
from harness.records.plain import from_plain
from harness.records.quantity import Counted, Failed, Measured, Quantity, Unavailable
from harness.records.record import CurvePoint
from harness.tracking import tracker as tracking
from harness.tracking.config import LocalTracker, NoTracker, TrackerConfig, WandbTracker, check_tracker
from harness.tracking.tracker import Run, TrackerWarning, flat, nested, tracker
from harness.tracking.wandb_run import GOALS, SAMPLES, WandbRun, summary_of, weights_artifact

OFFLINE = WandbTracker(finish_timeout_s=20.0)
CONFIGS = [NoTracker(), LocalTracker(), OFFLINE, WandbTracker(mode="disabled")]
RUN = Run(
    id="0123456789abcdef",
    name="mqa seed 1",
    group="fig3",
    job_type="trial",
    config={"seed": 1, "architecture": {"a": 1}},
)
QUANTITIES: Mapping[str, Quantity] = {
    "params": Counted(value=1234, unit="parameters"),
    "kid": Measured(value=0.5, unit="", low=0.4, high=0.6, spread="standard error"),
    "latency_iphone": Unavailable(reason="needs an iPhone"),
    "fd": Failed(phase="quality", message="no memory"),
}


@pytest.fixture(autouse=True)
def _no_account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "wandb-config"))


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "samples.png"
    Image.new("RGB", (8, 8), (10, 200, 30)).save(path)
    return path


def track(config: TrackerConfig, folder: Path, picture: Path, first: int = 0, run: Run = RUN) -> None:
    with tracker(config, run, folder) as sink:
        for step in range(first, first + 5):
            sink.log(CurvePoint(step=step, name="train_loss", value=1.0 / (step + 1)))
            sink.log(CurvePoint(step=step, name="validation_loss", value=float("nan")))
            if step % 2 == 0:
                sink.show(step, {"watched": picture})
        sink.keep({"ema.safetensors": picture})
        sink.finish(QUANTITIES, {"samples": picture})


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: f"{config.kind}-{getattr(config, 'mode', '')}")
class TestEveryTracker:
    def test_takes_a_trial_in_silence(
        self, config: TrackerConfig, tmp_path: Path, picture: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error", TrackerWarning)
            track(config, tmp_path / "tracking", picture)
        assert capfd.readouterr() == ("", "")

    def test_takes_a_trial_that_continues_from_an_earlier_step(
        self, config: TrackerConfig, tmp_path: Path, picture: Path
    ) -> None:
        with contextlib.suppress(KeyboardInterrupt), tracker(config, RUN, tmp_path) as sink:
            sink.log(CurvePoint(step=7, name="train_loss", value=0.1))
            raise KeyboardInterrupt
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", TrackerWarning)
            track(config, tmp_path, picture, first=5)
        assert [str(warning.message) for warning in caught if warning.category is TrackerWarning] == []

    def test_needs_no_network_and_writes_only_in_its_folder(
        self, config: TrackerConfig, tmp_path: Path, picture: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        work = tmp_path / "work"
        work.mkdir()
        monkeypatch.chdir(work)
        monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
        track(config, tmp_path / "out" / "tracking", picture)
        assert list(work.iterdir()) == []

    def test_without_its_folder_costs_one_warning_and_not_the_trial(
        self, config: TrackerConfig, tmp_path: Path, picture: Path
    ) -> None:
        (tmp_path / "file").touch()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", TrackerWarning)
            track(config, tmp_path / "file" / "tracking", picture)
        sentences = [str(warning.message) for warning in caught if warning.category is TrackerWarning]
        assert len(sentences) == (0 if isinstance(config, NoTracker) else 1)
        assert all("the trial goes on without it" in sentence for sentence in sentences)


def test_the_local_file_holds_all_that_was_sent(tmp_path: Path, picture: Path) -> None:
    track(LocalTracker(), tmp_path, picture)
    lines = [json.loads(line) for line in (tmp_path / f"{RUN.id}.jsonl").read_text().splitlines()]
    two = ["point"] * 2
    assert [line["event"] for line in lines] == ["start", *[*two, "image", *two] * 2, *two, "image", "files", "finish"]
    assert (lines[0]["group"], lines[0]["job_type"], lines[0]["config"]) == ("fig3", "trial", RUN.config)
    assert (lines[1]["step"], lines[1]["name"], lines[1]["value"]) == (0, "train_loss", 1.0)
    assert lines[2]["value"] == "nan"
    assert lines[-1]["quantities"]["latency_iphone"] == {
        "kind": "unavailable",
        "reason": "needs an iPhone",
        "awaits": "",
        "expected": None,
    }


def test_a_line_that_a_full_disk_cut_is_gone_before_the_next_one_is_written(tmp_path: Path, picture: Path) -> None:
    track(LocalTracker(), tmp_path, picture)
    path = tmp_path / f"{RUN.id}.jsonl"
    whole = path.read_bytes()
    ends = [at for at, byte in enumerate(whole, 1) if byte == ord("\n")]
    events = [json.loads(line)["event"] for line in whole.splitlines()]
    for length in (0, 1, ends[0] - 1, ends[0], ends[0] + 1, ends[3] - 2, len(whole)):
        path.write_bytes(whole[:length])
        track(LocalTracker(), tmp_path, picture)
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        begun_and_ended = sum(
            event in ("start", "files", "finish") for event in events[: sum(end <= length for end in ends)]
        )
        assert len(lines) == 13 + begun_and_ended + 3, "points and images once, however often they are sent"


def test_a_leaf_is_flat_under_the_path_that_an_edit_has() -> None:
    plain = {"stages": [{"channels": 32}, {"channels": 48}], "seed": 1, "betas": [], "norm": None}
    assert flat(plain) == {"stages.0.channels": 32, "stages.1.channels": 48, "seed": 1, "betas": [], "norm": None}


def test_a_trial_that_ends_without_a_result_is_marked(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), tracker(LocalTracker(), RUN, tmp_path):
        raise KeyboardInterrupt
    assert json.loads((tmp_path / f"{RUN.id}.jsonl").read_text().splitlines()[-1])["event"] == "abort"


def test_what_has_no_value_is_never_a_number() -> None:
    sent = {key: value for name, quantity in QUANTITIES.items() for key, value in summary_of(name, quantity).items()}
    assert sent == {
        "params": 1234,
        "kid": 0.5,
        "kid/low": 0.4,
        "kid/high": 0.6,
        "latency_iphone/unavailable": "needs an iPhone",
        "fd/failed": "quality: no memory",
    }


def test_a_failing_tracker_is_called_no_more_and_said_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def broken(point: CurvePoint) -> None:
        calls.append(point.name)
        raise ConnectionError("gone\naway")

    sink = tracking.Nowhere()
    monkeypatch.setattr(sink, "log", broken)
    monkeypatch.setattr(sink, "finish", lambda *_: calls.append("finish"))
    monkeypatch.setattr(tracking, "_start", lambda *_: sink)
    with pytest.warns(TrackerWarning) as warned:
        track(NoTracker(), tmp_path, tmp_path)
    assert calls == ["train_loss"]
    assert [str(one.message) for one in warned] == [
        "tracker 'none' failed (ConnectionError: gone away); the trial goes on without it, its record is complete"
    ]


def test_wandb_gets_identity_group_job_type_and_curves(tmp_path: Path, picture: Path) -> None:
    track(OFFLINE, tmp_path, picture)
    headers, rows = wandb_history(tmp_path, RUN.id)
    header = headers[0]
    assert (header.run_id, header.run_group, header.job_type) == (RUN.id, "fig3", "trial")
    assert header.display_name == "mqa seed 1"
    config = {item.key: json.loads(item.value_json) for item in header.config.update}
    assert (config["seed"], config["architecture"]) == (1, {"a": 1})
    losses = [(row["_step"], row["train_loss"]) for row in rows if "train_loss" in row]
    assert losses == [(step, 1.0 / (step + 1)) for step in range(5)]
    assert any("samples" in key for row in rows for key in row)
    assert [row["step"] for row in rows] == [row["_step"] for row in rows] == list(range(5))
    assert [row["_step"] for row in rows if "watched/path" in row] == [0, 2, 4]


def test_the_axis_of_every_curve_is_the_training_s_own(tmp_path: Path, picture: Path) -> None:
    track(OFFLINE, tmp_path, picture)
    (path,) = tmp_path.glob(f"wandb/offline-run-*-{RUN.id}/run-{RUN.id}.wandb")
    metrics = [record.metric for record in wandb_records(path) if record.WhichOneof("record_type") == "metric"]
    axes = {metric.name: metric.step_metric for metric in metrics}
    assert axes == {"step": "", **dict.fromkeys(("train_loss", "validation_loss", "watched"), "step")}


def test_attempts_from_older_checkpoints_are_one_run_on_the_server_whenever_they_are_uploaded(
    tmp_path: Path, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W&B's own uploader: between the attempts, and then both folders, as a kill leaves them."""

    def attempt(upto: int, again: int, speed: float) -> None:
        """Up to that step, going on from a checkpoint at `again`: only of the steps behind it the speed is known."""
        with contextlib.suppress(KeyboardInterrupt), tracker(OFFLINE, RUN, tmp_path) as sink:
            for step in [*range(1, again + 1), *range(max(1, again - 1), upto + 1)]:  # it goes back itself, too
                sink.log(CurvePoint(step=step, name="train_loss", value=1.0 / step))
                if step > again:
                    sink.log(CurvePoint(step=step, name="images_per_second", value=speed))
                if step % 3 == 0:
                    sink.log(CurvePoint(step=step, name="watched.kid", value=0.5 * step))
                    sink.show(step, {"watched": picture})
            raise KeyboardInterrupt

    def has(upto: int) -> None:
        rows = [(row["step"], row["_step"], row["train_loss"], row.get("watched.kid")) for row in server.rows]
        assert rows == [(at, at, 1.0 / at, None if at % 3 else 0.5 * at) for at in range(1, upto + 1)]
        assert ["watched" in row for row in server.rows] == [at % 3 == 0 for at in range(1, upto + 1)]

    monkeypatch.setattr(WandbRun, "_remove_earlier", lambda _self: None)
    with serving() as server:
        attempt(8, 1, speed=1.0)
        wandb_history(tmp_path, RUN.id)  # waits for its end
        upload(server, tmp_path)
        has(upto=8)
        time.sleep(1.1)  # folders are named by the second
        attempt(11, 4, speed=2.0)
        wandb_history(tmp_path, RUN.id)
        assert len(list(tmp_path.glob("wandb/offline-run-*"))) == 2
        upload(server, tmp_path)
        has(upto=11)


def test_online_rows_that_the_run_has_are_not_sent_again() -> None:
    """As W&B says at which step a run that it continues goes on."""
    sent: list[tuple[int, dict[str, Any]]] = []
    run: Any = SimpleNamespace(
        starting_step=5, define_metric=lambda *_, **__: None, log=lambda row, step: sent.append((step, row))
    )
    continued = WandbRun(run, finish_timeout_s=1.0)
    for step in (3, 4, 5, 6, 5, 6, 7):
        continued.log(CurvePoint(step=step, name="train_loss", value=1.0))
    assert [step for step, _ in sent] == [row["step"] for _, row in sent] == [5, 6, 7]


def test_wandb_has_what_a_sweep_is_plotted_by(tmp_path: Path, picture: Path) -> None:
    run = replace(RUN, config=flat({"stages": [{"channels": 32}], "recipe": {"steps": 300}}), tags=("fig3", "x" * 99))
    with tracker(OFFLINE, run, tmp_path) as sink:
        sink.configure({"params": 1234, "twin.macs": 5e9})
        sink.finish(QUANTITIES, {})
    (path,) = tmp_path.glob(f"wandb/offline-run-*-{RUN.id}/run-{RUN.id}.wandb")
    records = wandb_records(path)
    header = next(record.run for record in records if record.WhichOneof("record_type") == "run")
    updates = [record.config.update for record in records if record.WhichOneof("record_type") == "config"]
    items = [*header.config.update, *(item for update in updates for item in update)]
    config = {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}
    expected = {"stages.0.channels": 32, "recipe.steps": 300, "params": 1234, "twin.macs": 5e9}
    assert expected.items() <= config.items()
    assert list(header.tags) == ["fig3", "x" * 64]


def test_an_interrupted_trial_leaves_one_offline_run_with_the_whole_curve(tmp_path: Path, picture: Path) -> None:
    with contextlib.suppress(KeyboardInterrupt), tracker(OFFLINE, RUN, tmp_path) as sink:
        for step in range(4):
            sink.log(CurvePoint(step=step, name="train_loss", value=1.0 / (step + 1)))
        raise KeyboardInterrupt
    with contextlib.suppress(KeyboardInterrupt), tracker(OFFLINE, RUN, tmp_path):
        raise KeyboardInterrupt  # before it had a point: the first attempt's are still worth having
    time.sleep(1.1)  # folders are named by the second
    assert wandb_history(tmp_path, RUN.id, newest=False)[1]
    track(OFFLINE, tmp_path, picture)
    assert len(list(tmp_path.glob(f"wandb/offline-run-*-{RUN.id}*"))) == 1
    _, rows = wandb_history(tmp_path, RUN.id)
    losses = [(row["_step"], row["train_loss"]) for row in rows if "train_loss" in row]
    assert losses == [(step, 1.0 / (step + 1)) for step in range(5)]


def test_online_without_a_key_is_refused_at_once_and_never_prompts(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"tracker\.mode=online needs a W&B key and this machine has none"):
        check_tracker(WandbTracker(mode="online"))


def test_asking_for_a_key_starts_no_service_that_workers_would_inherit(tmp_path: Path) -> None:
    ask = "import os; from harness.tracking.config import _has_key; print(_has_key(), os.environ.get('WANDB_SERVICE'))"
    process = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert process.stdout.split() == ["False", "None"], process.stderr


def test_online_without_a_network_keeps_the_run_offline_and_says_so(
    tmp_path: Path, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    config = WandbTracker(mode="online", start_timeout_s=2.0, finish_timeout_s=2.0)
    before = time.monotonic()
    with pytest.warns(
        TrackerWarning, match="W&B cannot be reached .*; this run is kept in .*: `wandb sync` uploads it"
    ):
        track(config, tmp_path, picture)
    assert time.monotonic() - before < 30
    assert wandb_history(tmp_path, RUN.id)[1]


HARM_SERVICE = """
import os, signal, subprocess, sys, time, warnings
from pathlib import Path
from harness.tracking.config import WandbTracker
from harness.tracking.tracker import Run
from harness.tracking.tracker import tracker
from harness.records.record import CurvePoint
warnings.simplefilter("always")
run = Run(id="x", name="x", group="x", job_type="x")
with tracker(WandbTracker(finish_timeout_s=1.0), run, Path(sys.argv[1])) as sink:
    sink.log(CurvePoint(step=0, name="loss", value=1.0))
    processes = subprocess.run(["ps", "-A", "-ww", "-o", "pid=,ppid=,args="], capture_output=True, text=True).stdout
    services = [line.split() for line in processes.splitlines() if "wandb-core" in line]
    mine = [int(pid) for pid, parent, *_ in services if int(parent) == os.getpid()]
    assert mine, processes
    for pid in mine:
        os.kill(pid, signal.HOW)
        print("harmed", pid, flush=True)
    time.sleep(0.2)
    for step in range(1, 50):
        sink.log(CurvePoint(step=step, name="loss", value=1.0))
    sink.finish({}, {})
print("the trial ended", flush=True)
"""


@pytest.mark.parametrize("how", ["SIGKILL", "SIGSTOP"])
def test_a_dead_or_hanging_wandb_service_ends_neither_trial_nor_patience(tmp_path: Path, how: str) -> None:
    with (tmp_path / "output").open("w+") as output:  # a file: the stopped service would keep a pipe open
        process = subprocess.Popen(
            [sys.executable, "-c", HARM_SERVICE.replace("HOW", how), str(tmp_path)],
            stdout=output, stderr=output, stdin=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        try:
            code = process.wait(timeout=60)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            output.seek(0)
            text = output.read()
            for line in text.splitlines():  # sessions of their own: the group's kill does not reach them
                if line.startswith("harmed"):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(int(line.split()[1]), signal.SIGKILL)
    assert "the trial ended" in text
    assert code == 0


@pytest.mark.parametrize("name", ["none", "local", "wandb"])
def test_every_setting_file_builds_the_tracker_it_is_named_after(name: str) -> None:
    text = (files("harness") / "conf" / "tracker" / f"{name}.yaml").read_text()
    union: Any = TrackerConfig
    assert from_plain(union, yaml.safe_load(text)).kind == name


def test_offline_is_the_default() -> None:
    assert WandbTracker().mode == "offline"


@pytest.mark.parametrize("settings", [{"project": "a/b"}, {"project": ""}, {"finish_timeout_s": 0.0}])
def test_wrong_settings_are_one_sentence(settings: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"^tracker\."):
        WandbTracker(**settings)


def test_a_dotted_path_is_a_place_in_a_tree_and_none_is_lost() -> None:
    assert nested({"ffn": 3, "recipe.steps": 9, "recipe.lr": 0.1}) == {"ffn": 3, "recipe": {"steps": 9, "lr": 0.1}}
    assert nested({"a": 1, "a.b.c": 2}) == {"a": 1, "a.b.c": 2}


@pytest.mark.parametrize("files", ["reference", "upload", "none"])
def test_wandb_has_weights_as_an_artifact_a_table_of_samples_and_goals(
    tmp_path: Path, picture: Path, monkeypatch: pytest.MonkeyPatch, files: Any
) -> None:
    """Without a byte in the user's home, or a copy of the weights."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    weights = tmp_path / "ema.safetensors"
    weights.write_bytes(b"weights")
    with tracker(replace(OFFLINE, files=files), RUN, tmp_path / "out") as sink:
        sink.keep({"ema.safetensors": weights})
        sink.finish(QUANTITIES, {"samples": picture})
    (path,) = (tmp_path / "out").glob(f"wandb/offline-run-*-{RUN.id}/run-{RUN.id}.wandb")
    records = wandb_records(path)
    artifacts = {each.artifact.name: each.artifact for each in records if each.WhichOneof("record_type") == "artifact"}
    (table,) = [each for name, each in artifacts.items() if name.endswith(SAMPLES)]
    assert table.type == "run_table"
    kept = artifacts.get(weights_artifact(RUN.id))
    assert (kept is not None) == (files != "none")
    if kept is not None:
        (entry,) = kept.manifest.contents
        assert (kept.type, entry.path) == ("model", "ema.safetensors")
        assert (entry.ref, entry.local_path) == (weights.as_uri(), "") if files == "reference" else ("", str(weights))
    places = {entry.path: Path(entry.local_path) for entry in table.manifest.contents}
    shown = json.loads(places[f"{SAMPLES}.table.json"].read_text())
    assert shown["columns"] == ["trial", "picture", "image", "params", "kid"]
    ((name, which, image, *values),) = shown["data"]
    assert (name, which, values) == ("mqa seed 1", "samples", [1234, 0.5])
    assert places[image["path"]].read_bytes() == picture.read_bytes()
    assert all(place.is_relative_to(tmp_path / "out") for place in places.values())
    updates = [each.config.update for each in records if each.WhichOneof("record_type") == "config"]
    config = {item.key: item.value_json for items in updates for item in items}
    assert json.loads(config[GOALS]) == {"params": "minimize", "kid": "minimize"}
    assert not [each for each in (tmp_path / "home").rglob("*") if each.is_file()]
    assert not [each for each in (tmp_path / "out").rglob("*") if each.is_file() and each.read_bytes() == b"weights"]
