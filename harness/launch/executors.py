"""submitit's executors behind one small seam: start a job, ask whether it may still live, cancel it."""

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import submitit
from submitit.local.local import LocalJob

from harness.launch.attempt import Attempt
from harness.launch.config import (
    DebugLauncher,
    LauncherConfig,
    LocalLauncher,
    SlurmLauncher,
    jobs_at_once,
    thread_variables,
)
from harness.launch.slurm import LARGEST_ARRAY, SlurmHandle, script_of, submit_slurm
from harness.launch.slurm_queue import Ending
from harness.launch.snapshot import code_variables, snapshot
from harness.launch.worker import Job
from harness.processes.locks import holder, is_held


class Handle(Protocol):
    """What a launcher knows of a job that it was given. Asked only when neither lock nor result answers."""

    @property
    def job_id(self) -> str | None: ...

    def may_live(self) -> bool:
        """Whether the job may still run, or begin to: it waits in a queue, or its Python is starting."""

    def state(self) -> str:
        """The launcher's word for the job's state, for people."""

    def ending(self) -> Ending:
        """What to do about a job that may not live any more and left no result."""

    def stop(self, *, kill: bool = False) -> None:
        """Ask the job to end, or end it; harmless once it has ended."""


def start(attempt: Attempt, launcher: LauncherConfig, slot: int) -> Handle:
    """Hand the attempt's job to the launcher. `slot` numbers the jobs in flight from 0 (it chooses a GPU)."""
    if isinstance(launcher, DebugLauncher):
        return InProcess(attempt)
    if isinstance(launcher, LocalLauncher):
        return LocalProcess(attempt, launcher, submit_local(attempt, launcher, slot))
    return submit_slurm([attempt], launcher)[0]


def code_of(attempt: Attempt, launcher: LauncherConfig) -> str | None:
    """The name of the copy of the code that the attempt's job will run; None: it runs in this process."""
    return None if isinstance(launcher, DebugLauncher) else snapshot(attempt.root).name


def largest_array(launcher: LauncherConfig) -> int:
    """How many attempts `start_array` takes; 1: there are no arrays."""
    return LARGEST_ARRAY if isinstance(launcher, SlurmLauncher) else 1


def start_array(attempts: Sequence[Attempt], launcher: LauncherConfig) -> Sequence[Handle]:
    """Hand the attempts' jobs to the launcher as one array."""
    assert isinstance(launcher, SlurmLauncher), launcher
    return submit_slurm(attempts, launcher)


def find(attempt: Attempt, launcher: LauncherConfig) -> Handle:
    """The handle of an attempt that an earlier driver submitted."""
    if isinstance(launcher, SlurmLauncher) and attempt.job_id is not None:
        handle = SlurmHandle(launcher, attempt.job_id, found=True)
        handle.state()  # before anything can become of it
        return handle
    grace_s = 0.0 if isinstance(launcher, DebugLauncher) else launcher.start_grace_s
    return Orphan(attempt, grace_s if attempt.job_id is not None else 0.0)


class InProcess:
    """A job of the debug launcher: it runs here and now, and is over when this object exists."""

    def __init__(self, attempt: Attempt) -> None:
        job = submitit.DebugExecutor(attempt.logs).submit(Job(attempt.folder))
        self.job_id: str | None = str(job.job_id)
        if job.result() == "stopped":  # a SIGTERM that the job heard meant this process
            raise KeyboardInterrupt

    def may_live(self) -> bool:
        return False

    def state(self) -> str:
        return "ended"

    def ending(self) -> Ending:
        return Ending(policy="lost", why=self.state())

    def stop(self, *, kill: bool = False) -> None:
        """Nothing to stop: it is over."""


class LocalProcess:
    """A job of the local launcher that this driver started."""

    def __init__(self, attempt: Attempt, launcher: LocalLauncher, job: "submitit.Job[str]") -> None:
        self._attempt, self._launcher, self._job = attempt, launcher, job
        self.job_id: str | None = str(job.job_id)

    def may_live(self) -> bool:
        return bool(self._job.state == "RUNNING")

    def state(self) -> str:
        return str(self._job.state).lower()

    def ending(self) -> Ending:
        return Ending(policy="lost", why=self.state())

    def stop(self, *, kill: bool = False) -> None:
        """The worker gets the signal, and its controller ends with it; before there is a worker, both get it."""
        if stop_worker(self._attempt, kill=kill) and not kill:
            return
        if self.may_live():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(int(str(self._job.job_id)), signal.SIGKILL if kill else signal.SIGTERM)


