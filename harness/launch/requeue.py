"""How a job on Slurm ends that was asked to: whoever asked decides what is left behind.

Slurm sends SIGUSR2 some time before the limit (`sbatch --signal`), and some clusters send it at a preemption: the job
has saved, and puts itself back into the queue, where it needs no driver. SIGTERM comes with a preemption,
`scontrol requeue` and `scancel`: Slurm knows which, so the job leaves no result, and its state decides.
"""

import os
import signal
import subprocess
import time

from harness.launch.attempt import Attempt, Result
from harness.launch.config import SlurmLauncher

TOLERANCE_S = 60.0
"""`man sbatch`: "the signal may be sent up to 60 seconds earlier than specified"."""


def left_behind(attempt: Attempt, launcher: SlurmLauncher, asked: signal.Signals | None, began: float) -> Result | None:
    """The result of a job that has stopped on the signal `asked`; None: it may run again as the same attempt.

    `began` is the job's start by the clock `time.monotonic`.
    """
    if asked == signal.SIGUSR1:
        return Result(state="stopped", error="another attempt, or another run of it, took its place")
    if asked != signal.SIGUSR2:
        return None
    limit_s = 60 * launcher.timeout_min
    if time.monotonic() - began >= limit_s - launcher.signal_delay_s - TOLERANCE_S:  # else it was preempted
        attempt.count_timeout()
        if (spent := too_many_timeouts(attempt, launcher)) is not None:
            return Result(state="failed", error=spent)
    return _requeue()


def too_many_timeouts(attempt: Attempt, launcher: SlurmLauncher) -> str | None:
    """Why the key is not continued after its newest time-out, or None if it is."""
    count = attempt.timeouts_of_key()
    if count <= launcher.max_requeues:
        return None
    return (
        f"it reached its time limit of {launcher.timeout_min} min {count} times; raise launcher.timeout_min or "
        f"launcher.max_requeues ({launcher.max_requeues}) and run the same command again"
    )


def _requeue() -> Result | None:
    """Ask Slurm to queue this job again; where it does not, the driver will submit another attempt."""
    job = os.environ["SLURM_JOB_ID"]  # of an array task too: its own number
    try:
        done = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Result(state="stopped", error=f"saved at its time limit; not requeued: {error}")
    if done.returncode:
        return Result(state="stopped", error=f"saved at its time limit; not requeued: {done.stderr.strip()}")
    return None
