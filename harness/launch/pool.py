"""Jobs in flight: submit by key, poll for outcomes, survive any death.

    with Pool(folder, launcher) as pool:
        for key, call in jobs:
            pool.submit(key, call)
        while pool.in_flight:
            for outcome in pool.poll(timeout_s=1.0):
                ...

There is no batch: whoever asks candidate by candidate submits while `pool.free` is above 0 and tells each outcome as it
comes. The same calls on the same folder continue what a dead driver began: a key with a result yields it again without
running, a key whose worker lives is waited for, a key that was lost or failed starts its next attempt.
"""

import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path
from types import TracebackType
from typing import Literal

from harness.launch import executors
from harness.launch.attempt import Attempt, Result, attempts_of, check_key, current_attempt, new_attempt
from harness.launch.config import DebugLauncher, LauncherConfig, LocalLauncher, SlurmLauncher, jobs_at_once
from harness.launch.endings import EVENTS, Ending, Handle, resolve_ending
from harness.launch.events import Progress, log_event, read_progress
from harness.launch.jobs import RunningJob, end_jobs
from harness.launch.local import LocalWorkers
from harness.launch.stopping import (
    DriverStopped,
    StopRequest,
    accept_stop_request,
    clear_stop_request,
    terminating,
    uninterrupted,
)
from harness.launch.worker import Call, save_call
from harness.processes.locks import FileLock, lock_driver
from harness.records.plain import Plain, to_plain


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What became of one key. `done` and `failed` are final; after `lost` the pool starts another attempt."""

    key: str
    state: Literal["done", "failed", "lost"]
    attempt: str
    attempt_folder: Path
    result: Plain = None  # what the callable returned, if done
    error: str = ""  # one sentence, if not
    user_error: bool = False  # the callable raised a UserError: its sentence is `error`
    traceback: Path | None = None  # the file with the whole traceback, where there is one

    @property
    def is_final(self) -> bool:
        return self.state != "lost"


@dataclass(frozen=True, slots=True)
class _Submission:
    """A key that was submitted."""

    call: Call
    holds: Callable[[Plain], bool]


class Pool:
    """The one driver of `folder`. Not thread-safe; workers write only into their attempts' folders and the log."""

    def __init__(
        self, folder: Path, launcher: LauncherConfig, *, max_in_flight: int | None = None, max_attempts: int = 3
    ) -> None:
        """Lock `folder` for this driver (a UserError names the one that has it); `close` or leaving `with` unlocks.

        `max_attempts` bounds how often a key is started again after its worker was lost, in this driver's life. A
        worker that ended because it was asked to (a preemption) had saved what it did, and is not counted.
        """
        self.folder = Path(folder).absolute()
        self.launcher = launcher
        self.max_in_flight = max_in_flight or jobs_at_once(launcher)
        self.max_attempts = max_attempts
        self._submissions: dict[str, _Submission] = {}  # every key that has no final outcome yet
        self._waiting: deque[str] = deque()
        self._running: dict[str, RunningJob] = {}
        self._ready: list[Outcome] = []
        self._losses: dict[str, int] = {}
        self._stopping: StopRequest | None = None
        self._listened = 0.0
        self._signals = contextlib.ExitStack()
        self.on_close: list[Callable[[], None]] = []
        self._local = LocalWorkers(self.folder, launcher) if isinstance(launcher, LocalLauncher) else None
        self._lock = lock_driver(self.folder, to_plain(launcher))
        clear_stop_request(self.folder)  # what was asked of an earlier driver

    # asking

    @property
    def in_flight(self) -> int:
        """Keys submitted whose final outcome `poll` has not returned yet, waiting ones included."""
        return len(self._submissions)

    @property
    def free(self) -> int:
        """How many more keys can run at once: none, once the driver was asked to end."""
        self._listen()
        if self._stopping is not None:
            return 0
        return max(0, self.max_in_flight - len(self._waiting) - len(self._running))

    @property
    def running(self) -> tuple[str, ...]:
        return tuple(self._running)

    def progress(self) -> dict[str, Progress]:
        """How far each running key is, where its worker has said so."""
        read = {key: read_progress(job.attempt.folder) for key, job in self._running.items()}
        return {key: progress for key, progress in read.items() if progress is not None}

    # doing

    def submit(self, key: str, call: Call, *, holds: Callable[[Plain], bool] = lambda _result: True) -> None:
        """Take responsibility for `key`: its result of an earlier run, its living worker, or a new attempt.

        `holds(result)` says whether an earlier result is still worth having: what it points to may be gone.
        """
        if check_key(key) in self._submissions:
            raise ValueError(f"job '{key}' is in flight already")
        self._submissions[key] = _Submission(call, holds)
        ended = _newest_done(self.folder / key, holds)
        if ended is not None:
            self._ready.append(_outcome(*ended))
        elif not self._find(key):
            self._waiting.append(key)

    def poll(self, timeout_s: float = 0.0) -> list[Outcome]:
        """Start what waits while there is room, and return the outcomes, as soon as there is one or time is up.

        On the debug launcher this runs the next job and returns when it has ended. Raises DriverStopped once somebody
        has asked this driver to end, and what that leaves to be waited for has ended and was returned.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            self._listen()
            self._end_what_is_cancelled()
            self._fill()
            self._collect()
            ready, self._ready = self._ready, []
            for outcome in ready:
                if outcome.is_final:
                    del self._submissions[outcome.key]
            if self._stopping is not None and not ready and not self._running:
                raise DriverStopped(self._stopping.ending)
            seconds_left = deadline - time.monotonic()
            if ready or seconds_left <= 0 or not self._submissions:
                return ready
            time.sleep(min(seconds_left, self.launcher.poll_interval_s))

    def outcomes(self) -> Iterator[Outcome]:
        """All outcomes until nothing is in flight."""
        while self._submissions:
            yield from self.poll(timeout_s=1.0)

    def stop(self, *, cancel: bool) -> None:
        """Stop driving. With `cancel` the jobs are asked to end (and killed after `stop_grace_s` on this machine);
        without, they go on and are found by the next driver of this folder."""
        if cancel:
            end_jobs(list(self._running.values()), self.launcher)
        self._submissions.clear()
        self._waiting.clear()
        self._running.clear()
        self.close()

    def close(self) -> None:
        """Let another driver have the folder."""
        if self._local is not None:
            self._local.close()
        if self._lock.held:
            for call in self.on_close:
                call()
            clear_stop_request(self.folder)  # a request that came too late
        self._lock.release()

    def __enter__(self) -> "Pool":
        signals = terminating(self.folder.parent, lambda: sum(job.lives for job in self._running.values()))
        self._termination = self._signals.enter_context(signals)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ctrl-C or an error: nothing keeps running unasked on this machine; jobs on a cluster keep their place, and
        all jobs do where SIGTERM or SIGHUP ended the driver."""
        with self._signals:
            self._termination.driver_ends = True
            self.stop(cancel=not isinstance(self.launcher, SlurmLauncher) and not self._termination.heard)

    # how

    def _listen(self) -> None:
        """Whether somebody asked this driver to end."""
        if time.monotonic() - self._listened >= self.launcher.poll_interval_s:
            self._listened = time.monotonic()
            self._stopping = accept_stop_request(self.folder) or self._stopping

    def _end_what_is_cancelled(self) -> None:
        """What is asked to end is not collected any more: the next driver finds what it left."""
        if self._stopping is not None and self._stopping.mode == "cancel":
            end_jobs(list(self._running.values()), self.launcher)
            self._running.clear()

    def _fill(self) -> None:
        """Start what waits while there is room; together, where the launcher takes arrays."""
        while self._waiting and self._stopping is None and (room := self.max_in_flight - len(self._running)) > 0:
            most = min(room, executors.largest_array(self.launcher))
            with uninterrupted() if self._local is not None else contextlib.nullcontext():
                self._start(self._next_alike(most))
            if isinstance(self.launcher, DebugLauncher):
                return

    def _next_alike(self, most: int) -> list[str]:
        """The next keys whose jobs ask for the same machines."""
        alike = groupby(self._waiting, key=lambda key: executors.is_shared(self._submissions[key].call))
        keys = list(islice(next(alike)[1], most))
        return [self._waiting.popleft() for _ in keys]

    def _start(self, keys: list[str]) -> None:
        attempts = [attempt for key in keys if (attempt := self._name_attempt(key)) is not None]
        for attempt in attempts:
            log_event(self.folder, "submitted", key=attempt.key, attempt=attempt.name)
        handles: Sequence[Handle]
        calls = [self._submissions[attempt.key].call for attempt in attempts]
        if len(attempts) > 1:
            handles = executors.start_array(attempts, self.launcher, calls)
        else:
            handles = [
                executors.start(attempt, self.launcher, call, self._free_slot(), self._local)
                for attempt, call in zip(attempts, calls, strict=True)
            ]
        for attempt, handle in zip(attempts, handles, strict=True):
            attempt.mark_submitted(handle.job_id)
            self._running[attempt.key] = RunningJob.of(attempt, handle, self.launcher, self._free_slot())

    def _name_attempt(self, key: str) -> Attempt | None:
        """The next attempt, named under the key's lock; None where that is held, or there is a result: an earlier
        attempt lives after all, or lived."""
        with _key_lock(self.folder / key) as lock:
            if lock is None:
                attempt = current_attempt(self.folder / key)
                assert attempt is not None, f"{key} is locked by nobody's attempt"
                self._running[key] = self._take_over(attempt)
                return None
            ended = _newest_done(self.folder / key, self._submissions[key].holds)
            if ended is not None:  # it came since `submit` looked
                self._ready.append(_outcome(*ended))
                return None
            attempt = new_attempt(self.folder / key)
            save_call(attempt, self._submissions[key].call)
            attempt.mark_submitted(None, code=executors.code_of(attempt, self.launcher))
            attempt.make_current()
        return attempt

    def _free_slot(self) -> int:
        return min(set(range(len(self._running) + 1)) - {job.slot for job in self._running.values()})

    def _find(self, key: str) -> bool:
        """Take over the key's attempt of an earlier driver, if that one may still come to a result."""
        attempt = current_attempt(self.folder / key)
        if attempt is None or attempt.result() is not None:
            return False
        job = self._take_over(attempt)
        if not job.lives and attempt.result() is None:
            ending = self._settle(key, job, None)
            if ending.policy == "fail":
                self._ready.append(_unfinished(attempt, "failed", ending.why))
            return ending.policy == "fail"
        log_event(self.folder, "found", key=key, attempt=attempt.name)
        self._running[key] = job
        return True

    def _take_over(self, attempt: Attempt) -> RunningJob:
        return RunningJob.of(attempt, executors.find(attempt, self.launcher), self.launcher, self._free_slot())

    def _collect(self) -> None:
        for key, job in list(self._running.items()):
            if job.attempt.result() is None and job.lives:
                continue
            result = job.attempt.result()  # once more: it may have come between the two looks
            del self._running[key]
            if result is not None and result.state in ("done", "failed"):
                self._ready.append(_outcome(job.attempt, result))
            else:
                self._handle_lost(key, job, result)

    def _settle(self, key: str, job: RunningJob, result: Result | None) -> Ending:
        ending = resolve_ending(job.attempt, job.handle, self.launcher, result)
        event = EVENTS.get(ending.policy, "lost")
        log_event(self.folder, event, key=key, attempt=job.attempt.name, error=ending.why)
        return ending

    def _handle_lost(self, key: str, job: RunningJob, result: Result | None) -> None:
        ending = self._settle(key, job, result)
        if ending.policy in ("fail", "cancel"):
            self._ready.append(_unfinished(job.attempt, "failed", ending.why))
            return
        self._losses[key] = self._losses.get(key, 0) + (ending.policy == "lost")
        self._ready.append(_unfinished(job.attempt, "lost", ending.why))
        if self._losses[key] < self.max_attempts:
            self._waiting.appendleft(key)
            return
        error = f"lost {self._losses[key]} times, the last time because {ending.why}"
        log_event(self.folder, "failed", key=key, attempt=job.attempt.name, error=error)
        self._ready.append(_unfinished(job.attempt, "failed", error))


