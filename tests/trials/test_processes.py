"""Trials that several processes train: the same trial, also where one of them is killed."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from tiny_study import SETTINGS, tiny_spec

from harness.launch.events import read_steps
from harness.launch.pool import Pool
from harness.records.errors import UserError
from harness.records.quantity import Measured
from harness.records.store import Store
from harness.trials.progress import Show
from harness.trials.queue import TrialQueue, run_all
from harness.trials.run import run_trial
from harness.trials.settings import settings_of

FOLDER = Path("runs/processes/attempts")


def trained_together(*overrides: str, losses: list[str] | None = None, attempts: Path = FOLDER, **more):
    spec = tiny_spec("launcher=local", "launcher.processes=2", *overrides, **more)
    with Pool(attempts, spec.settings.launcher) as pool:
        heard = [] if losses is None else losses
        return run_all(TrialQueue(pool, on_loss=lambda _label, why: heard.append(why)), [spec], Show())[spec.key]


def trained_alone(*overrides: str):
    spec = tiny_spec(*overrides)
    alone = replace(spec, settings=replace(spec.settings, out=Path("alone")))
    folder = Path("alone/attempts/x/attempt-001")
    folder.mkdir(parents=True)
    return run_trial(alone, folder)


def follower_of(folder: Path) -> int | None:
    """The process that follows a worker of that folder."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if b"harness.launch.together" in words and any(str(folder).encode() in word for word in words):
            return int(path.parent.name)
    return None


@pytest.mark.slow
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_a_trial_of_two_processes_is_that_of_one(workplace, parallel):
    watched = ("watch.grid_every=4", "watch.score_every=4", "watch.samples=40", "watch.at_most=20")
    alone, together = trained_alone(*watched), trained_together(f"parallel={parallel}", *watched)
    assert together.state == "complete"
    assert together.key == alone.key
    for name, within in (("validation_loss", 1e-4), ("fd", 1e-2)):
        ours, theirs = together.quantities[name], alone.quantities[name]
        assert isinstance(ours, Measured)
        assert isinstance(theirs, Measured)
        assert ours.value == pytest.approx(theirs.value, rel=within)
    assert together.quantities["train_seconds"].conditions["processes"] == 2
    assert [(point.step, point.name) for point in together.curve] == [(point.step, point.name) for point in alone.curve]
    ours, theirs = (
        json.loads((Store(out / "store").artifact(alone.key, "watched.json")).read_text())["seen"]
        for out in (Path("runs"), Path("alone"))
    )
    assert [(each["step"], each["grid"]) for each in ours] == [(4, "watched-00000004.png")]
    assert ours[0]["scores"]["fd"]["value"] == pytest.approx(theirs[0]["scores"]["fd"]["value"], rel=1e-2)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_one_that_is_killed_is_named_and_the_next_attempt_goes_on(workplace):
    steps = ("recipe.steps=120", "recipe.checkpoint_every=5", "recipe.validate_every=120")
    losses: list[str] = []

    def kill() -> None:
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:
            logs = list(FOLDER.glob("*/steps.log"))
            if logs and any(line["event"] == "saved" for log in logs for line in read_steps(log.parent)):
                pid = follower_of(FOLDER)
                if pid is not None:
                    os.kill(pid, signal.SIGKILL)
                    return
            time.sleep(0.05)

    killer = threading.Thread(target=kill)
    killer.start()
    record = trained_together("parallel=ddp", *steps, losses=losses)
    killer.join()
    assert record.state == "complete"
    assert losses == ["process 1 of 2 was ended by SIGKILL"]
    (continued,) = record.provenance["continued_from"]
    assert continued % 5 == 0
    (attempts,) = FOLDER.glob("*/steps.log")
    saved = [line for line in read_steps(attempts.parent) if line["event"] == "saved"]
    said = max(line["to"] for line in saved if line["attempt"] == "attempt-001")
    assert continued in (said, said + 5), "a checkpoint stands before its line is written"
    assert not any(line["after"] < continued for line in saved if line["attempt"] == "attempt-002")


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["launcher=local", "launcher.processes=2"], "launcher.processes=2 makes 2 processes of one training; say"),
        (
            ["launcher=local", "launcher.processes=65", "parallel=ddp"],
            "launcher.processes=65 makes 65 processes that share a batch",
        ),
        (
            ["launcher=local", "launcher.processes=2", "parallel=ddp", "recipe.micro_batch=auto"],
            "found by a training of",
        ),
        (
            ["recipe.cuda_graph=true", "recipe.gradient_checkpointing=true", "recipe.device=cuda"],
            "no block that is computed twice",
        ),
        (["recipe.cuda_graph=true", "recipe.device=cpu"], "records what CUDA computes, and this training is on cpu"),
        (
            ["launcher=slurm", "launcher.gpus=0", "recipe.cuda_graph=true", "recipe.device=auto"],
            "recipe.cuda_graph needs a GPU and launcher.gpus=0 asks Slurm for none",
        ),
        (["launcher=local", "launcher.processes=0"], "launcher.processes must be at least 1, not 0"),
    ],
)
def test_processes_that_cannot_share_are_refused(overrides, sentence):
    with pytest.raises(UserError, match=sentence):
        settings_of(overrides)


TORCHRUN = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["launcher=local"], "torchrun started 2 processes of one training, and launcher=local starts its own; add"),
        (["launcher=debug"], "torchrun's WORLD_SIZE=2 makes 2 processes of one training; say how they share it"),
        (
            ["launcher=debug", "parallel=ddp", "recipe.batch_size=1"],
            "WORLD_SIZE=2 makes 2 processes that share a batch",
        ),
    ],
)
def test_torchrun_s_processes_have_to_share(overrides, sentence, monkeypatch):
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=sentence):
        settings_of(overrides)
    monkeypatch.delenv("RANK")
    settings_of([text for text in overrides if "batch" not in text])


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_torchrun_s_processes_train_each_trial_together(workplace):
    """Two trials, one after the other; and a mistake is one sentence, said once."""
    study = [f"{name}={value}" for name, value in SETTINGS.items() if name not in ("launcher", "seeds")]
    run = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "harness", "train"]
    words = [*run, "tiny_base.yaml", *study, "launcher=debug", "seeds=[0,1]"]
    refused = subprocess.run(words, capture_output=True, text=True, timeout=300)
    assert refused.stderr.count("harness: torchrun's WORLD_SIZE=2 makes 2 processes of one training") == 1
    done = subprocess.run([*words, "parallel=ddp"], capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    records = Store(Path("runs/store")).trials()
    assert [record.quantities["train_seconds"].conditions["processes"] for record in records] == [2, 2]


def test_processes_are_no_part_of_a_trial(workplace):
    more = tiny_spec("launcher=local", "launcher.processes=2", "parallel=fsdp", "recipe.micro_batch=2")
    assert more.key == tiny_spec().key
