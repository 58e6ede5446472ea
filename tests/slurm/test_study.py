"""`harness train` on a real Slurm: a real trial, requeued in the middle of its training."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster import Cluster
from slurm_driver import eventually
from storm import Plan, start_driver
from storm_points import noted
from tiny_study import SETTINGS, lay_out

from harness.launch.events import read_events
from harness.records.store import Store

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(1200)]

SLURM = [
    "launcher=slurm", "launcher.gpus=0", "launcher.cpus=1", "launcher.mem_gb=1.8", "launcher.timeout_min=20",
    "launcher.partition=main",
]  # fmt: skip
TRAINING = [
    f"{name}={value}" for name, value in SETTINGS.items() if name not in ("launcher", "recipe.checkpoint_every")
]
LONGER = ["recipe.steps=60", "recipe.checkpoint_every=100000"]
KEPT = [text for text in TRAINING if text.split("=")[0] not in ("recipe.steps", "recipe.checkpoint_every")]
COMMAND = ["train", "tiny_base.yaml", *KEPT, *LONGER, *SLURM]
HELD = 21  # the step during which it is requeued
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
    own, log = workplace.parent / "storm", workplace.parent / "driver.txt"
    Plan(trials=1, held={"tiny_base": HELD}, budgets=(60,)).write(own)
    driver = start_driver(own, log, None, *COMMAND, cwd=workplace)
    try:
        eventually(lambda: driver.poll() is not None or noted(own / "held.log"), 500)
        cluster.run("scontrol", "requeue", read_events(ATTEMPTS)[-1]["job"])
        assert driver.wait(500) == 0, log.read_text()
    finally:
        driver.kill()
    story = [line["event"] for line in read_events(ATTEMPTS)]
    assert story == ["submitted", "started", "stopped", "resumed", "finished"]
    (record,) = Store(Path("runs/store")).trials()
    assert record.state == "complete"
    assert record.provenance["continued_from"] == [HELD]
    code = record.provenance["code"]
    assert re.fullmatch("[0-9a-f]{40}", code["commit"])
    assert [path.name for path in ATTEMPTS.glob("code-*")] == [f"code-{code['snapshot']}"]
