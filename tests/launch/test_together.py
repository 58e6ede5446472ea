"""Processes of one job that work together: a follower that dies ends the work of all, and ends with its worker."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from launch_jobs import Followed

from harness.launch import together
from harness.launch.attempt import new_attempt
from harness.launch.together import followed
from harness.launch.worker import AttemptStopped, ProcessDied, save_call
from harness.records.errors import UserError


@pytest.fixture
def attempt(tmp_path: Path):
    return new_attempt(tmp_path / "attempts" / "key")


def started(attempt, what: str):
    save_call(attempt, Followed(what))
    return attempt.folder


def seen(folder: Path, rank: int, seconds: float = 20.0) -> int:
    """The process of that rank, once it is at work."""
    deadline, path = time.monotonic() + seconds, folder / f"here-{rank}"
    while not path.exists():
        assert time.monotonic() < deadline, (folder / "logs" / f"process-{rank}.log").read_text()
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


@pytest.mark.slow
def test_a_worker_that_hangs_in_what_it_waits_for_ends_with_the_reason(attempt) -> None:
    """And followers end with a worker that is killed."""
    program = (
        "import sys, time; from pathlib import Path; from harness.launch import together\n"
        "together.LEAVE_S = 1.0\n"
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
        deadline = time.monotonic() + 20
        while any(Path(f"/proc/{pid}").exists() for pid in pids[1:]) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not any(Path(f"/proc/{pid}").exists() for pid in pids[1:])


def test_the_module_is_the_one_that_followers_run() -> None:
    assert together.__name__ == together.MODULE
