"""What runs inside a job: take the locks, call, write the result, let go.

A job on Slurm that was asked to end, and saved, puts itself back into the queue, where it needs no driver. Slurm sends
SIGUSR2 some time before the limit (`sbatch --signal`). SIGTERM comes at a preemption, at `scontrol requeue` and at
`scancel`: only at a preemption does Slurm still call the job running. Of the others it knows what is to become of the
job, so the job does nothing and leaves no result.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Literal, TypeAlias

from submitit.core.utils import DelayedSubmission

from harness.launch.attempt import Attempt, AttemptStopped, Result, attempts_of, result_of
from harness.launch.config import SlurmLauncher
from harness.launch.events import Event, log_event
from harness.launch.team import LOOK_S, Team
from harness.launch.together import follow_on_slurm, slurm_rank, slurm_team
from harness.processes.lease import Heartbeat, LeaseWatch
from harness.processes.locks import FileLock, holder
from harness.records.plain import Plain, to_plain
from harness.records.store import unwritable

Call: TypeAlias = Callable[[Path], Plain]
"""`call(attempt_folder) -> plain value`: picklable, with all it needs inside."""

TIME_LIMIT = 144  # exit status of a worker that saved at its time limit and is to be started again
LOCK_WAIT_S = 10.0  # a driver that probes a lock holds it for microseconds; a running attempt holds it for good


@dataclass(frozen=True, slots=True)
class Job:
    """The picklable job that submitit runs: it knows its attempt's folder, and finds the callable there."""

    folder: Path
    slurm: SlurmLauncher | None = None  # None: on this machine, where locks are enough
    owns_process: bool = False  # on this machine, in a process of its own, which signals may end

    def __call__(self) -> str:
        """Run the attempt; the returned state is for submitit's own log, nobody decides by it."""
        attempt, began = Attempt(self.folder), time.monotonic()
        if self.slurm is not None and slurm_rank() > 0:
            return follow_on_slurm(attempt)
        earlier = holder(attempt.lock)
        with contextlib.ExitStack() as cleanup:
            team = None if self.slurm is None else cleanup.enter_context(slurm_team(attempt))
            for path in (attempt.key_lock, attempt.lock):
                lock = FileLock.acquire(path, wait_s=LOCK_WAIT_S, attempt=attempt.name, **_slurm_job())
                if lock is None:
                    return _refuse(attempt, path)
                cleanup.callback(lock.release)
            if not attempt.is_current:
                return _end(attempt, Result(state="refused", error="another attempt took its place"))
            if attempt.result() is not None:
                return "ended before"
            if self.slurm is not None:
                if not earlier_run_is_over(attempt, earlier, self.slurm.lease_timeout_s):
                    _log(attempt, "refused", error=f"its earlier run on {earlier.get('host')} lives")
                    return "refused"
                cleanup.enter_context(heartbeat_of(attempt, self.slurm.heartbeat_s))
            signals = StopSignals(listens=self.owns_process or self.slurm is not None, team=team)
            try:
                return self._end(attempt, _run(attempt, signals), signals.first, began)
            except KeyboardInterrupt:  # the job runs in the driver's own process
                _end(attempt, Result(state="stopped", error="interrupted"))
                raise

    def _end(self, attempt: Attempt, result: Result, stop_signal: signal.Signals | None, began: float) -> str:
        """The end of the attempt, or of this run of it: "requeued"."""
        if self.owns_process and stop_signal == signal.SIGUSR2 and result.state == "stopped":
            attempt.mark_suspended()
            _log(attempt, "requeued")
            return "requeued"
        if self.slurm is not None and result.state == "stopped":
            departure = requeue_or_stop(attempt, self.slurm, stop_signal, began)
            if not isinstance(departure, Result):
                attempt.mark_suspended()
                _log(attempt, departure)
                return departure
            result = departure
        return _end(attempt, result)

    def checkpoint(self) -> DelayedSubmission:
        """submitit calls this at a time-out before the call has begun: the same attempt runs when it is requeued."""
        return DelayedSubmission(self)


