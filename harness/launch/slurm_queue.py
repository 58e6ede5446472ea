"""What Slurm says of this driver's jobs, and what each of its words means for the key that the job was to run.

All jobs are asked for at once and not too often. `squeue` (the controller) is right about what waits and runs, requeued
jobs included, where `sacct` (the accounting) shows the run before. How a job ended stands in the accounting: who
cancelled it, and which of its steps ran out of memory (the job itself is then called FAILED). A cluster without
accounting is believed by its queue.

The words are those of `man squeue` and `man sacct` (JOB STATE CODES). A word that is not here is an error.
"""

import os
import pwd
import subprocess
import time
from dataclasses import dataclass

from harness.launch.endings import Policy
from harness.records.errors import UserError

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


COMMAND_TIMEOUT_S = 60.0
OUT_OF_MEMORY = "OUT_OF_MEMORY"


@dataclass(frozen=True, kw_only=True, slots=True)
class JobState:
    word: str  # Slurm's, or UNKNOWN
    more: str = ""  # why it waits; when it ended; for people

    def __str__(self) -> str:
        return f"{self.word} ({self.more})" if self.more else self.word


SILENT = JobState(word="PENDING", more="Slurm does not answer")


class SlurmQueue:
    """Not thread-safe. A job is asked about from the first `state` on until it has ended."""

    def __init__(self) -> None:
        self._alive: set[str] = set()
        self._states: dict[str, JobState] = {}
        self._answer: dict[str, JobState] | None = None  # the last: also of jobs not asked about yet
        self._went_on: set[str] = set()
        self._open_since: dict[str, float] = {}  # not in the queue, and accounting has not said how it ended
        self._asked_at = float("-inf")

    def state(self, job_id: str, *, every_s: float, grace_s: float) -> JobState:
        """The job's state, at most `every_s` old.

        A job that has left the queue counts as COMPLETING until the accounting says how it ended, for at most
        `grace_s`; then the queue's own word counts, or UNKNOWN. A controller that does not answer changes nothing.
        """
        recent = time.monotonic() - self._asked_at < every_s
        if job_id not in self._states:
            self._alive.add(job_id)
            if not recent or not self._answered(job_id):
                self._ask(grace_s)
        elif job_id in self._alive and not recent:
            self._ask(grace_s)
        return self._states[job_id]

    def went_on(self, job_id: str) -> bool:
        """Whether an answer of the queue showed the job waiting or running; a silence shows nothing."""
        return job_id in self._went_on

    def _answered(self, job_id: str) -> bool:
        """Take the job's state from the last answer, if that is all there is to know."""
        if self._answer is None:
            self._states[job_id] = SILENT
        elif job_id in self._answer and goes_on(self._answer[job_id].word):
            self._states[job_id] = self._answer[job_id]
            self._went_on.add(job_id)
        return job_id in self._states

    def _ask(self, grace_s: float) -> None:
        self._answer = queue = _squeue()
        self._asked_at = time.monotonic()
        if queue is None:
            self._states |= {job: SILENT for job in self._alive if job not in self._states}
            return
        self._went_on |= {job for job in self._alive if job in queue and goes_on(queue[job].word)}
        gone = [job for job in self._alive if job not in queue or not is_alive(queue[job].word)]
        accounts = _sacct(gone) if gone else {}
        for job in sorted(self._alive):
            self._states[job] = self._decide(job, queue.get(job), accounts.get(job), grace_s)
        self._alive = {job for job in self._alive if is_alive(self._states[job].word)}

    def _decide(self, job: str, queued: JobState | None, account: JobState | None, grace_s: float) -> JobState:
        if queued is not None and is_alive(queued.word):
            self._open_since.pop(job, None)
            return queued
        if account is not None and not is_alive(account.word):
            return account
        if self._asked_at - self._open_since.setdefault(job, self._asked_at) < grace_s:
            return JobState(word="COMPLETING", more="not in the accounting yet")
        return queued or JobState(word="UNKNOWN")


QUEUE = SlurmQueue()
"""This process's: all its jobs in one question."""


def _squeue() -> dict[str, JobState] | None:
    """All jobs of this user that the controller remembers, array tasks one by one; None where it does not answer."""
    output = _output("squeue", "--noheader", "--array", "--states=all", f"--user={os.getuid()}", "--format=%i|%T|%r")
    if output is None:
        return None
    rows = [line.split("|", 2) for line in output.splitlines()]
    return {job: JobState(word=word, more="" if reason == "None" else reason) for job, word, reason in rows}


def _sacct(jobs: list[str]) -> dict[str, JobState]:
    """How the jobs ended; empty where there is no accounting."""
    output = _output("sacct", "--noheader", "--parsable2", "--format=JobID,State,End", f"--jobs={','.join(jobs)}")
    states: dict[str, JobState] = {}
    for job, state, end in (line.split("|") for line in (output or "").splitlines()):
        name, _, step = job.partition(".")
        if not step:
            states[name] = JobState(word=state.split()[0], more=_by_whom(state, end))
        elif state == OUT_OF_MEMORY and states[name].word == "FAILED":  # a job's own line comes before its steps'
            states[name] = JobState(word=OUT_OF_MEMORY, more=end)
    return states


def _by_whom(state: str, end: str) -> str:
    """ "CANCELLED by 1000" -> "by alice at 2026-01-31T12:00:00"."""
    _, by, uid = state.partition(" by ")
    if not by:
        return end
    try:
        name = pwd.getpwuid(int(uid)).pw_name
    except (KeyError, ValueError):
        name = f"user {uid}"
    return f"by {name} at {end}"


def _output(*command: str) -> str | None:
    try:
        completed = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return completed.stdout if completed.returncode == 0 else None
