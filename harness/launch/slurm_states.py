"""Slurm's words for a job's state, and what each means for the key that the job was to run.

The words are those of `man squeue` and `man sacct` (JOB STATE CODES). A word that is not here is an error.
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from harness.records.errors import UserError

Policy: TypeAlias = Literal[
    "wait",  # Slurm still has it
    "resubmit",  # another attempt, counted for nothing: it was not the job's fault
    "continue",  # another attempt from the checkpoint, as often as launcher.max_requeues says
    "lost",  # another attempt, counted: some losses are too many
    "fail",  # the end: the same again would end the same
    "cancel",  # the end, because somebody wanted it
    "again",  # another attempt, counted for nothing: somebody cancelled it, and then gave the same command again
]


@dataclass(frozen=True, kw_only=True, slots=True)
class Ending:
    """What the launcher says of a job that left no result."""

    policy: Policy
    why: str


STATES: dict[str, tuple[Policy, str]] = {
    "BOOT_FAIL": ("resubmit", "its node did not boot"),
    "CANCELLED": ("cancel", "cancelled"),
    "COMPLETED": ("lost", "it ended without a result"),
    "DEADLINE": ("fail", "its deadline was too near; submit it without --deadline, or with a later one"),
    "FAILED": ("lost", "it ended with an error"),
    "NODE_FAIL": ("resubmit", "its node failed"),
    "OUT_OF_MEMORY": ("fail", "it needed more memory than it asked for; raise launcher.mem_gb"),
    "PREEMPTED": ("resubmit", "a job of higher priority took its place"),
    "REVOKED": ("resubmit", "another cluster of the federation took it"),
    "TIMEOUT": ("continue", "it reached its time limit"),
    "UNKNOWN": ("lost", "neither Slurm's queue nor its accounting knows the job"),  # our word, not Slurm's
    **dict.fromkeys(
        (
            "COMPLETING", "CONFIGURING", "PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "RESIZING",
            "RESV_DEL_HOLD", "RUNNING", "SIGNALING", "SPECIAL_EXIT", "STAGE_OUT", "STOPPED", "SUSPENDED",
        ),
        ("wait", "Slurm still has it"),
    ),
}  # fmt: skip


ENDING = ("COMPLETING", "STAGE_OUT")
"""Slurm still has the job, but it runs no more."""


def policy_of(state: str) -> tuple[Policy, str]:
    """Policy and reason of Slurm's word, which may have more behind it: "CANCELLED by 1000"."""
    word = state.split()[0].rstrip("+") if state.split() else state
    if word not in STATES:
        raise UserError(f"Slurm calls a job '{state}', a state that is not among: {', '.join(sorted(STATES))}")
    return STATES[word]


def is_alive(state: str) -> bool:
    return policy_of(state)[0] == "wait"


def goes_on(state: str) -> bool:
    """Whether the job waits or runs, and nothing has ended it yet. Of a word that is not here nobody knows."""
    return state in STATES and is_alive(state) and state not in ENDING
