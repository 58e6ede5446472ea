"""A job in flight: whether it lives, and how it is asked to end."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from harness.launch import executors
from harness.launch.attempt import Attempt
from harness.launch.config import LauncherConfig, LocalLauncher, SlurmLauncher
from harness.processes.lease import LeaseWatch
from harness.processes.locks import is_held


@dataclass(slots=True)
class Running:
    attempt: Attempt
    handle: executors.Handle
    lease: LeaseWatch | None
    slot: int  # among the jobs in flight, from 0

    @classmethod
    def of(cls, attempt: Attempt, handle: executors.Handle, launcher: LauncherConfig, slot: int) -> "Running":
        """A lease is watched where locks may not reach."""
        watch = LeaseWatch(attempt.lease, launcher.lease_timeout_s) if isinstance(launcher, SlurmLauncher) else None
        return cls(attempt, handle, watch, slot)

    @property
    def lives(self) -> bool:
        """Whether the attempt runs or may yet begin: its lock, its lease, and only then the launcher."""
        if is_held(self.attempt.lock) or (self.lease is not None and self.lease.is_fresh()):
            return True
        return self.handle.may_live()


def end_jobs(jobs: Sequence[Running], launcher: LauncherConfig) -> None:
    """Ask every job to end. On this machine ask again each second (a worker may not listen yet), then kill."""
    for job in jobs:
        job.handle.stop()
        job.attempt.mark_recalled()
    if not isinstance(launcher, LocalLauncher):
        return  # Slurm sees to it
    living, asked = list(jobs), time.monotonic()
    deadline = asked + launcher.stop_grace_s
    while living := [job for job in living if job.lives]:
        now = time.monotonic()
        if now >= deadline or now - asked >= 1.0:
            asked = now
            for job in living:
                job.handle.stop(kill=now >= deadline)
        if now >= deadline:
            return
        time.sleep(0.05)