@contextlib.contextmanager
def _key_lock(key_folder: Path) -> Iterator[FileLock | None]:
    """The key's lock, or None while a worker runs the key (others hold it for microseconds, to probe)."""
    lock = FileLock.acquire(key_folder / "lock", wait_s=0.2)
    try:
        yield lock
    finally:
        if lock is not None:
            lock.release()


def _newest_done(
    key_folder: Path, holds: Callable[[Plain], bool] = lambda _result: True
) -> tuple[Attempt, Result] | None:
    """The key's newest finished attempt, whichever is current, if its result `holds`."""
    for attempt in reversed(attempts_of(key_folder)):
        result = attempt.result()
        if result is not None and result.state == "done":
            return (attempt, result) if holds(result.value) else None
    return None


def _outcome(attempt: Attempt, result: Result) -> Outcome:
    return Outcome(
        key=attempt.key,
        state="done" if result.state == "done" else "failed",
        attempt=attempt.name,
        attempt_folder=attempt.folder,
        result=result.value,
        error=result.error,
        user_error=result.user_error,
        traceback=attempt.traceback if attempt.traceback.exists() else None,
    )


def _unfinished(attempt: Attempt, state: Literal["failed", "lost"], error: str) -> Outcome:
    return Outcome(key=attempt.key, state=state, attempt=attempt.name, attempt_folder=attempt.folder, error=error)
