"""The launchers behind one small seam: start a job, ask whether it may still live, cancel it."""

from collections.abc import Sequence
from pathlib import Path

from harness.launch.attempt import Attempt
from harness.launch.config import (
    DebugLauncher,
    LauncherConfig,
    LocalLauncher,
    SlurmLauncher,
    jobs_at_once,
    threads_of,
)
from harness.launch.endings import Ending, Handle
from harness.launch.local import LocalWorkers, Orphan
from harness.launch.slurm import LARGEST_ARRAY, SlurmHandle, script_of, submit_slurm
from harness.launch.snapshot import snapshot
from harness.launch.worker import Call, Job
from harness.records.errors import UserError


def start(attempt: Attempt, launcher: LauncherConfig, call: Call, slot: int, local: LocalWorkers | None) -> Handle:
    """Hand the attempt's job to the launcher. `slot` numbers the jobs in flight from 0 (it chooses a GPU); `local` are
    the pool's own workers, on this machine."""
    if isinstance(launcher, DebugLauncher):
        return InProcess(attempt)
    if isinstance(launcher, LocalLauncher):
        assert local is not None
        return local.start(attempt, call, slot)
    return start_array([attempt], launcher, [call])[0]


def code_of(attempt: Attempt, launcher: LauncherConfig) -> str | None:
    """The name of the copy of the code that the attempt's job will run; None: it runs in this process."""
    return None if isinstance(launcher, DebugLauncher) else snapshot(attempt.root).name


def largest_array(launcher: LauncherConfig) -> int:
    """How many attempts `start_array` takes; 1: there are no arrays."""
    return LARGEST_ARRAY if isinstance(launcher, SlurmLauncher) else 1


def start_array(attempts: Sequence[Attempt], launcher: LauncherConfig, calls: Sequence[Call]) -> Sequence[Handle]:
    """Hand the attempts' jobs to the launcher as one array; calls that no processes share have one each."""
    assert isinstance(launcher, SlurmLauncher), launcher
    return submit_slurm(attempts, launcher if any(map(is_shared, calls)) else launcher.alone)


def is_shared(call: Call) -> bool:
    """Whether the job is a training, which several processes may share."""
    return bool(getattr(call, "is_shared", False))


def find(attempt: Attempt, launcher: LauncherConfig) -> Handle:
    """The handle of an attempt that an earlier driver submitted."""
    if isinstance(launcher, SlurmLauncher) and attempt.job_id is not None:
        handle = SlurmHandle(launcher, attempt.job_id, of_earlier_driver=True)
        handle.state()  # before anything can become of it
        return handle
    grace_s = 0.0 if isinstance(launcher, DebugLauncher) else launcher.start_grace_s
    return Orphan(attempt, grace_s if attempt.job_id is not None else 0.0)


class InProcess:
    """A job of the debug launcher: it runs here and now, and is over when this object exists."""

    def __init__(self, attempt: Attempt) -> None:
        self.job_id: str | None = "0"
        match Job(attempt.folder)():
            case "stopped":  # a SIGTERM that the job heard meant this process
                raise KeyboardInterrupt
            case "lost":  # under torchrun, which started all processes and must start them again
                result = attempt.result()
                assert result is not None
                raise UserError(f"{result.error}; the same command goes on from the newest checkpoint")

    def may_live(self) -> bool:
        return False

    def state(self) -> str:
        return "ended"

    def ending(self) -> Ending:
        return Ending(policy="lost", why=self.state())

    def stop(self, *, kill: bool = False) -> None:
        """Nothing to stop: it is over."""


def submission_of(launcher: LauncherConfig, root: Path, keys: list[str]) -> str:
    """How jobs at these keys would be started. `root` is the folder of attempts; a copy of the code is taken there.

    Errors: UserError where there is no such launcher on this machine.
    """
    if isinstance(launcher, DebugLauncher):
        return "in this process, one job after another"
    if not isinstance(launcher, LocalLauncher):
        root.mkdir(parents=True, exist_ok=True)
        return script_of(root, keys[: launcher.max_in_flight], launcher)
    threads = threads_of(launcher)
    many = "" if threads is None else f", of {threads} thread{'s' * (threads != 1)} each"
    forked = "forked from one process that has torch loaded" if launcher.forks else "each a Python of its own"
    return f"{jobs_at_once(launcher)} at once{many}, {forked}"
