"""What the launcher makes of Slurm's words, silences and requeues, without a Slurm; tests/slurm/ has a real one."""

import signal
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import launch_jobs as jobs
import pytest
from test_pool import wait_until

from harness.launch import endings, executors, slurm_queue, worker
from harness.launch.attempt import Attempt, Result, new_attempt
from harness.launch.config import SlurmLauncher
from harness.launch.endings import Ending, Policy
from harness.launch.events import read_events
from harness.launch.slurm import SlurmHandle
from harness.launch.slurm_queue import STATES, SlurmQueue, is_alive, policy_of
from harness.launch.snapshot import python_command
from harness.launch.worker import Job, earlier_run_is_over, heartbeat_of, save_call
from harness.records.errors import UserError

SLURM = SlurmLauncher(timeout_min=60, signal_delay_s=120, max_requeues=2)

WORDS = """
    BOOT_FAIL CANCELLED COMPLETED CONFIGURING COMPLETING DEADLINE FAILED NODE_FAIL OUT_OF_MEMORY PENDING PREEMPTED
    RUNNING RESV_DEL_HOLD REQUEUE_FED REQUEUE_HOLD REQUEUED RESIZING REVOKED SIGNALING SPECIAL_EXIT STAGE_OUT STOPPED
    SUSPENDED TIMEOUT
"""  # JOB STATE CODES in `man squeue` and `man sacct` of Slurm 22.05


@pytest.fixture
def attempt(tmp_path: Path) -> Attempt:
    new = new_attempt(tmp_path / "key")
    new.make_current()
    return new


@pytest.mark.parametrize("word", WORDS.split())
def test_every_state_of_the_manual_pages_has_a_policy(word: str) -> None:
    assert policy_of(word) == STATES[word]


def test_an_unknown_state_is_an_error_that_names_it() -> None:
    with pytest.raises(UserError, match=r"Slurm calls a job 'ON_HOLIDAY', a state that is not among: BOOT_FAIL, "):
        policy_of("ON_HOLIDAY")


def test_what_is_behind_the_word_does_not_matter() -> None:
    assert policy_of("CANCELLED by 1000")[0] == "cancel"
    assert not is_alive("CANCELLED+")


