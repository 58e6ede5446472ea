"""`harness ablate` on a real Slurm: real trials, one of them requeued in the middle of its training."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster import Cluster
from slurm_driver import eventually
from tiny_study import lay_out

from harness.launch.events import read_events
from harness.launch.progress import read_progress

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(300)]

COMMAND = [
    "ablate", "tiny", "recipe.steps=600", "recipe.checkpoint_every=100000", "launcher=slurm", "launcher.gpus=0",
    "launcher.cpus=1", "launcher.mem_gb=1.8", "launcher.timeout_min=5", "launcher.partition=main",
]  # fmt: skip
ATTEMPTS = Path("runs/tiny/attempts")


@pytest.fixture
def workplace(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    for name in ("cache", "study"):
        (tmp_path / name).mkdir()
    lay_out(tmp_path / "study", tmp_path / "cache")
    monkeypatch.chdir(tmp_path / "study")
    return tmp_path / "study"


def test_an_ablation_survives_a_requeue_in_the_middle_of_a_training(cluster: Cluster, workplace: Path) -> None:
    driver = subprocess.Popen(
        [sys.executable, "-m", "harness.cli", *COMMAND], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    try:
        key, job = [], []

        def training() -> bool:
            assert driver.poll() is None, driver.communicate()
            for line in (line for line in read_events(ATTEMPTS) if line["event"] == "started"):
                progress = read_progress(ATTEMPTS / line["key"] / line["attempt"])
                if progress is not None and progress.stage == "train" and 20 < progress.step < 500:
                    key.append(line["key"])
                    job.append(line["job"])
                    return True
            return False

        eventually(training, 120)
        cluster.run("scontrol", "requeue", job[0])
        said, complained = driver.communicate(timeout=200)
    finally:
        driver.kill()
    assert driver.returncode == 0, complained
    story = [line["event"] for line in read_events(ATTEMPTS) if line["key"] == key[0]]
    assert story == ["submitted", "started", "stopped", "resumed", "finished"]
    records = [
        json.loads(path.read_text())
        for path in Path("runs").glob("**/*.json")
        if '"continued_from"' in path.read_text()
    ]
    continued = [record["provenance"]["continued_from"] for record in records]
    assert sorted(map(len, continued)) == [0, 1], (
        "one trial was interrupted, once, and saved though no checkpoint was due"
    )
    codes = [record["provenance"]["code"] for record in records]
    assert all(re.fullmatch("[0-9a-f]{40}", code["commit"]) for code in codes)
    assert {f"code-{code['snapshot']}" for code in codes} == {path.name for path in ATTEMPTS.glob("code-*")}
    assert said.strip().endswith("report.html")
