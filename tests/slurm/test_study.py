"""`harness train` on a real Slurm: a real trial, requeued in the middle of its training."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster import Cluster
from slurm_driver import eventually
from tiny_study import SETTINGS, lay_out

from harness.launch.events import read_events
from harness.launch.progress import read_progress
from harness.records.store import Store

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(300)]

SLURM = [
    "launcher=slurm", "launcher.gpus=0", "launcher.cpus=1", "launcher.mem_gb=1.8", "launcher.timeout_min=5",
    "launcher.partition=main",
]  # fmt: skip
TRAINING = [
    f"{name}={value}" for name, value in SETTINGS.items() if name not in ("launcher", "recipe.checkpoint_every")
]
COMMAND = ["train", "tiny_base.yaml", *TRAINING, "recipe.steps=400", "recipe.checkpoint_every=100000", *SLURM]
ATTEMPTS = Path("runs/train-tiny_base/attempts")


@pytest.fixture
def workplace(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    for name in ("cache", "study"):
        (tmp_path / name).mkdir()
    lay_out(tmp_path / "study", tmp_path / "cache")
    monkeypatch.chdir(tmp_path / "study")
    return tmp_path / "study"


def test_a_trial_is_requeued_in_the_middle_of_its_training(cluster: Cluster, workplace: Path) -> None:
    """It saves though no checkpoint is due, goes on from there, and its record says so, and which code ran."""
    driver = subprocess.Popen(
        [sys.executable, "-m", "harness.cli", *COMMAND], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    try:
        eventually(lambda: driver.poll() is not None or 20 < step() < 350, 120)
        cluster.run("scontrol", "requeue", read_events(ATTEMPTS)[-1]["job"])
        _, complained = driver.communicate(timeout=150)
    finally:
        driver.kill()
    assert driver.returncode == 0, complained
    story = [line["event"] for line in read_events(ATTEMPTS)]
    assert story == ["submitted", "started", "stopped", "resumed", "finished"]
    (record,) = Store(Path("runs/store")).trials()
    assert record.state == "complete"
    (saved,) = record.provenance["continued_from"]
    assert 20 < saved < 400
    code = record.provenance["code"]
    assert re.fullmatch("[0-9a-f]{40}", code["commit"])
    assert [path.name for path in ATTEMPTS.glob("code-*")] == [f"code-{code['snapshot']}"]


def step() -> int:
    """How far the training is, or 0."""
    for attempt in ATTEMPTS.glob("*/attempt-*"):
        progress = read_progress(attempt)
        if progress is not None and progress.stage == "train":
            return progress.step
    return 0
