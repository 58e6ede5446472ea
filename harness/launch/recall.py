"""Jobs that outlived their driver: which of them live, and how to have them end.

A driver that is killed leaves its workers running, here or on a cluster; the next driver of the folder finds them. Who
wants them to end instead, recalls them: they save what they did, as they do when their driver is asked to end.
"""

from pathlib import Path

from harness.launch import executors
from harness.launch.attempt import current_attempt
from harness.launch.config import LauncherConfig
from harness.launch.running import Running, end_jobs
from harness.processes.locks import DRIVER_LOCK, holder, lock_driver
from harness.records.errors import UserError
from harness.records.plain import from_plain


def recall(folder: Path) -> list[str]:
    """Ask the living jobs of an earlier driver of `folder` to end; their keys. On this machine they have ended when
    this returns. Errors: UserError where a driver is at work."""
    launcher = launcher_of(folder)
    with lock_driver(folder):
        jobs = left_behind(folder, launcher)
        end_jobs(jobs, launcher)
    return [job.attempt.key for job in jobs]


def left_behind(folder: Path, launcher: LauncherConfig) -> list[Running]:
    """The jobs without a result that run, or may yet begin to."""
    found = (current_attempt(path.parent) for path in sorted(folder.glob("*/current")))
    open_ones = [attempt for attempt in found if attempt is not None and attempt.result() is None]
    jobs = [Running.of(attempt, executors.find(attempt, launcher), launcher, 0) for attempt in open_ones]
    return [job for job in jobs if job.lives]


def launcher_of(folder: Path) -> LauncherConfig:
    """The launcher of the folder's last driver."""
    known = holder(folder / DRIVER_LOCK).get("launcher")
    if known is None:
        raise UserError(f"{folder / DRIVER_LOCK} does not say where the jobs of this folder run; nothing was stopped")
    launcher: LauncherConfig = from_plain(LauncherConfig, known)  # type: ignore[arg-type]
    return launcher
