"""Processes of one job that work together: a follower that dies ends the work of all, and ends with its worker."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from launch_jobs import Followed

from harness.launch import team, together
from harness.launch.attempt import AttemptStopped, ProcessDied, Result, new_attempt
from harness.launch.team import Team, _End
from harness.launch.together import followed
from harness.launch.worker import save_call
from harness.records.errors import UserError


@pytest.fixture
def attempt(tmp_path: Path):
    return new_attempt(tmp_path / "attempts" / "key")


def started(attempt, what: str):
    save_call(attempt, Followed(what))
    return attempt.folder


def seen(folder: Path, rank: int, seconds: float = 60.0) -> int:
    """The process of that rank, once it is at work."""
    deadline, path = time.monotonic() + seconds, folder / f"here-{rank}"
    while not path.exists():
        assert time.monotonic() < deadline, [log.read_text() for log in folder.glob("logs/*")]
        time.sleep(0.05)
    return int(path.read_text())


def work(folder: Path, then: Callable[[], None] = lambda: None) -> None:
    with followed(folder, 2):
        then()


def test_each_has_its_place_and_they_meet_at_one(attempt) -> None:
    folder = started(attempt, "ends")
    with followed(folder, 3) as place:
        pids = {seen(folder, rank) for rank in (1, 2)}
    assert (place.rank, place.size) == (0, 3)
    assert len(pids | {os.getpid()}) == 3
    assert {(folder / f"place-{rank}").read_text() for rank in (1, 2)} == {f"{place.host}:{place.port} of 3"}


def test_one_alone_starts_nothing(attempt) -> None:
    with followed(attempt.folder, 1) as place:
        assert (place.rank, place.size) == (0, 1)
    assert list(attempt.folder.iterdir()) == []


def test_one_that_is_killed_is_named_with_the_signal(attempt) -> None:
    folder = started(attempt, "waits")

    def kill() -> None:
        os.kill(seen(folder, 1), signal.SIGKILL)
        raise ConnectionError("what the worker notices of it")

    with pytest.raises(ProcessDied, match=r"^process 1 of 2 was ended by SIGKILL$"):
        work(folder, kill)


def test_one_that_fails_is_named_with_the_reason(attempt) -> None:
    folder = started(attempt, "fails")
    with pytest.raises(ProcessDied, match=r"^process 1 of 2 failed: RuntimeError: out of luck$"):
        work(folder)


def test_a_users_mistake_is_the_users(attempt) -> None:
    folder = started(attempt, "refuses")
    with pytest.raises(UserError, match=r"^the data changed$"):
        work(folder)


def test_a_mistake_of_the_worker_s_own_is_told_though_it_breaks_the_others(attempt) -> None:
    folder = started(attempt, "breaks")

    def fail() -> None:
        seen(folder, 1)
        (folder / "broken").touch()
        raise UserError("no space left")

    with pytest.raises(UserError, match=r"^no space left$"):
        work(folder, fail)


def test_who_lost_the_connection_is_no_cause_where_another_died() -> None:
    with Team(4) as leader:
        for rank, kind in ((1, "consequence"), (2, "own"), (3, "gone")):
            leader._ends.append(_End(rank, kind, f"is {kind}"))
            assert str(leader.cause()) == f"process {rank} of 4 is {kind}"


def test_a_connection_that_breaks_between_two_is_a_loss(attempt) -> None:
    folder = started(attempt, "breaks")

    def lose() -> None:
        seen(folder, 1)
        (folder / "broken").touch()
        raise ConnectionError("reset")

    with pytest.raises(ProcessDied, match=r"^process 1 of 2 failed: ConnectionError: closed by peer$"):
        work(folder, lose)


def test_the_same_followers_share_one_training_after_the_other(tmp_path) -> None:
    """Also after one that failed. They know of no attempt of their own, as torchrun's do not."""
    attempts = [new_attempt(tmp_path / "attempts" / key) for key in ("first", "fails", "last")]
    program = (
        "import sys; from harness.launch.team import Meeting, follow\n"
        "follow(Meeting(host=sys.argv[1], port=int(sys.argv[2]), word=sys.argv[3]), rank=1, local=1)\n"
    )
    with Team(2) as leader, together.leading(leader):
        meeting = leader.meeting
        command = [sys.executable, "-c", program, meeting.host, str(meeting.port), meeting.word]
        follower = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
        work(started(attempts[0], "ends"))
        with pytest.raises(ProcessDied, match="out of luck"):
            work(started(attempts[1], "fails"))
        work(started(attempts[2], "ends"))
    assert follower.wait(20) == 0
    assert len({(each.folder / "here-1").read_text() for each in attempts}) == 1