class Orphan:
    """A job on this machine whose driver died: its lock tells all, once it has taken it."""

    def __init__(self, attempt: Attempt, grace_s: float) -> None:
        self._attempt, self._grace_s = attempt, grace_s
        self.job_id = attempt.job_id

    def may_live(self) -> bool:
        """Only while it may still be starting. The clock is that of the file, which is this machine's."""
        since = time.time() - float(self._attempt.submitted().get("time", 0.0))
        return not self._attempt.started and 0 <= since < self._grace_s

    def state(self) -> str:
        return "left behind by an earlier driver"

    def ending(self) -> Ending:
        return Ending(policy="lost", why=self.state())

    def stop(self, *, kill: bool = False) -> None:
        stop_worker(self._attempt, kill=kill)


def stop_worker(attempt: Attempt, *, kill: bool) -> bool:
    """Signal the worker that holds the attempt's lock; whether there was one. The lock proves the pid is its own."""
    if not is_held(attempt.lock):
        return False
    pid = int(holder(attempt.lock).get("pid", 0))
    if pid in (0, os.getpid()):
        return False
    with contextlib.suppress(ProcessLookupError):
        if kill:
            os.killpg(os.getpgid(pid), signal.SIGKILL)  # its loaders too: the session is the job's own
        else:
            os.kill(pid, signal.SIGTERM)
    return True


class DetachedExecutor(submitit.LocalExecutor):
    """submitit's local executor, its jobs in sessions of their own.

    submitit leaves them in the driver's process group and on its terminal: Ctrl-C would tear down the workers in the
    middle of what they do, and a pipe behind the driver would stay open as long as they live. Here only the driver
    hears Ctrl-C, and decides. CUDA_VISIBLE_DEVICES is left alone where no devices are dealt out.
    """

    environment: dict[str, str]

    def _submit_command(self, command: str) -> "LocalJob[Any]":
        timeout_s = int(60 * self.parameters["timeout_min"])
        environment = (
            os.environ
            | self.environment
            | {
                "SUBMITIT_EXECUTOR": "local",
                "SUBMITIT_LOCAL_COMMAND": command,
                "SUBMITIT_LOCAL_NTASKS": "1",
                "SUBMITIT_LOCAL_JOB_NUM_NODES": "1",
                "SUBMITIT_LOCAL_NODEID": "0",
                "SUBMITIT_LOCAL_TIMEOUT_S": str(timeout_s),
                "SUBMITIT_LOCAL_SIGNAL_DELAY_S": str(min(30, timeout_s // 2)),
                "SUBMITIT_LOCAL_WITH_SHELL": "",
                "SUBMITIT_STDERR_TO_STDOUT": "",
            }
        )
        with (self.folder / "controller.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "submitit.local._local", str(self.folder)],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return LocalJob(folder=self.folder, job_id=str(process.pid), process=process)


def submit_local(attempt: Attempt, launcher: LocalLauncher, slot: int) -> "submitit.Job[str]":
    executor = DetachedExecutor(attempt.logs, max_num_timeout=6)  # as often as its controller starts a job again
    executor.update_parameters(timeout_min=launcher.timeout_min)
    executor.environment = thread_variables(launcher) | code_variables(attempt.root)
    if launcher.cuda_devices is not None:
        dealt = launcher.cuda_devices[slot % len(launcher.cuda_devices)] if launcher.cuda_devices else ""
        executor.environment["CUDA_VISIBLE_DEVICES"] = str(dealt)
    return executor.submit(Job(attempt.folder))


def submission_of(launcher: LauncherConfig, root: Path, keys: list[str]) -> str:
    """How jobs at these keys would be started. `root` is the folder of attempts; a copy of the code is taken there.

    Errors: UserError where there is no such launcher on this machine.
    """
    if isinstance(launcher, DebugLauncher):
        return "in this process, one job after another"
    root.mkdir(parents=True, exist_ok=True)
    if not isinstance(launcher, LocalLauncher):
        return script_of(root, keys[: launcher.max_in_flight], launcher)
    variables = " ".join(
        f"{name}={value}" for name, value in (thread_variables(launcher) | code_variables(root)).items()
    )
    folder = root / keys[0] / "attempt-001" / "submitit"
    command = shlex.join([sys.executable, "-m", "submitit.local._local", str(folder)])
    return f"{jobs_at_once(launcher)} at once, each by\n{variables} {command}"