def heartbeat_of(attempt: Attempt, every_s: float) -> Heartbeat:
    """The attempt's lease, renewed. SIGUSR1 ends this worker once another attempt is current (this one was taken for
    dead on a stalled node), or once another run of it holds the lease (requeued while its node was out of sight)."""
    return Heartbeat(
        attempt.lease,
        every_s,
        is_current=lambda: attempt.is_current,
        on_lost=lambda: os.kill(os.getpid(), signal.SIGUSR1),
    )


def earlier_run_is_over(attempt: Attempt, earlier: dict[str, Any], timeout_s: float) -> bool:
    """Whether the run that held the attempt's lock before (`earlier`, what it wrote there) cannot be alive.

    Asked by the holder of the lock. A lock on this host proves it; on another host, a lease that was given back, or
    that does not move for `timeout_s`.
    """
    if earlier.get("host", socket.gethostname()) == socket.gethostname():
        return True
    watch = LeaseWatch(attempt.lease, timeout_s)
    while watch.is_fresh():
        if watch.is_seen_alive():
            return False
        time.sleep(min(1.0, timeout_s / 10))
    return True


def save_call(attempt: Attempt, call: Call) -> None:
    """Pickle the callable into the attempt's folder, so that the job itself is light and takes its lock at once."""
    try:
        DelayedSubmission(call).dump(attempt.call)
    except OSError as error:
        raise unwritable(attempt.call, error) from error


def _run(attempt: Attempt, signals: "StopSignals") -> Result:
    _log(attempt, "resumed" if _started_before(attempt) else "started")
    attempt.mark_resumed()
    with signals:
        try:
            signals.hear_held()
            call: Call = DelayedSubmission.load(attempt.call).function
            return Result(state="done", value=to_plain(call(attempt.folder)))
        except AttemptStopped:
            if signals.cause is None:
                return Result(state="stopped", error="asked to end before it had a result")
            _keep_traceback(attempt)
            return result_of(signals.cause)
        except Exception as error:
            _keep_traceback(attempt)
            return result_of(error)


def _keep_traceback(attempt: Attempt) -> None:
    with contextlib.suppress(OSError):  # on a full disk the sentence in the result matters more
        attempt.traceback.write_text(traceback.format_exc())


def _refuse(attempt: Attempt, path: Path) -> str:
    """Another worker holds the lock. If it runs this very attempt (requeued too early), the result will be its own."""
    error = f"{path} is held by another worker"
    if holder(path).get("attempt") != attempt.name:
        return _end(attempt, Result(state="refused", error=error))
    _log(attempt, "refused", error=error)
    return "refused"


def _end(attempt: Attempt, result: Result) -> str:
    """The result first, then the log: a line `finished` without a result cannot be."""
    event: Event = "finished" if result.state == "done" else result.state
    if result.state != "refused" or attempt.result() is None:
        attempt.write_result(result)
    _log(attempt, event, **({"error": result.error} if result.error else {}))
    return result.state


def _log(attempt: Attempt, event: Event, **more: str) -> None:
    if job := _slurm_job():
        more |= {**job, "restart": os.environ.get("SLURM_RESTART_COUNT", "0")}
    log_event(attempt.root, event, key=attempt.key, attempt=attempt.name, **more)


def _slurm_job() -> dict[str, str]:
    """Which job this is, if it is one of Slurm's: its driver may have died before it learnt that."""
    return {"job": slurm_job_id()} if os.environ.get("SUBMITIT_EXECUTOR") == "slurm" else {}


def _started_before(attempt: Attempt) -> bool:
    """Whether a worker began this key before: an earlier attempt, or this one before it was requeued."""
    marker = attempt.folder / "began"
    before = any((other.folder / "began").exists() for other in attempts_of(attempt.folder.parent))
    marker.touch()
    return before