class Slurm:
    """What squeue and sacct say; None: no answer."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.squeue: str | None = ""
        self.sacct: str | None = ""
        self.asked: list[str] = []
        monkeypatch.setattr(slurm_queue, "_output", self._answer)
        self.queue = SlurmQueue()
        monkeypatch.setattr("harness.launch.slurm.QUEUE", self.queue)

    def _answer(self, command: str, *_arguments: str) -> str | None:
        self.asked.append(command)
        return self.squeue if command == "squeue" else self.sacct

    def state(self, job: str = "7", every_s: float = 0.0, grace_s: float = 60.0) -> str:
        return str(self.queue.state(job, every_s=every_s, grace_s=grace_s))


@pytest.fixture
def slurm(monkeypatch: pytest.MonkeyPatch) -> Slurm:
    return Slurm(monkeypatch)


def test_the_queue_is_right_about_what_waits_where_accounting_shows_the_run_before(slurm: Slurm) -> None:
    slurm.squeue, slurm.sacct = "7|PENDING|BeginTime\n", "7|REQUEUED|2026-01-31T12:00:00\n"
    assert slurm.state() == "PENDING (BeginTime)"


def test_accounting_says_who_cancelled_and_when(slurm: Slurm) -> None:
    slurm.squeue, slurm.sacct = "7|CANCELLED|None\n", "7|CANCELLED by 0|2026-01-31T12:00:00\n7.0|CANCELLED by 0|x\n"
    assert slurm.state() == "CANCELLED (by root at 2026-01-31T12:00:00)"


def test_a_step_that_ran_out_of_memory_is_why_its_job_failed(slurm: Slurm) -> None:
    slurm.squeue = "7|FAILED|NonZeroExitCode\n"
    slurm.sacct = "7|FAILED|2026-01-31T12:00:00\n7.batch|FAILED|x\n7.0|OUT_OF_MEMORY|2026-01-31T11:59:59\n"
    assert slurm.state() == "OUT_OF_MEMORY (2026-01-31T11:59:59)"


def test_tasks_of_an_array_are_jobs_of_their_own(slurm: Slurm) -> None:
    slurm.squeue, slurm.sacct = "7_0|RUNNING|None\n7_1|COMPLETED|None\n", "7_1|COMPLETED|2026-01-31T12:00:00\n"
    assert (slurm.state("7_0"), slurm.state("7_1")) == ("RUNNING", "COMPLETED (2026-01-31T12:00:00)")


def test_a_controller_that_does_not_answer_ends_no_job(slurm: Slurm) -> None:
    slurm.squeue = None
    assert slurm.state(grace_s=0.0) == "PENDING (Slurm does not answer)"
    slurm.squeue = "7|RUNNING|None\n"
    assert slurm.state() == "RUNNING"
    slurm.squeue = None
    assert slurm.state(grace_s=0.0) == "RUNNING", "its last word holds"


def test_without_accounting_the_queue_is_believed_after_the_grace_period(slurm: Slurm) -> None:
    slurm.squeue, slurm.sacct = "7|TIMEOUT|TimeLimit\n", None
    assert slurm.state(grace_s=0.05).startswith("COMPLETING")
    time.sleep(0.06)
    assert slurm.state(grace_s=0.05) == "TIMEOUT (TimeLimit)"


def test_a_job_that_nobody_knows_is_unknown_after_the_grace_period(slurm: Slurm) -> None:
    assert slurm.state(grace_s=0.05).startswith("COMPLETING")
    time.sleep(0.06)
    assert slurm.state(grace_s=0.05) == "UNKNOWN"


def test_jobs_found_while_the_controller_is_silent_are_one_question(slurm: Slurm) -> None:
    slurm.squeue = None
    states = {slurm.state(str(job), every_s=60.0) for job in range(100)}
    assert states == {"PENDING (Slurm does not answer)"}
    assert slurm.asked == ["squeue"]


def test_a_job_of_somebody_elses_may_be_in_any_state(slurm: Slurm) -> None:
    slurm.squeue = "7|RUNNING|None\n99|ON_HOLIDAY|None\n"
    assert slurm.state("7") == "RUNNING"
    with pytest.raises(UserError, match="ON_HOLIDAY"):
        slurm.state("99")


def test_many_jobs_are_one_question_and_ended_ones_are_not_asked_for_again(slurm: Slurm) -> None:
    slurm.squeue = "".join(f"{job}|RUNNING|None\n" for job in range(100))
    for job in range(100):
        slurm.state(str(job), every_s=60.0)
    assert slurm.asked == ["squeue"], "an earlier driver's jobs, found one by one"
    slurm.asked.clear()
    slurm.queue._asked_at = float("-inf")
    for job in range(100):
        slurm.state(str(job), every_s=60.0)
    assert slurm.asked == ["squeue"]
    slurm.squeue, slurm.sacct = "", "".join(f"{job}|COMPLETED|x\n" for job in range(100))
    for _ in range(3):
        for job in range(100):
            slurm.state(str(job))
    assert slurm.asked == ["squeue", "squeue", "sacct"]


class Ended:
    """A handle of a job that has ended in `state`, which means that policy unless it is told another."""

    job_id = "7"

    def __init__(self, state: str, policy: Policy | None = None) -> None:
        self._state, self._policy = state, policy

    def may_live(self) -> bool:
        return False

    def state(self) -> str:
        return self._state

    def ending(self) -> Ending:
        policy, why = policy_of(self._state)
        return Ending(policy=self._policy or policy, why=why)

    def stop(self, *, kill: bool = False) -> None: ...


@pytest.mark.parametrize(
    ("state", "policy"),
    [
        ("NODE_FAIL", "resubmit"),
        ("BOOT_FAIL", "resubmit"),
        ("PREEMPTED", "resubmit"),
        ("TIMEOUT", "continue"),
        ("OUT_OF_MEMORY", "fail"),
        ("DEADLINE", "fail"),
        ("CANCELLED", "cancel"),
        ("CANCELLED", "again"),
        ("FAILED", "lost"),
        ("COMPLETED", "lost"),
    ],
)
def test_endings_that_are_final_are_written_down(attempt: Attempt, state: str, policy: Policy) -> None:
    assert endings.resolve_ending(attempt, Ended(state, policy), SLURM, None).policy == policy
    result = attempt.result()
    final = policy in ("fail", "cancel", "again")
    assert final == (result is not None and result.state == "failed")


def test_a_worker_that_saved_and_left_is_no_loss_however_slurm_calls_it(attempt: Attempt) -> None:
    attempt.mark_suspended()
    assert endings.resolve_ending(attempt, Ended("COMPLETED"), SLURM, None).policy == "resubmit"
    attempt.mark_resumed()
    assert endings.resolve_ending(attempt, Ended("COMPLETED"), SLURM, None).policy == "lost"


@pytest.mark.parametrize("policy", ["cancel", "again"])
def test_a_job_that_its_driver_cancelled_goes_on_with_the_next_driver(attempt: Attempt, policy: Policy) -> None:
    attempt.mark_recalled()
    assert endings.resolve_ending(attempt, Ended("CANCELLED", policy), SLURM, None).policy == "resubmit"
    assert attempt.result() is None


def test_a_driver_that_died_before_it_learnt_the_job_finds_it_by_what_its_worker_signed(
    attempt: Attempt, slurm: Slurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So Slurm can be asked of it, and a user's scancel is heard."""
    attempt.mark_submitted(None)
    assert isinstance(executors.find(attempt, SLURM), executors.Orphan)
    for name, value in {"SUBMITIT_EXECUTOR": "slurm", "SLURM_ARRAY_JOB_ID": "8", "SLURM_ARRAY_TASK_ID": "3"}.items():
        monkeypatch.setenv(name, value)
    save_call(attempt, lambda _folder: "done")
    Job(attempt.folder)()
    handle = executors.find(attempt, SLURM)
    assert isinstance(handle, SlurmHandle)
    assert handle.job_id == "8_3"