def test_one_that_knows_its_attempt_runs_no_other(attempt, tmp_path) -> None:
    """Whatever the one that answers as its leader sends."""
    other = new_attempt(tmp_path / "attempts" / "other")
    refused = f"^process 1 was sent {other.folder} and follows {attempt.folder} alone"
    with (
        together._started(attempt, 2) as leader,
        together.leading(leader),
        pytest.raises(UserError, match=refused),
    ):
        work(started(other, "ends"))
    assert not (other.folder / "here-1").exists()


NOT_UNDERSTOOD = "said what process 0 does not understand"


@pytest.mark.parametrize(
    ("last", "how"),
    [(b'{"task', "ended without a word"), (b'{"no": "task"}\n', NOT_UNDERSTOOD), (b"no JSON\n", NOT_UNDERSTOOD)],
)
def test_one_that_ends_in_the_middle_of_a_word_is_gone(last: bytes, how: str) -> None:
    with Team(2) as leader:
        with socket.create_connection((leader.meeting.host, leader.meeting.port)) as member:
            hello = {"word": leader.meeting.word, "rank": 1, "host": "node7"}
            member.sendall(json.dumps(hello).encode() + b"\n" + last)
        assert str(leader.cause(5.0)).startswith(f"process 1 of 2 on node7 {how}")


def test_nobody_can_take_the_port_where_they_are_to_meet(attempt) -> None:
    with Team(2) as leader:
        place = leader.share(attempt)
        with pytest.raises(OSError, match="in use"):
            socket.create_server((place.host, place.port))
        leader.dismiss()
        socket.create_server((place.host, place.port)).close()


def test_strangers_do_not_disturb(attempt) -> None:
    folder = started(attempt, "ends")
    with together._started(attempt, 2) as leader, together.leading(leader):
        for said in (b"", b"GET / HTTP/1.1\r\n", b"[]\n", b'{"rank": 1, "word": "x", "host": "x"}\n'):
            with socket.create_connection((leader.meeting.host, leader.meeting.port)) as stranger:
                stranger.sendall(said)
        work(folder)


def test_a_worker_that_leaves_takes_its_followers_along(attempt) -> None:
    folder, pids = started(attempt, "waits"), []

    def leave() -> None:
        pids.append(seen(folder, 1))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work(folder, leave)
    assert not Path(f"/proc/{pids[0]}").exists()


def test_asked_to_end_they_end_in_good_order(attempt) -> None:
    folder = started(attempt, "stops")

    def stop() -> None:
        seen(folder, 1)
        raise AttemptStopped

    with pytest.raises(AttemptStopped):
        work(folder, stop)
    assert (folder / "stopped-1").exists()


HUNG = {
    "fails": Result(state="lost", error="process 1 of 2 failed: RuntimeError: out of luck"),
    "refuses": Result(state="failed", error="the data changed", user_error=True),
}


@pytest.mark.parametrize("what", HUNG)
def test_a_worker_that_hangs_in_what_it_waits_for_ends_though_the_other_only_failed(attempt, monkeypatch, what) -> None:
    """Which the peers of a process by NCCL do not notice."""
    ended = threading.Event()
    monkeypatch.setattr(team, "LEAVE_S", 0.1)
    monkeypatch.setattr(team.os, "_exit", lambda _status: ended.set())
    folder = started(attempt, what)
    with pytest.raises((ProcessDied, UserError)):
        work(folder, lambda: ended.wait(60))
    assert ended.is_set()
    assert attempt.result() == HUNG[what]


