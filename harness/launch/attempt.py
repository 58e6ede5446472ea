"""An attempt's folder: who may read what from it, and in which order.

    FOLDER/attempts.log                 the log of all events
    FOLDER/driver.lock                  held by the one driver
    FOLDER/KEY/lock                     held by the worker that runs KEY, or by the driver while it names another
    FOLDER/KEY/current                  the attempt that may run; any other refuses to
    FOLDER/KEY/shared/                  what outlives an attempt: checkpoints, samples
    FOLDER/KEY/steps.log, samples.log   which steps each attempt trained, which samples it computed (see `events`)
    FOLDER/KEY/attempt-001/lock         held by the worker of this attempt while it runs
                          /lease        counts up while the worker lives (where locks do not reach)
                          /submitted.json, call.pkl, progress.json, traceback.txt, logs/
                          /timeouts      on Slurm: how often it reached its time limit
                          /suspended     on Slurm: its last run saved and left without a result, to go on
                          /recalled      its driver asked it to end
                          /meeting-JOB.RUN.json  on Slurm: where the first of several tasks leads the others
                          /result.json  appears by rename: the end of the attempt

The worker writes the result before it lets go of its locks. So: a result means ended; no result and a held lock (or
a lease that moves) means running; neither means waiting or dead, which the launcher's job handle and a grace period
decide. A wrong guess costs a start-up, never a second run: naming another attempt needs KEY/lock, and a worker runs
only while it holds KEY/lock and `current` names it.
"""

import json
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from harness.processes.locks import holder
from harness.records.errors import UserError
from harness.records.plain import Plain
from harness.records.store import unwritable, write_atomic

End = Literal["done", "failed", "stopped", "refused", "lost"]


class AttemptStopped(BaseException):
    """SIGTERM reached the worker: save what the next attempt needs, and let this through.

    Like KeyboardInterrupt no Exception, so that no callable takes it for a failure of its work.
    """


