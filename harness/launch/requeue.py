"""How a job on Slurm ends that was asked to, and saved: it puts itself back into the queue, where it needs no driver.

Slurm sends SIGUSR2 some time before the limit (`sbatch --signal`). SIGTERM comes at a preemption, at `scontrol requeue`
and at `scancel`: only at a preemption does Slurm still call the job running. Of the others it knows what is to become
of the job, so the job does nothing and leaves no result.
"""

import os
import signal
import subprocess
import time
from typing import Literal

from harness.launch.attempt import Attempt, Result
from harness.launch.config import SlurmLauncher

TOLERANCE_S = 60.0
"""`man sbatch`: "the signal may be sent up to 60 seconds earlier than specified"."""


def leave(
    attempt: Attempt, launcher: SlurmLauncher, asked: signal.Signals | None, began: float
) -> Literal["requeued", "stopped"] | Result:
    """What has become of a job that stopped on the signal `asked`; a result, if this attempt is not to run again.

    `began` is the job's start by the clock `time.monotonic`. None: SIGTERM, which the callable heard itself.
    """
    if asked == signal.SIGUSR1:
        return Result(state="stopped", error="another attempt, or another run of it, took its place")
    job = own_job()
    if asked != signal.SIGUSR2 and not _is_running(job):
        return "stopped"
    limit_s = 60 * launcher.timeout_min
    if asked == signal.SIGUSR2 and time.monotonic() - began >= limit_s - launcher.signal_delay_s - TOLERANCE_S:
        attempt.count_timeout()
        if (spent := too_many_timeouts(attempt, launcher)) is not None:
            return Result(state="failed", error=spent)
    try:
        _run("scontrol", "requeue", job)
    except (OSError, subprocess.SubprocessError) as error:  # the driver will submit another attempt
        said = getattr(error, "stderr", "") or str(error)
        return Result(
            state="stopped", error=f"saved when it was asked to end; Slurm did not requeue it: {said.strip()}"
        )
    return "requeued"


def own_job() -> str:
    """The number of the job that this process is in, as Slurm's commands take it: 17, or 17_3 in an array."""
    job, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return os.environ["SLURM_JOB_ID"] if job is None else f"{job}_{task}"


def _is_running(job: str) -> bool:
    """Whether Slurm still calls the job running; no where it does not answer: then the driver will ask."""
    try:
        return _run("squeue", "--noheader", "--format=%T", f"--jobs={job}") == "RUNNING"
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


def _run(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.strip()
