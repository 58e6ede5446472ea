"""What runs inside a job: take the locks, call, write the result, let go."""

import contextlib
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, TypeAlias

from submitit.core.utils import DelayedSubmission

from harness.launch.attempt import Attempt, Result, attempts_of
from harness.launch.events import Event, log_event
from harness.launch.lease import Heartbeat
from harness.launch.locks import FileLock
from harness.records.errors import UserError
from harness.records.plain import Plain, to_plain

Call: TypeAlias = Callable[[Path], Plain]
"""`call(attempt_folder) -> plain value`: picklable, with all it needs inside."""

LOCK_WAIT_S = 10.0  # a driver that probes a lock holds it for microseconds; a running attempt holds it for good


class AttemptStopped(BaseException):
    """SIGTERM reached the worker: save what the next attempt needs, and let this through.

    Like KeyboardInterrupt no Exception, so that no callable takes it for a failure of its work.
    """


@dataclass(frozen=True, slots=True)
class Job:
    """The picklable job that submitit runs: it knows its attempt's folder, and finds the callable there."""

    folder: Path
    heartbeat_s: float | None = None  # None: this host's locks are enough

    def __call__(self) -> str:
        """Run the attempt; the returned state is for submitit's own log, nobody decides by it."""
        attempt = Attempt(self.folder)
        with contextlib.ExitStack() as held:
            for path in (attempt.key_lock, attempt.lock):
                lock = FileLock.acquire(path, wait_s=LOCK_WAIT_S, attempt=attempt.name)
                if lock is None:
                    return _end(attempt, Result(state="refused", error=f"{path} is held by another worker"))
                held.callback(lock.release)
            if not attempt.is_current:
                return _end(attempt, Result(state="refused", error="another attempt took its place"))
            if attempt.result() is not None:
                return "ended before"
            if self.heartbeat_s is not None:
                held.enter_context(Heartbeat(attempt, self.heartbeat_s))
            try:
                return _end(attempt, _run(attempt))
            except KeyboardInterrupt:  # the job runs in the driver's own process
                _end(attempt, Result(state="stopped", error="interrupted"))
                raise

    def checkpoint(self) -> DelayedSubmission:
        """submitit calls this at a time-out or preemption: the same attempt runs again when it is requeued."""
        return DelayedSubmission(self)


def save_call(attempt: Attempt, call: Call) -> None:
    """Pickle the callable into the attempt's folder, so that the job itself is light and takes its lock at once."""
    DelayedSubmission(call).dump(attempt.call)


def _run(attempt: Attempt) -> Result:
    _log(attempt, "resumed" if _started_before(attempt) else "started")
    with _stopped_by_signals():
        try:
            call: Call = DelayedSubmission.load(attempt.call).function
            return Result(state="done", value=to_plain(call(attempt.folder)))
        except AttemptStopped:
            return Result(state="stopped", error="asked to end before it had a result")
        except UserError as error:
            _keep_traceback(attempt)
            return Result(state="failed", error=str(error), user_error=True)
        except Exception as error:
            _keep_traceback(attempt)
            return Result(state="failed", error=" ".join(f"{type(error).__name__}: {error}".split()))


def _keep_traceback(attempt: Attempt) -> None:
    with contextlib.suppress(OSError):  # on a full disk the sentence in the result matters more
        attempt.traceback.write_text(traceback.format_exc())


def _end(attempt: Attempt, result: Result) -> str:
    """The result first, then the log: a line `finished` without a result cannot be."""
    event: Event = "finished" if result.state == "done" else result.state
    if result.state != "refused" or attempt.result() is None:
        attempt.write_result(result)
    _log(attempt, event, **({"error": result.error} if result.error else {}))
    return result.state


def _log(attempt: Attempt, event: Event, **more: str) -> None:
    log_event(attempt.root, event, key=attempt.key, attempt=attempt.name, **more)


def _started_before(attempt: Attempt) -> bool:
    """Whether a worker began this key before: an earlier attempt, or this one before it was requeued."""
    marker = attempt.folder / "began"
    before = any((other.folder / "began").exists() for other in attempts_of(attempt.folder.parent))
    marker.touch()
    return before


@contextlib.contextmanager
def _stopped_by_signals() -> Iterator[None]:
    """Turn the first SIGTERM (the driver's) or SIGUSR1 (the heartbeat's) into `AttemptStopped`, in workers.

    On Slurm SIGTERM stays with submitit's handler: it precedes the time-out signal, which requeues the job. In the
    driver's own process nothing changes. After the block both are ignored: the result is about to be written.
    """
    executor = "debug" if "SUBMITIT_DEBUG_JOB_ID" in os.environ else os.environ.get("SUBMITIT_EXECUTOR", "debug")
    signals = {"local": (signal.SIGTERM, signal.SIGUSR1), "slurm": (signal.SIGUSR1,)}.get(executor, ())

    def stop(signum: int, _frame: FrameType | None) -> None:
        _on(signals, signal.SIG_IGN)
        print(f"{signal.Signals(signum).name}: stopping", file=sys.stderr)
        raise AttemptStopped

    _on(signals, stop)
    try:
        yield
    finally:
        _on(signals, signal.SIG_IGN)


def _on(signals: tuple[signal.Signals, ...], handler: Any) -> None:
    for number in signals:
        signal.signal(number, handler)