class ProcessDied(Exception):  # noqa: N818 (what became of a process, not a programming error)
    """One of several processes that work together ended: the attempt is lost, and another goes on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """What `result.json` holds."""

    state: End
    value: Plain = None  # what the callable returned, if done
    error: str = ""  # one line, if not
    user_error: bool = False  # the callable raised a UserError: the user can mend it


def result_of(error: Exception) -> Result:
    """Of an attempt that this error ended."""
    if isinstance(error, ProcessDied):
        return Result(state="lost", error=str(error))
    if isinstance(error, UserError):
        return Result(state="failed", error=str(error), user_error=True)
    return Result(state="failed", error=" ".join(f"{type(error).__name__}: {error}".split()))


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try at one key. `folder` is FOLDER/KEY/attempt-NNN."""

    folder: Path

    @property
    def root(self) -> Path:
        return self.folder.parent.parent

    @property
    def key(self) -> str:
        return self.folder.parent.name

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def number(self) -> int:
        return int(self.name.removeprefix("attempt-"))

    @property
    def lock(self) -> Path:
        return self.folder / "lock"

    @property
    def key_lock(self) -> Path:
        return self.folder.parent / "lock"

    @property
    def lease(self) -> Path:
        return self.folder / "lease"

    @property
    def call(self) -> Path:
        return self.folder / "call.pkl"

    @property
    def traceback(self) -> Path:
        return self.folder / "traceback.txt"

    @property
    def logs(self) -> Path:
        """The job's standard output and error; on Slurm submitit's folder, with its pickles."""
        return self.folder / "logs"

    @property
    def is_current(self) -> bool:
        return current_attempt(self.folder.parent) == self

    @property
    def started(self) -> bool:
        """Whether a worker ever held this attempt's lock."""
        return bool(holder(self.lock))

    def make_current(self) -> None:
        """Name this the attempt that may run; only under the key's lock."""
        write_atomic(self.folder.parent / "current", self.name.encode())

    def mark_submitted(self, job_id: str | None, *, code: str | None = None) -> None:
        """`code` is the folder of the copy that it runs; said once, before there is a job."""
        plain = {"code": code, **self.submitted(), "time": time.time(), "job_id": job_id}
        write_atomic(self.folder / "submitted.json", json.dumps(plain).encode())

    def submitted(self) -> dict[str, Any]:
        """`time`, `job_id` (None where the driver died before it learnt it), `code` (None: it runs none); empty before
        that."""
        return _read_json(self.folder / "submitted.json")

    @property
    def job_id(self) -> str | None:
        """The launcher's name for the job: as the driver learnt it, or as a worker on Slurm signed its lock with it."""
        job_id = self.submitted().get("job_id") or holder(self.lock).get("job")
        return None if job_id is None else str(job_id)

    def write_result(self, result: Result) -> None:
        plain = {"state": result.state, "value": result.value, "error": result.error, "user_error": result.user_error}
        write_atomic(self.folder / "result.json", json.dumps(plain, ensure_ascii=False).encode())

    def result(self) -> Result | None:
        plain = _read_json(self.folder / "result.json")
        return Result(**plain) if "state" in plain else None

    def mark_suspended(self) -> None:
        (self.folder / "suspended").touch()

    def mark_resumed(self) -> None:
        (self.folder / "suspended").unlink(missing_ok=True)

    @property
    def is_suspended(self) -> bool:
        """Whether its last run ended in good order, without a result and to be continued."""
        return (self.folder / "suspended").exists()

    def mark_recalled(self) -> None:
        (self.folder / "recalled").touch()

    @property
    def recalled(self) -> bool:
        """Whether the driver stopped and asked the job to end: then its cancellation is no user's word on the trial."""
        return (self.folder / "recalled").exists()

    def count_timeout(self) -> None:
        """One more time limit reached: written by the attempt's worker, or by the driver once that is dead."""
        write_atomic(self.folder / "timeouts", str(self._timeouts() + 1).encode())

    def timeouts_of_key(self) -> int:
        """Time limits that the key has reached since its last failure, after which the user began anew."""
        count = 0
        for attempt in reversed(attempts_of(self.folder.parent)):
            result = attempt.result()
            if attempt != self and result is not None and result.state == "failed":
                break
            count += attempt._timeouts()
        return count

    def _timeouts(self) -> int:
        path = self.folder / "timeouts"
        text = path.read_text(errors="replace") if path.exists() else ""
        return int(text) if text.isdecimal() else 0  # else damaged

    def last_words(self) -> str:
        """The last line the job wrote to its standard error, if any: why it ended without a result."""
        one = "*.err" if self.job_id is None else f"{self.job_id}_*.err"  # the tasks of a Slurm array share one folder
        tasks = sorted(self.logs.glob(one), reverse=True)  # of several the first one's word is the last
        logs = [*tasks, *self.logs.glob("job.err")]
        lines = [line for log in logs for line in log.read_text(errors="replace").splitlines() if line.strip()]
        return lines[-1].strip() if lines else ""


def shared_folder(attempt_folder: Path) -> Path:
    """Where a callable keeps what the next attempt at the same key continues from; no two attempts run at once."""
    return shared_of(attempt_folder.parent)


def shared_of(key_folder: Path) -> Path:
    """The same folder before there is an attempt: what a driver lays there, the first attempt goes on from."""
    folder = key_folder / "shared"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(folder, error) from error
    return folder


def new_attempt(key_folder: Path) -> Attempt:
    """The next attempt's folder, made here."""
    number = max((attempt.number for attempt in attempts_of(key_folder)), default=0) + 1
    attempt = Attempt(key_folder / f"attempt-{number:03d}")
    try:
        attempt.folder.mkdir(parents=True)
    except OSError as error:
        raise unwritable(attempt.folder, error) from error
    return attempt


def attempts_of(key_folder: Path) -> list[Attempt]:
    return [Attempt(folder) for folder in sorted(key_folder.glob("attempt-*"))]


def current_attempt(key_folder: Path) -> Attempt | None:
    """None where there is none, or where its name is damaged."""
    try:
        name = (key_folder / "current").read_text(errors="replace")
    except FileNotFoundError:
        return None
    return Attempt(key_folder / name) if re.fullmatch(r"attempt-[0-9]+", name) else None


def check_key(key: str) -> str:
    """A key names a folder: letters, digits, and `.` `_` `-` `=` inside; anything else is the caller's mistake."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._=-]{0,199}", key):
        raise ValueError(f"a job's key must be a plain folder name, not {key!r}")
    return key


def _read_json(path: Path) -> dict[str, Any]:
    """Empty where it is not there, or damaged by a loss of power: the attempt is lost then, and another follows."""
    try:
        read = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return read if isinstance(read, dict) else {}
