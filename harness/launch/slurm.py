"""Jobs on Slurm through submitit: submitted alone or as one array, asked about together, refused in one sentence."""

import contextlib
import os
import shlex
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import submitit
from submitit.core.utils import FailedJobError, FailedSubmissionError

from harness.launch.attempt import Attempt
from harness.launch.config import SlurmLauncher, thread_variables
from harness.launch.endings import Ending
from harness.launch.slurm_queue import QUEUE, JobState, is_alive, policy_of
from harness.launch.snapshot import python_command
from harness.launch.worker import Job
from harness.records.errors import UserError, unknown_name

ASK_EVERY_POLLS = 5
"""Slurm is asked once in so many looks at locks and leases, which cost it nothing."""

TASKS_END_THEMSELVES = ["--kill-on-bad-exit=0", "--wait=0"]
"""srun kills no task because another has ended, however long ago, which it would do without a word. The first task
names who died, as soon as it shares a training with it; it needs nobody for what it does alone. The others end when
their connection to the first closes (`harness.launch.team`)."""

LARGEST_ARRAY = 1000
"""Slurm's default MaxArraySize is 1001."""


class SlurmHandle:
    """A job in Slurm's hands. One of an earlier driver may be ending as this one begins: look at it then, since a
    cancellation counts only for a driver that saw the job go on."""

    def __init__(self, launcher: SlurmLauncher, job_id: str, *, of_earlier_driver: bool = False) -> None:
        self._launcher = launcher
        self.job_id: str | None = job_id
        self._of_earlier_driver = of_earlier_driver

    def may_live(self) -> bool:
        return is_alive(self._state().word)

    def state(self) -> str:
        return str(self._state())

    def ending(self) -> Ending:
        """The policy for a job without a result, and its reason: "cancelled by alice at 2026-01-31T12:00:00"."""
        state = self._state()
        policy, why = policy_of(state.word)
        if policy == "cancel":
            why = f"job {self.job_id} was {why} {state.more}".rstrip()
            unseen = self._of_earlier_driver and not QUEUE.went_on(str(self.job_id))
            return Ending(policy="again" if unseen else policy, why=why)
        return Ending(policy=policy, why=f"{why} (job {self.job_id}: {state})")

    def stop(self, *, kill: bool = False) -> None:
        """Slurm kills it where it does not end. Raises UserError where Slurm was not told."""
        if kill:
            return
        try:
            completed = subprocess.run(["scancel", str(self.job_id)], capture_output=True, text=True, timeout=60)
            complaint = completed.stderr.strip() if completed.returncode else ""
        except (OSError, subprocess.TimeoutExpired) as error:
            complaint = str(error)
        if complaint and "invalid job id" not in complaint.lower():  # as of one that ended long ago
            raise UserError(f"Slurm did not cancel job {self.job_id} ({complaint}); ask again once it answers")

    def _state(self) -> JobState:
        polls_s = ASK_EVERY_POLLS * self._launcher.poll_interval_s
        return QUEUE.state(str(self.job_id), every_s=polls_s, grace_s=self._launcher.start_grace_s)


def submit_slurm(attempts: Sequence[Attempt], launcher: SlurmLauncher) -> list[SlurmHandle]:
    """One job, or one array of all the attempts. Raises UserError where there is no Slurm or it refuses the job."""
    logs = attempts[0].logs if len(attempts) == 1 else _array_folder(attempts)
    name = attempts[0].key if len(attempts) == 1 else attempts[0].root.parent.name
    with _slurm_errors(launcher):
        executor = _executor(logs, name, attempts[0].root, launcher)
        with executor.batch() if len(attempts) > 1 else contextlib.nullcontext():
            jobs = [executor.submit(Job(attempt.folder, launcher)) for attempt in attempts]
    return [SlurmHandle(launcher, str(job.job_id)) for job in jobs]


def _executor(
    logs: Path,
    name: str,
    root: Path,
    launcher: SlurmLauncher,
    of: type[submitit.SlurmExecutor] = submitit.SlurmExecutor,
) -> submitit.SlurmExecutor:
    python = shlex.join(python_command(root, hold_signals=True))
    executor = of(logs, max_num_timeout=launcher.max_requeues, python=python)
    executor.update_parameters(job_name=name, **slurm_parameters(launcher))
    return executor


