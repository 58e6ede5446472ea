"""The simulated cluster behind the pool of jobs, in place of submitit: locks, results and progress are real files.

It replaces what hands a job to a launcher, and the pool's clock. A "worker" reads its pickled call, holds its lock and
writes its record, as a real one does; only nothing is trained.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from unittest.mock import patch

from submitit.core.utils import DelayedSubmission

from harness.launch import pool
from harness.launch.attempt import Attempt, Result
from harness.launch.endings import Ending
from harness.launch.events import report_progress
from harness.processes.locks import FileLock
from harness.records.plain import to_plain

from .cluster import Cluster, Record


class Handle:
    def __init__(self, key: str, living: dict[str, object]) -> None:
        self._key, self._living, self.job_id = key, living, key

    def may_live(self) -> bool:
        return self._key in self._living

    def state(self) -> str:
        return "running" if self.may_live() else "ended"

    def ending(self) -> Ending:
        return Ending(policy="lost", why=self.state())

    def stop(self, *, kill: bool = False) -> None:
        """It is in nobody's way."""


class SimulatedExecutor:
    def __init__(self, cluster: Cluster, record: Record) -> None:
        self.cluster, self.clock, self.record = cluster, cluster.clock, record
        self._living: dict[str, tuple[Attempt, FileLock]] = {}  # by trial key

    @contextmanager
    def behind_the_pool(self) -> Iterator[None]:
        """Inside, pools start their jobs here and live by the simulated clock."""
        clock = SimpleNamespace(monotonic=self._monotonic, sleep=self._sleep)
        with (
            patch.object(pool.executors, "start", self._start),
            patch.object(pool.executors, "start_array", self._start_array),
            patch.object(pool, "time", clock),
        ):
            yield

    def _start(self, attempt: Attempt, *_: object) -> Handle:
        with self.clock.aside():
            spec = DelayedSubmission.load(attempt.call).function.spec
            assert spec.key == attempt.key
            self.cluster.begin(spec)
            lock = FileLock.acquire(attempt.lock, attempt=attempt.name)
            assert lock is not None
            self._living[spec.key] = attempt, lock
            report_progress(attempt.folder, "train", 1, spec.settings.recipe.steps)
        return Handle(attempt.key, self._living)

    def _start_array(self, attempts: Sequence[Attempt], *_: object) -> list[Handle]:
        return [self._start(attempt) for attempt in attempts]

    def _monotonic(self) -> float:
        with self.clock.aside():
            self._end()
        return self.clock()

    def _sleep(self, seconds: float) -> None:
        with self.clock.aside():
            self.cluster.wait_for_outcomes(seconds)
            self._end()

    def _end(self) -> None:
        for spec, fails in self.cluster.ended():
            attempt, lock = self._living.pop(spec.key)
            record = self.record(spec, "training diverged" if fails else None)
            spec.store.put(record)
            attempt.write_result(Result(state="done", value=to_plain(record)))
            lock.release()
