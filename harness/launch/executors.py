"""submitit's executors behind one small seam: start a job, ask whether it may still live, cancel it."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any, Protocol

import submitit
from submitit.core.utils import FailedJobError, FailedSubmissionError
from submitit.local.local import LocalJob

from harness.launch.attempt import Attempt
from harness.launch.config import DebugLauncher, LauncherConfig, LocalLauncher, SlurmLauncher, threads_of
from harness.launch.locks import holder, is_held
from harness.launch.worker import Job
from harness.records.errors import UserError

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)


class Handle(Protocol):
    """What a launcher knows of a job that it was given. Asked only when neither lock nor result answers."""

    @property
    def job_id(self) -> str | None: ...

    def may_live(self) -> bool:
        """Whether the job may still run, or begin to: it waits in a queue, or its Python is starting."""

    def state(self) -> str:
        """The launcher's word for the job's state, for people."""

    def stop(self, *, kill: bool = False) -> None:
        """Ask the job to end, or end it; harmless once it has ended."""


def start(attempt: Attempt, launcher: LauncherConfig, slot: int) -> Handle:
    """Hand the attempt's job to the launcher. `slot` numbers the jobs in flight from 0 (it chooses a GPU)."""
    if isinstance(launcher, DebugLauncher):
        return InProcess(attempt)
    if isinstance(launcher, LocalLauncher):
        return LocalProcess(attempt, launcher, submit_local(attempt, launcher, slot))
    return SlurmHandle(attempt, launcher, submit_slurm(attempt, launcher))


def find(attempt: Attempt, launcher: LauncherConfig) -> Handle:
    """The handle of an attempt that an earlier driver submitted."""
    job_id = attempt.submitted().get("job_id")
    if isinstance(launcher, SlurmLauncher) and job_id is not None:
        return SlurmHandle(attempt, launcher, submitit.SlurmJob(attempt.logs, str(job_id)))
    grace_s = 0.0 if isinstance(launcher, DebugLauncher) else launcher.start_grace_s
    return Orphan(attempt, grace_s if job_id is not None else 0.0)


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
        self.job_id: str | None = attempt.submitted().get("job_id")

    def may_live(self) -> bool:
        """Only while it may still be starting. The clock is that of the file, which is this machine's."""
        since = time.time() - float(self._attempt.submitted().get("time", 0.0))
        return not self._attempt.started and 0 <= since < self._grace_s

    def state(self) -> str:
        return "left behind by an earlier driver"

    def stop(self, *, kill: bool = False) -> None:
        stop_worker(self._attempt, kill=kill)


class SlurmHandle:
    """A job in Slurm's hands. sacct answers through submitit's watcher, which asks for all jobs in one call."""

    ENDED = ("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "TIMEOUT")
    ASK_EVERY_S = 10.0
    _asked = float("-inf")

    def __init__(self, attempt: Attempt, launcher: SlurmLauncher, job: "submitit.Job[str]") -> None:
        self._attempt, self._launcher, self._job = attempt, launcher, job
        self.job_id: str | None = str(job.job_id)

    def may_live(self) -> bool:
        """A job that accounting does not know yet gets the grace period; one that it calls ended is dead."""
        state = self.state()
        if state.startswith(self.ENDED):  # "CANCELLED by 1000"
            return False
        if state != "UNKNOWN":
            return True
        since = time.time() - float(self._attempt.submitted().get("time", 0.0))
        return since < self._launcher.start_grace_s

    def state(self) -> str:
        now = time.monotonic()
        fresh = now - SlurmHandle._asked >= self.ASK_EVERY_S
        if fresh:
            SlurmHandle._asked = now
        return str(self._job.watcher.get_state(self._job.job_id, mode="force" if fresh else "cache")).upper()

    def stop(self, *, kill: bool = False) -> None:
        if not kill:
            self._job.cancel(check=False)


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
    executor.environment = thread_variables(launcher)
    if launcher.cuda_devices is not None:
        dealt = launcher.cuda_devices[slot % len(launcher.cuda_devices)] if launcher.cuda_devices else ""
        executor.environment["CUDA_VISIBLE_DEVICES"] = str(dealt)
    return executor.submit(Job(attempt.folder))


def submit_slurm(attempt: Attempt, launcher: SlurmLauncher) -> "submitit.Job[str]":
    """Raises UserError where there is no Slurm or it refuses the job (partition, account, limits)."""
    with _slurm_errors():
        executor = submitit.SlurmExecutor(attempt.logs, max_num_timeout=launcher.max_requeues)
        executor.update_parameters(**slurm_parameters(attempt, launcher))
        return executor.submit(Job(attempt.folder, heartbeat_s=launcher.heartbeat_s))


def slurm_parameters(attempt: Attempt, launcher: SlurmLauncher) -> dict[str, Any]:
    """The launcher's settings as `submitit.SlurmExecutor` names them."""
    exports = [f"export {name}={value}" for name, value in thread_variables(launcher).items()]
    optional = {
        "partition": launcher.partition,
        "account": launcher.account,
        "qos": launcher.qos,
        "constraint": launcher.constraint,
        "exclude": launcher.exclude,
        "gpus_per_node": launcher.gpus or None,
        "mem": None if launcher.mem_gb is None else f"{round(1024 * launcher.mem_gb)}MB",
        "additional_parameters": dict(launcher.additional) or None,
    }
    return {
        "job_name": attempt.key,
        "time": launcher.timeout_min,
        "cpus_per_task": launcher.cpus,
        "ntasks_per_node": 1,
        "nodes": 1,
        "signal_delay_s": launcher.signal_delay_s,
        "setup": [*exports, *launcher.setup],
        **{name: value for name, value in optional.items() if value is not None},
    }


def thread_variables(launcher: LauncherConfig) -> dict[str, str]:
    threads = threads_of(launcher)
    return {} if threads is None else dict.fromkeys(THREAD_VARIABLES, str(threads))


@contextlib.contextmanager
def _slurm_errors() -> Iterator[None]:
    try:
        yield
    except (FailedJobError, FailedSubmissionError, subprocess.CalledProcessError) as error:
        said = str(error).strip().splitlines()[-1]
        raise UserError(f"Slurm refused the job ({said}); check launcher.partition, account and limits") from error
    except RuntimeError as error:
        if "srun" not in str(error):
            raise
        raise UserError(
            "launcher 'slurm' needs Slurm's srun and sbatch on this machine; use launcher=local here"
        ) from error
