"""The log of all attempts: one JSON line an event, appended by drivers and workers alike, never rewritten.

Nothing is decided by reading it; it is the proof, after any number of kills, of what ran when and how often.
Each line is one `write` to a file opened with O_APPEND, which a local file system keeps whole and in order.
"""

import json
import os
import socket
import time
from pathlib import Path
from typing import Any, Literal, TypeAlias

from harness.records.store import unwritable

Event: TypeAlias = Literal[
    "submitted",  # driver: handed to the executor
    "found",  # driver: an attempt that an earlier driver submitted, taken over
    "started",  # worker: holds the locks, about to call
    "resumed",  # worker: as `started`, after an earlier start of the same key
    "refused",  # worker: not the current attempt of its key any more, or its key runs elsewhere
    "stopped",  # worker: asked to end before it had a result
    "requeued",  # worker on Slurm: saved at the time limit or a preemption, and put itself back into the queue
    "cancelled",  # driver: somebody cancelled its job
    "finished",  # worker: the result is written
    "failed",  # worker: the callable raised, or driver: lost too often
    "lost",  # driver: no lock, no result, no job; another attempt follows
]


def log_event(folder: Path, event: Event, *, key: str, attempt: str, **more: Any) -> None:
    """Append one line to FOLDER/attempts.log."""
    line = {"event": event, "key": key, "attempt": attempt, "pid": os.getpid(), "host": socket.gethostname()}
    text = json.dumps({**line, "time": time.time(), **more}, ensure_ascii=False) + "\n"
    path = folder / "attempts.log"
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            os.write(descriptor, text.encode())
        finally:
            os.close(descriptor)
    except OSError as error:
        raise unwritable(path, error) from error


def read_events(folder: Path) -> list[dict[str, Any]]:
    """All events of FOLDER/attempts.log, oldest first."""
    path = folder / "attempts.log"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
