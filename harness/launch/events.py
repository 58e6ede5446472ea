"""The logs of all attempts: one JSON line an event, appended by drivers and workers alike, never rewritten.

    FOLDER/attempts.log     what became of every attempt
    FOLDER/KEY/steps.log    which steps each attempt at the key trained, and which of them a checkpoint has
    FOLDER/KEY/samples.log  which samples each attempt at the key computed, in parts

Nothing is decided by reading them; they are the proof, after any number of kills, of what ran when and how often.

Beside them, how far an attempt is: KEY/ATTEMPT/progress.json, written by its worker for people to see.
"""

import json
import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from harness.records.lines import append_line, whole_lines
from harness.records.plain import to_plain
from harness.records.record import CurvePoint

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
    _append(folder / "attempts.log", {"event": event, "key": key, "attempt": attempt}, more)


def log_steps(attempt_folder: Path, event: Literal["began", "saved", "ended"], after: int, to: int) -> None:
    """Append one line to FOLDER/KEY/steps.log: the steps above `after` up to `to` were trained, or are in a checkpoint;
    `began`: both are the step that the attempt goes on from."""
    stretch = {"event": event, "attempt": attempt_folder.name, "after": after, "to": to}
    _append(attempt_folder.parent / "steps.log", stretch, {})


def log_part(path: Path, event: Literal["began", "made"], score: str, part: range) -> None:
    """Append one line to a log of samples: this part of a score's is sampled from now on, or is there."""
    _append(path, {"event": event, "score": score, "first": part.start, "to": part.stop}, {})


def _append(path: Path, line: Mapping[str, Any], more: Mapping[str, Any]) -> None:
    by = {"pid": os.getpid(), "host": socket.gethostname(), "time": time.time()}
    append_line(path, {**line, **by, **more})


def read_events(folder: Path) -> list[dict[str, Any]]:
    """All events of FOLDER/attempts.log, oldest first."""
    return whole_lines(folder / "attempts.log")


def read_steps(key_folder: Path) -> list[dict[str, Any]]:
    """What the attempts at a key trained, oldest first."""
    return whole_lines(key_folder / "steps.log")


EVERY_S = 0.5
_last: dict[Path, tuple[str, float]] = {}  # attempt folder -> phase and time of the last write of this process


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    phase: str  # "train", "sample", ...
    step: int
    of: int
    time: float  # Unix seconds
    seconds_left: float | None = None  # of the phase, at that time
    images_per_second: float | None = None
    model_flops_utilisation: float | None = None
    processes: int = 1  # that share the work
    newest: tuple[CurvePoint, ...] = ()  # the last validation loss and scores, each with its step


def report_progress(attempt_folder: Path, phase: str, step: int, of: int, **more: Any) -> None:
    """Say how far the attempt is; cheap enough for every step (at most one write each half second and phase).
    `more` are further fields of Progress.

    A full disk is not reported here: what matters will meet it too, and says so.
    """
    now = time.monotonic()
    last_phase, last_time = _last.get(attempt_folder, ("", float("-inf")))
    if phase == last_phase and step < of and now - last_time < EVERY_S:
        return
    _last[attempt_folder] = (phase, now)
    plain = to_plain(Progress(phase=phase, step=step, of=of, time=time.time(), **more))
    with suppress(OSError):
        partial = attempt_folder / ".progress.json"  # one writer: the attempt's own worker
        partial.write_text(json.dumps(plain))
        partial.replace(attempt_folder / "progress.json")


def read_progress(attempt_folder: Path) -> Progress | None:
    """The last word of the attempt's worker, or None before its first."""
    try:
        plain = json.loads((attempt_folder / "progress.json").read_text())
        newest = tuple(CurvePoint(**each) for each in plain.pop("newest", ()))
        return Progress(**plain, newest=newest)
    except (FileNotFoundError, ValueError, TypeError, AttributeError):  # ValueError: neither JSON nor text
        return None
