"""What is to be done about an attempt that is over and has no result that counts. `resolve_ending` decides it
from

Result:        its worker's word: it was stopped, or refused to run; then nothing else counts
the launcher:  how the job ended, in its words; of one that was cancelled, whether this driver saw it go on before
`suspended`:   its worker saved and left it to be continued: no loss to count
`recalled`:    its driver asked it to end: its cancellation is nobody's word on the trial
`timeouts`:    how often its key reached the time limit: too often is a failure
"""

from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

from harness.launch.attempt import Attempt, Result
from harness.launch.config import LauncherConfig, SlurmLauncher
from harness.launch.events import Event
from harness.launch.worker import too_many_timeouts
from harness.processes.locks import FileLock

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


EVENTS: dict[Policy, Event] = {"fail": "failed", "cancel": "cancelled", "again": "cancelled"}
"""How the log calls an ending; every other is `lost`."""


def resolve_ending(attempt: Attempt, handle: Handle, launcher: LauncherConfig, result: Result | None) -> Ending:
    """The ending of an attempt that was stopped, refused, or died. Time limits are counted, final endings written.

    Asked by the driver, once, when neither lock, lease nor launcher lets the attempt live.
    """
    if result is not None:
        return Ending(policy="resubmit" if result.state == "stopped" else "lost", why=result.error)
    ending = handle.ending()
    if ending.policy == "lost":
        return Ending(policy="resubmit" if attempt.is_suspended else "lost", why=why_lost(attempt, handle))
    if ending.policy in ("cancel", "again") and attempt.recalled:
        return Ending(policy="resubmit", why=ending.why)
    if ending.policy == "continue":
        ending = _count_timeout(attempt, launcher, ending)
    if ending.policy != "resubmit":
        _close(attempt, Result(state="stopped" if ending.policy == "continue" else "failed", error=ending.why))
    return ending


def why_lost(attempt: Attempt, handle: Handle) -> str:
    when = "while it ran" if attempt.started else "before it began"
    words = attempt.last_words() or "without a word, as from kill -9, or a lack of memory or disk space"
    return f"its worker ended {when}, {words} (job: {handle.state()})"


def _count_timeout(attempt: Attempt, launcher: LauncherConfig, ending: Ending) -> Ending:
    assert isinstance(launcher, SlurmLauncher), launcher
    attempt.count_timeout()
    spent = too_many_timeouts(attempt, launcher)
    return ending if spent is None else Ending(policy="fail", why=spent)


def _close(attempt: Attempt, result: Result) -> None:
    """Write the driver's word as the attempt's result, so that a driver after this one does not settle it again."""
    lock = FileLock.acquire(attempt.key_lock, wait_s=0.2)
    if lock is not None:
        with lock:
            attempt.write_result(result)
