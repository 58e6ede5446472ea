"""Callables that workers run. Those with steps keep a log of their own, so that repeated work shows."""

import json
import os
import random
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy

from harness.launch import worker
from harness.launch.attempt import Attempt, Result, shared_folder
from harness.launch.events import report_progress
from harness.launch.team import Place
from harness.launch.together import followed
from harness.records.errors import UserError
from harness.records.plain import Plain
from harness.records.store import write_atomic


def add(folder: Path, a: int = 1, b: int = 2) -> Plain:
    return {
        "sum": a + b,
        "threads": os.environ.get("OMP_NUM_THREADS"),
        "devices": os.environ.get("CUDA_VISIBLE_DEVICES"),
    }


def where(folder: Path) -> Plain:
    """The package that a worker imports."""
    import harness

    return str(Path(harness.__file__).parent)


def raises(folder: Path) -> Plain:
    raise ValueError("two\nlines")


@dataclass(frozen=True)
class StopsOften:
    """Asked to end `times` times, as a preempted worker that saved what it had; then it has a result."""

    times: int

    def __call__(self, folder: Path) -> Plain:
        log = shared_folder(folder) / "stops.log"
        stops = len(log.read_text().splitlines()) if log.exists() else 0
        if stops < self.times:
            note(log, folder.name)
            raise worker.AttemptStopped
        return stops


def user_mistake(folder: Path) -> Plain:
    raise UserError("no such folder '/x'; name one that exists")


def not_plain(folder: Path) -> Plain:
    return object()  # type: ignore[return-value]


def dies(folder: Path) -> Plain:
    os.kill(os.getpid(), signal.SIGKILL)
    return None


def stops_once_then_dies(folder: Path) -> Plain:
    StopsOften(1)(folder)
    return dies(folder)


def dies_once(folder: Path) -> Plain:
    marker = shared_folder(folder) / "died"
    if not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return folder.name


@dataclass(frozen=True)
class Steps:
    """`steps` steps of `seconds` each, a checkpoint after every one; dies as `die` says, in its first attempt.

    die: "" never; "step" in the middle; "before result" and "after result" around the result's write;
    "in checkpoint" after a step was done and before its checkpoint stands (so that this one step is repeated).
    held: the last step lasts until the test makes the file POOL/go, so that the job does not end before its event.
    """

    steps: int = 4
    seconds: float = 0.02
    die: str = ""
    held: bool = False
    imports: tuple[str, ...] = ()

    def __call__(self, folder: Path) -> Plain:
        shared = shared_folder(folder)
        checkpoint = shared / "checkpoint.json"
        first = json.loads(checkpoint.read_text()) if checkpoint.exists() else 0
        die = self.die if folder.name == "attempt-001" else ""
        for step in range(first, self.steps):
            time.sleep(self.seconds)
            while self.held and step == self.steps - 1 and not (folder.parent.parent / "go").exists():
                time.sleep(0.02)
            note(shared / "steps.log", f"{folder.name} {step}")
            if die == "in checkpoint" and step == self.steps // 2:
                os.kill(os.getpid(), signal.SIGKILL)
            write_atomic(checkpoint, json.dumps(step + 1).encode())
            report_progress(folder, "train", step + 1, self.steps)
            if die == "step" and step == self.steps // 2:
                os.kill(os.getpid(), signal.SIGKILL)
        if die.endswith("result"):
            _die_around_the_result(before=die.startswith("before"))
        return {"steps": self.steps, "from": first}


def note(path: Path, line: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    os.write(descriptor, f"{line}\n".encode())
    os.close(descriptor)


def _die_around_the_result(before: bool) -> None:
    write = Attempt.write_result

    def mortal(self: Attempt, result: Result) -> None:
        if not before:
            write(self, result)
        os.kill(os.getpid(), signal.SIGKILL)

    Attempt.write_result = mortal  # type: ignore[method-assign]


def describe(folder: Path) -> Plain:
    """What a worker's process is like."""
    return {
        "pid": os.getpid(),
        "session": os.getsid(0),
        "random": random.random(),
        "numpy": float(numpy.random.rand()),
        "tasks": len(list(Path("/proc/self/task").iterdir())),
        "hears_ctrl_c": signal.getsignal(signal.SIGINT) is signal.default_int_handler,
        "cwd": str(Path.cwd()),
        "stdin": str(Path("/proc/self/fd/0").readlink()),
    }


def speaks(folder: Path) -> Plain:
    print(f"{folder.parent.name} says")
    print(f"{folder.parent.name} complains", file=sys.stderr)
    return None


def hangs(folder: Path) -> Plain:
    """Deaf to what asks it to end."""
    for number in (signal.SIGTERM, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    time.sleep(60)
    return None


@dataclass(frozen=True)
class Imports:
    """The process that imported a module which it names."""

    imports: tuple[str, ...] = ("counts_imports",)

    def __call__(self, _folder: Path) -> Plain:
        import counts_imports

        return counts_imports.IMPORTED_BY


@dataclass(frozen=True)
class Followed:
    """What its followers do, once they said where they are: ends, waits, fails, refuses, stops, breaks (as what reads
    from a process that is gone does). Called, it leads two of them."""

    what: str
    is_shared: bool = True

    def __call__(self, folder: Path) -> Plain:
        with followed(folder, 1) as place:
            try:
                while self.what == "waits" and not (folder / "go").exists():
                    time.sleep(0.05)
            except Exception:  # as code does that takes any failure for its own work's
                (folder / "mistaken").touch()
        return place.size

    def follow(self, folder: Path, place: Place) -> None:
        (folder / f"place-{place.rank}").write_text(f"{place.host}:{place.port} of {place.size}")
        write_atomic(folder / f"here-{place.rank}", str(os.getpid()).encode())
        match self.what:
            case "waits":
                time.sleep(1000)
            case "breaks":
                while not (folder / "broken").exists():
                    time.sleep(0.05)
                raise ConnectionError("closed by peer")
            case "fails":
                raise RuntimeError("out of luck")
            case "refuses":
                raise UserError("the data changed")
            case "stops":
                time.sleep(0.3)
                (folder / f"stopped-{place.rank}").touch()
                raise worker.AttemptStopped
