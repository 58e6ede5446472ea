"""Preparing in jobs: the bytes of one process, and each shard made once, whoever is lost."""

import json
import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harness.data import prepare
from harness.data.prepare import PrepareConfig
from harness.data.prepared import LOG
from harness.records.errors import UserError
from harness.trials.preparing import JOBS, prepare_folder
from harness.trials.settings import settings_of


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("preparing")
    random = np.random.default_rng(0)
    for number in range(60):
        path = folder / "images" / ("red", "blue")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(path)
    return folder


def settings(place: Path, launcher: str):
    of_data = ["data=image_folder", f"data.path={place / 'images'}", "data.size=16", f"out={place / 'runs'}"]
    threads = ["launcher.max_in_flight=2", "launcher.threads=1"] if launcher == "local" else []
    return settings_of([*of_data, f"launcher={launcher}", *threads])


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.npy"))}


def made(folder: Path) -> list[str]:
    lines = [json.loads(line) for line in (folder / LOG).read_text().splitlines()]
    return [line["shard"] for line in lines if line["event"] == "made"]


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["debug", "local"])
def test_jobs_make_the_bytes_of_one_process(place, tmp_path, launcher):
    prepare_folder(settings(place, "debug"), PrepareConfig(to=tmp_path / "here", shard=10))
    prepare_folder(settings(place, launcher), PrepareConfig(to=tmp_path / "jobs", shard=10, job_shards=2))
    assert contents(tmp_path / "jobs") == contents(tmp_path / "here")
    assert sorted(made(tmp_path / "jobs")) == sorted(made(tmp_path / "here"))
    assert not (tmp_path / "jobs" / JOBS).exists()


def test_a_job_that_is_killed_is_started_again_and_makes_what_is_missing(place, tmp_path):
    """Of two workers one dies by kill -9, once it has made a shard."""
    folder, killed = tmp_path / "jobs", []

    def kill_the_first() -> None:
        while not killed:
            lines = (folder / LOG).read_text().splitlines() if (folder / LOG).exists() else []
            if lines and lines[0].endswith("}"):
                killed.append(json.loads(lines[0])["pid"])
                os.kill(killed[0], signal.SIGKILL)
            time.sleep(0.002)

    thread = threading.Thread(target=kill_the_first, daemon=True)
    thread.start()
    prepare_folder(settings(place, "local"), PrepareConfig(to=folder, shard=1, job_shards=60))
    thread.join()
    lines = [json.loads(line) for line in (folder / LOG).read_text().splitlines()]
    assert killed[0] != os.getpid()
    assert len({line["pid"] for line in lines if line["event"] == "made"}) == 3  # two jobs, of which one began twice
    names = [line["shard"] for line in lines]
    assert sorted(names) == sorted(set(names)) == sorted(contents(folder).keys() - {"index.npy"})


def test_a_job_s_mistake_is_the_command_s(place, tmp_path, monkeypatch):
    def refuses(_self, name, _encode):
        raise UserError(f"{name} is not to be")

    monkeypatch.setattr(prepare.Preparation, "make", refuses)
    with pytest.raises(UserError, match=r"the job of heldout-00000-2 failed: heldout-00000.npy is not to be"):
        prepare_folder(settings(place, "debug"), PrepareConfig(to=tmp_path, shard=10, job_shards=2))