class _Writer(submitit.SlurmExecutor):
    """Writes scripts where there is no Slurm: submitit's own asks for `srun` when it is made."""

    @classmethod
    def affinity(cls) -> int:
        return 1


def script_of(root: Path, keys: Sequence[str], launcher: SlurmLauncher) -> str:
    """The script that `submit_slurm` would have submitit write and sbatch take, for first attempts at these keys; also
    where there is no Slurm."""
    first = Attempt(root / keys[0] / "attempt-001")
    alone = len(keys) == 1
    logs, name = (first.logs, first.key) if alone else (_array_of(first), root.parent.name)
    executor = _executor(logs, name, root, launcher, _Writer)
    if not alone:
        executor.parameters["map_count"] = len(keys)  # as submitit does for a batch
    script: str = executor._make_submission_file_text(executor._submitit_command_str, "")
    return script


def slurm_parameters(launcher: SlurmLauncher) -> dict[str, Any]:
    """The launcher's settings as `submitit.SlurmExecutor` names them."""
    optional = {
        "partition": launcher.partition,
        "account": launcher.account,
        "qos": launcher.qos,
        "constraint": launcher.constraint,
        "exclude": launcher.exclude,
        "gpus_per_node": launcher.gpus or None,
        "mem": None if launcher.mem_gb is None else f"{round(1024 * launcher.mem_gb)}MB",
    }
    return {
        "time": launcher.timeout_min,
        "cpus_per_task": launcher.cpus,
        "ntasks_per_node": launcher.processes_a_node,
        "nodes": launcher.nodes,
        "srun_args": TASKS_END_THEMSELVES,
        "signal_delay_s": launcher.signal_delay_s,
        "array_parallelism": launcher.array_parallelism or launcher.max_in_flight,
        "setup": [*(f"export {name}='{value}'" for name, value in thread_variables(launcher).items()), *launcher.setup],
        # Slurm may be set up not to requeue (JobRequeue=0) unless a job asks for it
        "additional_parameters": {"requeue": True, **launcher.additional},
        **{name: value for name, value in optional.items() if value is not None},
    }


def _array_folder(attempts: Sequence[Attempt]) -> Path:
    """submitit's folder of an array, to which the attempts' own log folders lead."""
    folder = _array_of(attempts[0])
    folder.mkdir(parents=True)
    for attempt in attempts:
        attempt.logs.symlink_to(os.path.relpath(folder, attempt.folder))
    return folder


def _array_of(first: Attempt) -> Path:
    return first.root / "arrays" / f"{first.key}.{first.name}"


@contextlib.contextmanager
def _slurm_errors(launcher: SlurmLauncher) -> Iterator[None]:
    try:
        yield
    except (FailedJobError, FailedSubmissionError, subprocess.CalledProcessError) as error:
        raise _refused(str(error), launcher) from error
    except RuntimeError as error:
        if "srun" not in str(error):
            raise
        raise UserError(
            "launcher 'slurm' needs Slurm's srun and sbatch on this machine; use launcher=local here"
        ) from error


def _refused(error: str, launcher: SlurmLauncher) -> UserError:
    """What sbatch said, and beside it the names that exist, where one of ours does not."""
    complaint = error.strip().splitlines()[-1]
    if "partition name" in complaint or "invalid partition" in complaint:
        return unknown_name("partition", str(launcher.partition), _names("sinfo", "--noheader", "--format=%R"))
    if "account" in complaint.lower():
        command = ("sacctmgr", "--noheader", "--parsable2", "show", "associations")
        accounts = _names(*command, f"user={_user()}", "format=Account")
        partitions = _names("sinfo", "--noheader", "--format=%R")
        return UserError(
            f"Slurm refused account '{launcher.account}' with partition '{launcher.partition}' ({complaint}); "
            f"your accounts: {', '.join(accounts) or '(unknown)'}; partitions: {', '.join(partitions) or '(unknown)'}"
        )
    return UserError(f"Slurm refused the job ({complaint}); check launcher.partition, account and limits")


def _names(*command: str) -> list[str]:
    try:
        output = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return sorted(set(output.split()))


def _user() -> str:
    import pwd

    return pwd.getpwuid(os.getuid()).pw_name
