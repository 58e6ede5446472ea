"""`harness chain digits` from an empty folder, each stage killed once: kill -9 of every process that works in the
folder, some seconds after the stage began, then the same command again. Half an hour of two quiet cores."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

pytestmark = [pytest.mark.benchmark(group="chain"), pytest.mark.timeout(3 * 3600)]
DELAYS = {
    "search": 60.0, "promote": 1.5, "teacher": 40.0, "train": 25.0, "distil": 25.0, "few_steps": 30.0, "export": 4.0,
    "total": 1.5,
}  # fmt: skip
"""Stage -> seconds after its beginning at which it is killed: while it is at work."""
STAGE = re.compile(r"stage \d+ of \d+: (\w+)(, done|, of which)?")
HOUR = 3600.0


def kill_all_in(folder: Path) -> int:
    """How many there were."""
    inside = []
    for process in (each for each in Path("/proc").iterdir() if each.name.isdigit()):
        with contextlib.suppress(OSError):
            if (process / "cwd").readlink().is_relative_to(folder):
                inside.append(int(process.name))
    for pid in inside:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return len(inside)


def run_once(folder: Path, killed: dict[str, int]) -> int:
    """The command's exit status; `killed` gains the stage that it was killed in."""
    command = subprocess.Popen(
        [sys.executable, "-m", "harness", "chain", "digits"], cwd=folder, text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    timer: threading.Timer | None = None

    def kill(stage: str) -> None:
        killed[stage] = kill_all_in(folder)

    assert command.stdout is not None
    for line in command.stdout:
        if (stage := STAGE.match(line)) is None:
            continue
        if timer is not None:
            timer.cancel()
        if stage[2] is None and stage[1] not in killed:
            timer = threading.Timer(DELAYS[stage[1]], kill, [stage[1]])
            timer.start()
    if timer is not None:
        timer.cancel()
    return command.wait()


def test_each_stage_killed_once_it_ends_within_an_hour(tmp_path):
    began, killed, status = time.monotonic(), {}, -signal.SIGKILL
    while status == -signal.SIGKILL:
        status = run_once(tmp_path, killed)
    took = time.monotonic() - began
    print(f"\nkilled, with so many processes: {killed}; {took / 60:.1f} min in all")
    assert status == 0
    assert set(killed) == set(DELAYS)
    assert (tmp_path / "runs/chains/digits/report.html").is_file()
    assert took < HOUR
