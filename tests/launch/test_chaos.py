"""Kill -9 at named points, again and again; the logs prove that nothing was lost and nothing done twice.

The proof reads the attempts' log and the steps' logs that the workers append, never the pool's own state.
"""

import json
import random
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import launch_jobs as jobs
import pytest
from launch_driver import POINTS

from harness.launch.config import LocalLauncher
from harness.launch.events import read_events
from harness.launch.pool import Pool

STEPS = 4


def drive(folder: Path, **settings: Any) -> "subprocess.CompletedProcess[str]":
    """One driver's life. Workers that outlive it do not hold its pipes."""
    script = str(Path(jobs.__file__).with_name("launch_driver.py"))
    command = [sys.executable, script, str(folder), json.dumps(settings)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def steps_of(folder: Path, key: str) -> list[tuple[str, int]]:
    """(attempt, step) in the order in which the key's workers did them."""
    lines = (folder / key / "shared" / "steps.log").read_text().splitlines()
    return [(line.split()[0], int(line.split()[1])) for line in lines]


def doubled_work(folder: Path, repeats_allowed: Counter[str]) -> list[str]:
    """What the logs say was done twice: steps past a checkpoint, a key after its end, two workers at once."""
    faults = []
    running: dict[str, str] = {}
    done: set[str] = set()
    for line in read_events(folder):
        key, event = line["key"], line["event"]
        if event in ("started", "resumed"):
            if key in done:
                faults.append(f"{key} began again after it was finished")
            if key in running:
                faults.append(f"{key}: {line['attempt']} began beside {running[key]}")
            running[key] = line["attempt"]
        elif event in ("finished", "failed", "stopped") or (event == "lost" and running.get(key) == line["attempt"]):
            running.pop(key, None)
            done |= {key} if event == "finished" else set()
    for log in sorted(folder.glob("*/shared/steps.log")):
        key = log.parent.parent.name
        steps = [step for _, step in steps_of(folder, key)]
        repeated = len(steps) - len(set(steps))
        if repeated > repeats_allowed[key]:
            faults.append(f"{key} repeated {repeated} steps: {steps}")
    return faults


@pytest.mark.parametrize("point", sorted(POINTS))
def test_a_driver_killed_anywhere_loses_nothing_and_repeats_nothing(tmp_path: Path, point: str) -> None:
    todo = {f"k{index}": {"steps": STEPS, "die": "step" if index == 1 else ""} for index in range(3)}
    killed = drive(tmp_path, jobs=todo, in_flight=2, kill=[point, 1 if point == "lost seen" else 2])
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    again = drive(tmp_path, jobs=todo, in_flight=2)
    assert "ended" in again.stdout, again.stderr
    assert doubled_work(tmp_path, Counter()) == []
    for key in todo:
        assert sorted({step for _, step in steps_of(tmp_path, key)}) == list(range(STEPS))
    assert ended(again.stdout) == dict.fromkeys(todo, "done")


@pytest.mark.parametrize("die", ["step", "before result", "after result", "in checkpoint"])
def test_a_worker_killed_anywhere_repeats_at_most_the_step_without_checkpoint(tmp_path: Path, die: str) -> None:
    with Pool(tmp_path, LocalLauncher(max_in_flight=2, poll_interval_s=0.03)) as pool:
        pool.submit("key", jobs.Steps(steps=STEPS, die=die))
        states = [outcome.state for outcome in pool.outcomes()]
    assert states == (["done"] if die == "after result" else ["lost", "done"])
    assert doubled_work(tmp_path, Counter({"key": int(die == "in checkpoint")})) == []


def test_a_seeded_storm_of_kills(tmp_path: Path) -> None:
    """Drivers die at random points while workers die at theirs, until one driver gets through."""
    chance = random.Random(7)
    deaths = ["", "", "step", "before result", "after result", "in checkpoint"]
    todo = {f"k{index:02d}": {"steps": STEPS, "die": deaths[index % len(deaths)]} for index in range(12)}
    kills = 0
    for _ in range(8):
        point = chance.choice(sorted(POINTS))
        n = chance.randint(1, 40) if point == "polling" else chance.randint(1, 3)
        kills += drive(tmp_path, jobs=todo, in_flight=3, kill=[point, n]).returncode == -signal.SIGKILL
    last = drive(tmp_path, jobs=todo, in_flight=3)
    assert kills >= 4, "a storm without lightning proves nothing"
    assert ended(last.stdout) == dict.fromkeys(todo, "done"), last.stderr
    allowed = Counter(key for key, job in todo.items() if job["die"] == "in checkpoint")
    assert doubled_work(tmp_path, allowed) == []
    losses = defaultdict(int)
    for line in read_events(tmp_path):
        losses[line["key"]] += line["event"] == "lost" and bool(line["error"])
    assert all(losses[key] >= 1 for key, job in todo.items() if job["die"] in ("step", "before result"))


def test_the_proof_sees_red_when_locks_are_ignored(tmp_path: Path) -> None:
    settings = {"jobs": {"key": {"steps": 30, "seconds": 0.05, "held": True}}, "in_flight": 1}
    first = start(tmp_path, **settings)
    while not (tmp_path / "key" / "shared" / "checkpoint.json").exists():
        time.sleep(0.02)
    first.kill()
    first.wait()
    second = start(tmp_path, **settings, mutate="locks")
    while len([line for line in read_events(tmp_path) if line["event"] in ("started", "resumed")]) < 2:
        time.sleep(0.02)
    (tmp_path / "go").touch()
    second.wait(60)
    faults = doubled_work(tmp_path, Counter())
    assert faults, "two attempts ran beside each other, or finished work began again"


def start(folder: Path, **settings: Any) -> "subprocess.Popen[bytes]":
    """A driver that goes on beside the test."""
    script = str(Path(jobs.__file__).with_name("launch_driver.py"))
    command = [sys.executable, script, str(folder), json.dumps(settings)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def test_a_job_that_meets_its_time_limit_goes_on_in_the_same_attempt(tmp_path: Path) -> None:
    launcher = LocalLauncher(timeout_min=4.0 / 60, poll_interval_s=0.03)
    with Pool(tmp_path, launcher) as pool:
        pool.submit("key", jobs.Steps(steps=14, seconds=0.2))
        outcomes = list(pool.outcomes())
    assert [(outcome.state, outcome.attempt) for outcome in outcomes] == [("done", "attempt-001")]
    assert [line["event"] for line in read_events(tmp_path)][:4] == ["submitted", "started", "requeued", "resumed"]
    assert len(steps_of(tmp_path, "key")) <= 14 + 6, "no more than the step at each time-out is repeated"


def ended(printed: str) -> dict[str, str]:
    """key -> final state, as the driver printed it."""
    lines = (line.split(maxsplit=2) for line in printed.splitlines() if line not in ("driving", "ended"))
    return {key: state for key, state, _ in lines if state != "lost"}