@pytest.mark.slow
def test_a_worker_that_hangs_in_what_it_waits_for_ends_with_the_reason(attempt) -> None:
    """And followers end with a worker that is killed."""
    program = (
        "import sys, time; from pathlib import Path; from harness.launch import team, together\n"
        "team.LEAVE_S = 1.0\n"
        "with together.followed(Path(sys.argv[1]), 3):\n"
        "    time.sleep(1000)\n"
    )
    folder = started(attempt, "waits")
    command = [sys.executable, "-c", program, str(folder)]
    for victim in (1, 0):
        for path in folder.glob("here-*"):
            path.unlink()
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        worker = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
        pids = [worker.pid, seen(folder, 1), seen(folder, 2)]
        os.kill(pids[victim], signal.SIGKILL)
        _, words = worker.communicate(timeout=30)
        if victim == 1:
            assert worker.returncode == 1
            assert words.splitlines()[-1] == "process 1 of 3 was ended by SIGKILL"
            assert attempt.result() == Result(state="lost", error=words.splitlines()[-1])
        deadline = time.monotonic() + 20
        while any(Path(f"/proc/{pid}").exists() for pid in pids[1:]) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not any(Path(f"/proc/{pid}").exists() for pid in pids[1:])


class Tasks:
    """A job's two tasks, as Slurm starts them."""

    def __init__(self, attempt) -> None:
        attempt.make_current()
        self.folder = attempt.folder
        program = (
            "import sys; from pathlib import Path; from harness.launch.config import SlurmLauncher\n"
            "from harness.launch.worker import Job\n"
            "print(Job(Path(sys.argv[1]), SlurmLauncher())())\n"
        )
        self.command = [sys.executable, "-c", program, str(attempt.folder)]
        self.tasks = [self.start(rank) for rank in (0, 1)]

    def start(self, rank: int) -> "subprocess.Popen[str]":
        numbers = {"SLURM_JOB_ID": 7, "SLURM_NTASKS": 2, "SLURM_PROCID": rank, "SLURM_LOCALID": rank}
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)} | {n: str(v) for n, v in numbers.items()}
        return subprocess.Popen(
            self.command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def said(self) -> list[str]:
        return [task.communicate(timeout=60)[0].strip() for task in self.tasks]


def test_tasks_of_a_slurm_job_follow_the_first(attempt) -> None:
    """Which has nothing for them where the attempt has ended before."""
    tasks = Tasks(started(attempt, "ends") and attempt)
    assert tasks.said() == ["done", "followed"]
    assert attempt.result().value == 2
    tasks = Tasks(attempt)
    assert tasks.said()[0] == "ended before"
    assert tasks.tasks[1].returncode == 0


@pytest.mark.parametrize("signals", [[signal.SIGTERM], []])
def test_a_task_that_dies_is_the_end_of_the_job_whatever_slurm_tells_the_others(attempt, signals) -> None:
    """It sends them SIGTERM, by which no preemption is meant then."""
    tasks = Tasks(started(attempt, "waits") and attempt)
    os.kill(seen(attempt.folder, 1), signal.SIGKILL)
    tasks.tasks[1].wait()
    if signals:
        time.sleep(0.2)
        tasks.tasks[0].send_signal(signals[0])
    else:
        (attempt.folder / "go").touch()
    assert tasks.said()[0] == "lost"
    assert attempt.result().error.startswith("process 1 of 2 on ")
    assert not (attempt.folder / "mistaken").exists()


def test_tasks_end_by_themselves_when_the_first_is_gone(attempt) -> None:
    """Where srun would let them go on."""
    tasks = Tasks(started(attempt, "waits") and attempt)
    seen(attempt.folder, 1)
    tasks.tasks[0].kill()
    tasks.said()
    assert tasks.tasks[1].returncode == 0


def test_the_module_is_the_one_that_followers_run() -> None:
    assert together.__name__ == together.MODULE
