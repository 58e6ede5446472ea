"""How far an attempt is: written by its worker, read by the driver for people to see. Nothing depends on it."""

import json
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from harness.records.plain import to_plain

EVERY_S = 0.5
_last: dict[Path, tuple[str, float]] = {}  # attempt folder -> stage and time of the last write of this process


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    stage: str  # "train", "sample", ...
    step: int
    of: int
    time: float  # Unix seconds


def report_progress(attempt_folder: Path, stage: str, step: int, of: int) -> None:
    """Say how far the attempt is; cheap enough for every step (at most one write each half second and stage).

    A full disk is not reported here: what matters will meet it too, and says so.
    """
    now = time.monotonic()
    last_stage, last_time = _last.get(attempt_folder, ("", float("-inf")))
    if stage == last_stage and step < of and now - last_time < EVERY_S:
        return
    _last[attempt_folder] = (stage, now)
    plain = to_plain(Progress(stage=stage, step=step, of=of, time=time.time()))
    with suppress(OSError):
        partial = attempt_folder / ".progress.json"  # one writer: the attempt's own worker
        partial.write_text(json.dumps(plain))
        partial.replace(attempt_folder / "progress.json")


def read_progress(attempt_folder: Path) -> Progress | None:
    """The last word of the attempt's worker, or None before its first."""
    try:
        return Progress(**json.loads((attempt_folder / "progress.json").read_text()))
    except (FileNotFoundError, json.JSONDecodeError, TypeError):
        return None
