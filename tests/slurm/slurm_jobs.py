"""Callables for jobs on a real Slurm. Each logs its steps, one line a step, so that repeated work shows.

A job that something is to happen to has a step that is `held`: it lasts until something ends the run (the next run of
the key does it as any other) or the test lets the key go (`Driver.let_go`). So no job ends before its event, however
slow the machine is.
"""

import json
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import harness
from harness.launch.attempt import AttemptStopped, shared_folder
from harness.records.plain import Plain
from harness.records.provenance import code_state
from harness.records.store import write_atomic
from harness.training.stopping import SigtermFlag


@dataclass(frozen=True)
class Saves:
    """`steps` steps of `seconds` each. Like training it listens for SIGTERM, and it saves only when it is asked to
    stop: whatever it does not repeat, a signal saved."""

    steps: int = 8
    seconds: float = 0.25
    held: int | None = None
    saves: bool = True  # False: it does not, on purpose

    def __call__(self, folder: Path) -> Plain:
        shared = shared_folder(folder)
        checkpoint = shared / "checkpoint.json"
        first = json.loads(checkpoint.read_text()) if checkpoint.exists() else 0
        with SigtermFlag() as stop:
            for step in range(first, self.steps):
                note(shared / "steps.log", f"{folder.name} {step}")
                time.sleep(self.seconds)
                while step == self.held and is_held(shared, step) and not stop.requested:
                    time.sleep(0.05)
                if stop.requested:
                    if self.saves:
                        write_atomic(checkpoint, json.dumps(step + 1).encode())
                    raise AttemptStopped
        return {"from": first, "job": os.environ.get("SLURM_JOB_ID")}


@dataclass(frozen=True)
class Deaf:
    """Saves each step, and hears no signal: only the time limit itself ends it."""

    steps: int
    seconds: float = 0.25
    held: int | None = None

    def __call__(self, folder: Path) -> Plain:
        for number in (signal.SIGTERM, signal.SIGUSR2):
            signal.signal(number, signal.SIG_IGN)
        shared = shared_folder(folder)
        checkpoint = shared / "checkpoint.json"
        first = json.loads(checkpoint.read_text()) if checkpoint.exists() else 0
        for step in range(first, self.steps):
            note(shared / "steps.log", f"{folder.name} {step}")
            time.sleep(self.seconds)
            while step == self.held and is_held(shared, step):
                time.sleep(0.05)
            write_atomic(checkpoint, json.dumps(step + 1).encode())
        return {"from": first}


@dataclass(frozen=True)
class Hungry:
    """Takes memory until it has `mb`."""

    mb: int

    def __call__(self, _folder: Path) -> Plain:
        held = []
        for _ in range(self.mb // 20):
            held.append(b"x" * (20 << 20))
            time.sleep(0.02)
        return len(held)


@dataclass(frozen=True)
class Fails:
    def __call__(self, _folder: Path) -> Plain:
        raise ValueError("as it should")


@dataclass(frozen=True)
class Code:
    """Which code the job runs."""

    def __call__(self, _folder: Path) -> Plain:
        package = Path(harness.__file__ or "").parent
        return {"package": str(package), "state": dict(code_state(package)), "working_directory": str(Path.cwd())}


def is_held(shared: Path, step: int) -> bool:
    """Whether a step that lasts until something happens goes on: it is its first time, and the key is not let go."""
    begun = [int(line.split()[1]) for line in (shared / "steps.log").read_text().splitlines()]
    return begun.count(step) == 1 and not (shared / "go").exists()


def note(path: Path, line: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    os.write(descriptor, f"{line}\n".encode())
    os.close(descriptor)