@pytest.mark.parametrize(
    ("of_earlier_driver", "words", "policy"),
    [
        (True, ["COMPLETING", "CANCELLED"], "again"),  # whoever cancelled it gave the command again before it had ended
        (True, ["CANCELLED"], "again"),
        (True, ["silence", "COMPLETING", "CANCELLED"], "again"),
        (True, ["RUNNING", "COMPLETING", "CANCELLED"], "cancel"),
        (True, ["COMPLETING", "PENDING", "COMPLETING", "CANCELLED"], "cancel"),  # it was requeued, not cancelled
        (True, ["COMPLETING", "TIMEOUT"], "continue"),
        (False, ["COMPLETING", "CANCELLED"], "cancel"),
    ],
)
def test_a_cancellation_counts_for_the_drivers_that_saw_the_job_go_on(
    slurm: Slurm, of_earlier_driver: bool, words: list[str], policy: str
) -> None:
    launcher = SlurmLauncher(poll_interval_s=0.001)

    def say(word: str) -> None:
        slurm.squeue = None if word == "silence" else f"7|{word}|None\n"
        slurm.sacct = f"7|{word}|2026-01-31T12:00:00\n"

    say(words[0])
    handle = SlurmHandle(launcher, "7", of_earlier_driver=of_earlier_driver)
    handle.state()
    for word in words[1:]:
        assert handle.may_live()
        time.sleep(0.006)  # as old as an answer may be
        say(word)
    assert not handle.may_live()
    assert handle.ending().policy == policy


