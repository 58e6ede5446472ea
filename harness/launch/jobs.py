"""Jobs in flight: whether they live, how they are asked to end, and what an earlier driver left behind.

A driver that is killed leaves its workers running, here or on a cluster; the next driver of the folder finds them. Who
wants them to end instead, recalls them: they save what they did, as they do when their driver is asked to end.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.launch import executors
from harness.launch.attempt import Attempt, current_attempt
from harness.launch.config import LauncherConfig, LocalLauncher, SlurmLauncher
from harness.launch.endings import Handle
from harness.processes.lease import LeaseWatch
from harness.processes.locks import DRIVER_LOCK, holder, is_held, lock_driver
from harness.records.errors import UserError
from harness.records.plain import from_plain


@dataclass(slots=True)
class RunningJob:
    attempt: Attempt
    handle: Handle
    lease: LeaseWatch | None
    slot: int  # among the jobs in flight, from 0

    @classmethod
    def of(cls, attempt: Attempt, handle: Handle, launcher: LauncherConfig, slot: int) -> "RunningJob":
        """A lease is watched where locks may not reach."""
        watch = LeaseWatch(attempt.lease, launcher.lease_timeout_s) if isinstance(launcher, SlurmLauncher) else None
        return cls(attempt, handle, watch, slot)

    @property
    def lives(self) -> bool:
        """Whether the attempt runs or may yet begin: its lock, its lease, and only then the launcher."""
        if is_held(self.attempt.lock) or (self.lease is not None and self.lease.is_fresh()):
            return True
        return self.handle.may_live()


def end_jobs(jobs: Sequence[RunningJob], launcher: LauncherConfig) -> None:
    """Ask every job to end. On this machine ask again each second (a worker may not listen yet), then kill."""
    for job in jobs:
        job.handle.stop()
        job.attempt.mark_recalled()
    if not isinstance(launcher, LocalLauncher):
        return  # Slurm sees to it
    living, last_ask = list(jobs), time.monotonic()
    deadline = last_ask + launcher.stop_grace_s
    while living := [job for job in living if job.lives]:
        now = time.monotonic()
        if now >= deadline or now - last_ask >= 1.0:
            last_ask = now
            for job in living:
                job.handle.stop(kill=now >= deadline)
        if now >= deadline:
            return
        time.sleep(0.05)


def recall(folder: Path) -> list[str]:
    """Ask the living jobs of an earlier driver of `folder` to end; their keys. On this machine they have ended when
    this returns. Errors: UserError where a driver is at work."""
    launcher = launcher_of(folder)
    with lock_driver(folder):
        jobs = living_jobs(folder, launcher)
        end_jobs(jobs, launcher)
    return [job.attempt.key for job in jobs]


def living_jobs(folder: Path, launcher: LauncherConfig) -> list[RunningJob]:
    """The jobs without a result that run, or may yet begin to."""
    jobs = (unfinished_job(path.parent, launcher) for path in sorted(folder.glob("*/current")))
    return [job for job in jobs if job is not None and job.lives]


def unfinished_job(key_folder: Path, launcher: LauncherConfig) -> RunningJob | None:
    """The newest attempt at a job, dead or alive; None where it has a result, or there is none."""
    attempt = current_attempt(key_folder)
    if attempt is None or attempt.result() is not None:
        return None
    return RunningJob.of(attempt, executors.find(attempt, launcher), launcher, 0)


def launcher_of(folder: Path) -> LauncherConfig:
    """The launcher of the folder's last driver."""
    plain = holder(folder / DRIVER_LOCK).get("launcher")
    if plain is None:
        raise UserError(f"{folder / DRIVER_LOCK} does not say where the jobs of this folder run; nothing was stopped")
    launcher: LauncherConfig = from_plain(LauncherConfig, plain)  # type: ignore[arg-type]
    return launcher
