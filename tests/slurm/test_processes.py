"""`harness train` on a real Slurm, in two tasks of one job: a real trial, and what its users and machines do to it."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cluster import Cluster
from slurm_driver import eventually
from tiny_study import SETTINGS, lay_out

from harness.launch.events import read_events, read_steps
from harness.launch.jobs import recall
from harness.records.store import Store
from harness.training.checkpoint import latest

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(1500)]

OWN = ("launcher", "seeds", "recipe")
TRAINING = [
    *(f"{name}={value}" for name, value in SETTINGS.items() if name.split(".")[0] not in OWN),
    "recipe.batch_size=8", "recipe.checkpoint_every=5", "recipe.validate_every=1000",
    "recipe.validation_images=16", "launcher=slurm", "launcher.gpus=0", "launcher.cpus=1", "launcher.timeout_min=10",
    "launcher.poll_interval_s=0.2", "launcher.heartbeat_s=1", "launcher.lease_timeout_s=30",
]  # fmt: skip
TWO = ["launcher.processes=2", "parallel=ddp", "launcher.mem_gb=3.6"]
ONE = ["launcher.processes=1", "launcher.mem_gb=1.8"]
WAIT_S = 300
"""For what takes seconds: torch loads slowly where many load it."""


class Training:
    """The command in `folder`, started and started again: `steps` of half a second, until its end is waited for."""

    def __init__(self, folder: Path, out: str = "runs", steps: int = 200) -> None:
        self.folder, self.out, self.steps, self.process = folder, folder / out, steps, None
        self.attempts = self.out / "train-tiny_base" / "attempts"

    def start(self, *settings: str) -> None:
        driver = [sys.executable, "-c", "import held_trial; held_trial.drive()", str(self.folder / "go")]
        command = [*driver, "train", "tiny_base.yaml", *TRAINING, f"recipe.steps={self.steps}", *settings]
        command.append(f"out={self.out}")
        with (self.folder / "driver.txt").open("ab") as into:
            self.process = subprocess.Popen(command, cwd=self.folder, stdout=into, stderr=into)

    def ended(self) -> int:
        (self.folder / "go").touch()
        return self.process.wait(2 * WAIT_S)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def events(self, *names: str) -> list[dict]:
        return [line for line in read_events(self.attempts) if line["event"] in names]

    def story(self) -> list[str]:
        return [f"{line['event']} {int(line['attempt'][-3:])}" for line in read_events(self.attempts)]

    def saved(self) -> list[int]:
        """The steps of the checkpoints, in their order."""
        lines = [line for log in self.attempts.glob("*/steps.log") for line in read_steps(log.parent)]
        return [line["to"] for line in lines if line["event"] == "saved"]

    def saves(self) -> None:
        """Until another checkpoint is there."""
        before = len(self.saved())
        self.wait(lambda: len(self.saved()) > before)

    def wait(self, true: Callable[[], object]) -> None:
        eventually(lambda: true() or self.process.poll() is not None, WAIT_S)
        assert true(), self.said()

    def said(self) -> str:
        return (self.folder / "driver.txt").read_text()


@pytest.fixture
def training(cluster: Cluster, tmp_path: Path) -> Iterator[Training]:
    for name in ("cache", "study"):
        (tmp_path / name).mkdir()
    lay_out(tmp_path / "study", tmp_path / "cache")
    started = Training(tmp_path / "study")
    yield started
    started.kill()


def task(rank: int) -> int:
    """The process of the job's task of that number."""
    for path in Path("/proc").glob("[0-9]*"):
        try:
            words, variables = (path / "cmdline").read_bytes(), (path / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"submitit.core._submit" in words and f"SLURM_PROCID={rank}".encode() in variables and b"srun" not in words:
            return int(path.name)
    raise LookupError(rank)


def test_a_trial_of_two_tasks_is_preempted_loses_one_and_ends_in_one_task(training: Training, cluster: Cluster) -> None:
    training.start(*TWO, "launcher.partition=graced")
    training.saves()
    shown = cluster.run("scontrol", "--oneliner", "show", "job", training.events("started")[0]["job"])
    assert all(f" {setting} " in shown for setting in ("NumCPUs=2", "NumTasks=2", "NumNodes=1"))
    cluster.run("sbatch", "--partition=high", "--exclusive", "--output=/dev/null", "--wrap=sleep 1")
    training.wait(lambda: training.events("resumed"))
    training.saves()
    os.kill(task(1), signal.SIGKILL)
    training.wait(lambda: training.events("lost"))
    training.wait(lambda: len(training.events("resumed")) == 2)
    training.saves()
    training.kill()
    assert recall(training.attempts)
    eventually(lambda: training.events("stopped"), WAIT_S)
    training.start(*ONE, "launcher.partition=main")
    assert training.ended() == 0, training.said()

    assert training.story()[:4] == ["submitted 1", "started 1", "requeued 1", "resumed 1"]
    assert "stopped 2" in training.story()
    assert training.story()[-3:] == ["submitted 3", "resumed 3", "finished 3"]
    assert "process 1 of 2 on " in training.events("lost")[0]["error"]
    (record,) = Store(training.out / "store").trials()
    assert record.state == "complete"
    assert record.provenance["continued_from"] == sorted(record.provenance["continued_from"])
    assert len(record.provenance["continued_from"]) == 3
    assert training.saved() == sorted(set(training.saved())), "no step is saved twice"
    assert "processes" not in record.quantities["train_seconds"].conditions


def test_a_full_disk_is_one_sentence_and_costs_no_checkpoint(training: Training) -> None:
    disk = training.folder / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", disk], check=True)
    try:
        training = Training(training.folder, "disk/runs", steps=40)
        training.out.mkdir()
        (training.out / "cache").symlink_to(training.folder.parent / "cache")
        training.start(*TWO)
        training.saves()
        fill(disk)
        assert training.ended() == 2  # at the latest when the last checkpoint cannot be written
        assert "No space left on device" in training.said().splitlines()[-1]
        assert f"cannot write {training.attempts}" in training.said().splitlines()[-1]
        (folder,) = training.attempts.glob("*/shared/checkpoints")
        checkpoint, damage = latest(folder)
        assert checkpoint is not None
        assert (checkpoint.step, damage) == (training.saved()[-1], ())
        (disk / "filler").unlink()
        training.start(*TWO)
        assert training.ended() == 0, training.said()
        (record,) = Store(training.out / "store").trials()
        assert record.provenance["continued_from"] == [checkpoint.step]
        assert record.quantities["train_seconds"].conditions["processes"] == 2
    finally:
        training.kill()
        subprocess.run(["umount", "--lazy", disk], check=True)


def fill(disk: Path, leave: int = 1 << 20) -> None:
    """Leave room for words, and for no checkpoint."""
    with (disk / "filler").open("wb") as filler:
        while (free := os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize) > leave:
            filler.write(b"\0" * min(free - leave, 1 << 20))
            filler.flush()