def test_time_limits_are_counted_over_attempts_and_from_the_last_failure_on(tmp_path: Path) -> None:
    def limit() -> str:
        attempt = new_attempt(tmp_path / "key")
        return endings.resolve_ending(attempt, Ended("TIMEOUT"), SLURM, None).policy

    assert [limit() for _ in range(3)] == ["continue", "continue", "fail"]
    assert limit() == "continue", "the same command again begins to count anew"


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Answers of squeue and scontrol; an exception is raised."""
    answers: dict[str, Any] = {"squeue": "CANCELLED", "scontrol": "", "calls": []}

    def run(command: str, *arguments: str) -> str:
        answers["calls"].append((command, *arguments))
        if isinstance(answers[command], Exception):
            raise answers[command]
        return str(answers[command])

    monkeypatch.setattr(worker, "_slurm", run)
    monkeypatch.setenv("SLURM_JOB_ID", "9")
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "7")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    return answers


LONG_AGO, NOW = -3600.0, 0.0  # when the job began, from now


@pytest.mark.parametrize(
    ("stop_signal", "began", "squeue", "ending", "timeouts"),
    [
        (signal.SIGUSR2, LONG_AGO, "RUNNING", "requeued", 1),  # its time limit
        (signal.SIGUSR2, NOW, "RUNNING", "requeued", 0),  # preempted, on clusters that send the signal then
        (None, NOW, "RUNNING", "requeued", 0),  # preempted, in its grace time
        (None, LONG_AGO, "CANCELLED", "stopped", 0),  # scancel
        (signal.SIGTERM, NOW, "COMPLETING", "stopped", 0),  # scontrol requeue
        (signal.SIGTERM, NOW, OSError("no squeue"), "stopped", 0),
    ],
)
def test_a_job_requeues_itself_unless_slurm_has_ended_it(
    attempt: Attempt, commands: dict[str, Any], stop_signal: Any, began: float, squeue: Any, ending: str, timeouts: int
) -> None:
    commands["squeue"] = squeue
    assert worker.requeue_or_stop(attempt, SLURM, stop_signal, time.monotonic() + began) == ending
    assert (("scontrol", "requeue", "7_3") in commands["calls"]) == (ending == "requeued")
    assert attempt.timeouts_of_key() == timeouts


def test_a_requeue_that_slurm_refuses_leaves_the_key_to_the_driver(attempt: Attempt, commands: dict[str, Any]) -> None:
    commands["scontrol"] = subprocess.CalledProcessError(1, "scontrol", stderr="Requested operation is disabled\n")
    left = worker.requeue_or_stop(attempt, SLURM, signal.SIGUSR2, time.monotonic() + LONG_AGO)
    assert isinstance(left, Result)
    assert left.state == "stopped"
    assert left.error.endswith("Slurm did not requeue it: Requested operation is disabled")


def test_a_job_that_was_replaced_does_not_requeue_itself(attempt: Attempt, commands: dict[str, Any]) -> None:
    left = worker.requeue_or_stop(attempt, SLURM, signal.SIGUSR1, time.monotonic())
    assert isinstance(left, Result)
    assert commands["calls"] == []


@pytest.mark.parametrize(("number", "ending"), [(signal.SIGUSR2, "requeued"), (signal.SIGTERM, "stopped")])
def test_a_signal_that_comes_while_the_worker_imports_is_heard_once_it_can_be(
    attempt: Attempt, number: signal.Signals, ending: str
) -> None:
    """By its default action it would end the process there: a job without a result, which counts as lost."""
    save_call(attempt, jobs.Steps())
    command = [*python_command(attempt.root, hold_signals=True), "-m", "worker_imports_slowly", str(attempt.folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        wait_until((attempt.folder / "imports").exists)
        process.send_signal(number)
        (attempt.folder / "go").touch()
        assert process.communicate(timeout=120)[0].split() == [ending]
    assert [line["event"] for line in read_events(attempt.root)] == ["started", ending]
    assert not (attempt.folder.parent / "shared" / "steps.log").exists(), "no step was begun"


def test_a_requeued_run_waits_for_the_lease_of_the_run_on_another_host(attempt: Attempt) -> None:
    elsewhere, here = {"host": "another"}, {"host": socket.gethostname()}
    assert earlier_run_is_over(attempt, elsewhere, 0.2), "the lease was given back, or never taken"
    attempt.lease.write_text("another-1-1 5")
    assert earlier_run_is_over(attempt, here, 30.0), "this host's lock proves it: no waiting"
    assert earlier_run_is_over(attempt, elsewhere, 0.2), "it does not move: dead"
    stop = threading.Event()

    def live() -> None:
        for count in range(1000):
            attempt.lease.write_text(f"another-1-1 {count}")
            if stop.wait(0.02):
                return

    thread = threading.Thread(target=live)
    thread.start()
    try:
        assert not earlier_run_is_over(attempt, elsewhere, 1.0), "it moves: alive"
    finally:
        stop.set()
        thread.join()


def test_a_run_whose_lease_another_run_took_is_told_by_its_own_heartbeat(attempt: Attempt) -> None:
    """A node out of sight: Slurm requeued its job elsewhere, and both are the same attempt."""
    signals: list[int] = []
    previous = signal.signal(signal.SIGUSR1, lambda number, _frame: signals.append(number))
    try:
        with heartbeat_of(attempt, every_s=0.05):
            time.sleep(0.12)
            assert not signals
            attempt.lease.write_text("another-1-1 1")
            time.sleep(0.2)
    finally:
        signal.signal(signal.SIGUSR1, previous)
    assert signals
    assert attempt.lease.read_text() == "another-1-1 1", "and it leaves the other's lease alone"
