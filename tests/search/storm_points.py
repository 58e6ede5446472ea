"""Named places in a driver and in a worker at which a process of a storm kills itself, as kill -9 would.

Each is a function of the product, and whether death comes before or after it. FOLDER/kills.log has a line for every
death: the process writes it with its last breath, so what is there did happen.
"""

import itertools
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple


class Point(NamedTuple):
    owner: Any  # module or class
    name: str
    before: bool


def driver_points() -> dict[str, Point]:
    from harness.launch import executors, pool
    from harness.search import candidates, halving, sweep
    from harness.trials import queue

    return {
        "recovering": Point(sweep.Sweep, "_recover", before=False),
        "candidate noted": Point(candidates.Candidates, "submit", before=False),
        "before submit": Point(executors, "start", before=True),
        "after submit": Point(executors, "start", before=False),
        "loss seen": Point(pool.Pool, "_handle_lost", before=True),
        "reading a result": Point(queue, "_record", before=True),
        "before tell": Point(sweep.Sweep, "_collect", before=True),
        "in a tell": Point(candidates.Candidates, "update", before=False),
        "after tell": Point(sweep.Sweep, "_collect", before=False),
        "while promoting": Point(halving.Level, "promote", before=True),
        "before noting hours": Point(candidates.Candidates, "note_hours", before=True),
        "after noting hours": Point(candidates.Candidates, "note_hours", before=False),
    }


def worker_points() -> dict[str, Point]:
    from harness.diffusion import sampling
    from harness.launch.attempt import Attempt
    from harness.records.store import Store
    from harness.training import checkpoint, loop, saving
    from harness.trials import run

    return {
        "before training": Point(run, "train", before=True),
        "training step": Point(loop.Training, "advance", before=False),
        "in a checkpoint's write": Point(checkpoint, "save_file", before=False),
        "before a checkpoint's rename": Point(saving, "publish", before=True),
        "after a checkpoint's rename": Point(saving, "publish", before=False),
        "while sampling": Point(sampling, "_pictures", before=False),
        "before the record": Point(Store, "put", before=True),
        "after the record": Point(Store, "put", before=False),
        "before the result": Point(Attempt, "write_result", before=True),
        "after the result": Point(Attempt, "write_result", before=False),
    }


def arm(folder: Path, points: dict[str, Point], point: str, nth: int, **who: Any) -> None:
    """Die at the `nth` passing of the point."""
    owner, name, before = points[point]
    function: Callable[..., Any] = getattr(owner, name)
    passing = itertools.count(1)

    def deadly(*args: Any, **kwargs: Any) -> Any:
        last = next(passing) == nth
        if last and before:
            die(folder, point, **who)
        value = function(*args, **kwargs)
        if last:
            die(folder, point, **who)
        return value

    setattr(owner, name, deadly)


def die(folder: Path, point: str, **who: Any) -> None:
    note(folder / "kills.log", point=point, pid=os.getpid(), **who)
    os.kill(os.getpid(), signal.SIGKILL)


def note(path: Path, **line: Any) -> None:
    """Append one line, whole."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    os.write(descriptor, f"{json.dumps(line)}\n".encode())
    os.close(descriptor)


def noted(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