class StopSignals:
    """Inside the `with`, the first signal that asks this worker to end becomes `AttemptStopped`, and is `first`.

    SIGTERM is the driver's or Slurm's, SIGUSR1 the heartbeat's, SIGUSR2 the warning before the time limit. A callable
    that wants to save first listens for SIGTERM itself, so the warning is passed on as SIGTERM. In the driver's own
    process none of them is touched. After the block all are ignored: the result is about to be written.

    On Slurm a signal may come while the worker still imports; it is held from the first line on (`HOLD_SIGNALS`). Where
    one of a job's tasks died, Slurm may send SIGTERM to the others: then that death is the `cause`.
    """

    def __init__(self, *, listens: bool, team: Team | None = None) -> None:
        self._signals = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2) if listens else ()
        self._team = team
        self.first: signal.Signals | None = None
        self.cause: Exception | None = None

    def __enter__(self) -> None:
        self._on(self._stop)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._on(signal.SIG_IGN)

    def hear_held(self) -> None:
        """What was held until now arrives in this call."""
        signal.pthread_sigmask(signal.SIG_UNBLOCK, self._signals)

    def _stop(self, signum: int, _frame: FrameType | None) -> None:
        self.first = self.first or signal.Signals(signum)
        print(f"{signal.Signals(signum).name}: stopping", file=sys.stderr)
        if signum == signal.SIGUSR2:
            signal.signal(signal.SIGUSR2, signal.SIG_IGN)
            signal.raise_signal(signal.SIGTERM)
            return
        self._on(signal.SIG_IGN)
        if self._team is not None:  # kept, not raised: where an Exception comes from nowhere, code takes it for its own
            self.cause = self._team.cause(LOOK_S)
        raise AttemptStopped

    def _on(self, handler: Any) -> None:
        for number in self._signals:
            signal.signal(number, handler)


TOLERANCE_S = 60.0
"""`man sbatch`: "the signal may be sent up to 60 seconds earlier than specified"."""


def requeue_or_stop(
    attempt: Attempt, launcher: SlurmLauncher, stop_signal: signal.Signals | None, began: float
) -> Literal["requeued", "stopped"] | Result:
    """What has become of a job that stopped on the signal `stop_signal`; a result, if this attempt is not to run again.

    `began` is the job's start by the clock `time.monotonic`. None: SIGTERM, which the callable heard itself.
    """
    if stop_signal == signal.SIGUSR1:
        return Result(state="stopped", error="another attempt, or another run of it, took its place")
    job = slurm_job_id()
    if stop_signal != signal.SIGUSR2 and not _is_running(job):
        return "stopped"
    limit_s = 60 * launcher.timeout_min
    if stop_signal == signal.SIGUSR2 and time.monotonic() - began >= limit_s - launcher.signal_delay_s - TOLERANCE_S:
        attempt.count_timeout()
        if (spent := too_many_timeouts(attempt, launcher)) is not None:
            return Result(state="failed", error=spent)
    try:
        _slurm("scontrol", "requeue", job)
    except (OSError, subprocess.SubprocessError) as error:  # the driver will submit another attempt
        reason = getattr(error, "stderr", "") or str(error)
        return Result(
            state="stopped", error=f"saved when it was asked to end; Slurm did not requeue it: {reason.strip()}"
        )
    return "requeued"


def slurm_job_id() -> str:
    """The number of the job that this process is in, as Slurm's commands take it: 17, or 17_3 in an array."""
    job, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return os.environ["SLURM_JOB_ID"] if job is None else f"{job}_{task}"


def _is_running(job: str) -> bool:
    """Whether Slurm still calls the job running; no where it does not answer: then the driver will ask."""
    try:
        return _slurm("squeue", "--noheader", "--format=%T", f"--jobs={job}") == "RUNNING"
    except (OSError, subprocess.SubprocessError):
        return False


def too_many_timeouts(attempt: Attempt, launcher: SlurmLauncher) -> str | None:
    """Why the key is not continued after its newest time-out, or None if it is."""
    count = attempt.timeouts_of_key()
    if count <= launcher.max_requeues:
        return None
    return (
        f"it reached its time limit of {launcher.timeout_min} min {count} times; raise launcher.timeout_min or "
        f"launcher.max_requeues ({launcher.max_requeues}) and run the same command again"
    )


def _slurm(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.strip()
