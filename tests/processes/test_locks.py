"""A lock is held exactly as long as its holder lives; a lease as long as it moves."""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from harness.launch.attempt import Attempt, new_attempt
from harness.launch.worker import heartbeat_of
from harness.processes import locks
from harness.processes.lease import LeaseWatch
from harness.processes.locks import DRIVER_LOCK, FileLock, holder, is_held, lock_driver, waited_for
from harness.records.errors import UserError

HOLD = "import sys, time; from pathlib import Path; from harness.processes.locks import FileLock\n"
HOLD += "lock = FileLock.acquire(Path(sys.argv[1])); print('held', flush=True); time.sleep(60)"


def test_a_lock_is_exclusive_and_names_its_holder(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "lock"
    assert not is_held(path)
    lock = FileLock.acquire(path, purpose="test")
    assert lock is not None
    assert is_held(path)
    assert FileLock.acquire(path) is None
    assert (holder(path)["pid"], holder(path)["purpose"]) == (os.getpid(), "test")
    lock.release()
    assert not is_held(path)
    assert holder(path)["pid"] == os.getpid(), "who held it last stays readable"


def test_a_drivers_lock_keeps_its_command_as_a_shell_takes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["harness", "sweep", "laptop", "seeds=[0]", "out=a b"]
    monkeypatch.setattr(sys, "argv", words)
    with lock_driver(tmp_path):
        assert shlex.split(holder(tmp_path / DRIVER_LOCK)["command"]) == words


@pytest.mark.parametrize("torn", [b"", b'{"pid": 1, "comm', b'{"command": "caf\xc3', bytes(60), b"[1]\n"])
def test_a_lock_file_that_a_power_loss_tore_names_nobody_and_can_be_taken(tmp_path: Path, torn: bytes) -> None:
    path = tmp_path / DRIVER_LOCK
    path.write_bytes(torn)
    assert holder(path) == {}
    assert not is_held(path)
    with lock_driver(tmp_path, {"kind": "debug"}):
        assert holder(path)["pid"] == os.getpid()


def test_a_holder_that_dies_while_it_signs_hides_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before its line or after it: what a later driver must know of where jobs run is never lost."""
    path = tmp_path / DRIVER_LOCK
    FileLock.acquire(path, command="x" * 500, launcher={"kind": "slurm"}).release()
    for name in ("pwrite", "ftruncate"):
        with monkeypatch.context() as patch:
            patch.setattr(f"harness.processes.locks.os.{name}", death)
            with pytest.raises(KeyboardInterrupt):
                lock_driver(tmp_path)
        assert holder(path)["launcher"] == {"kind": "slurm"}
    with lock_driver(tmp_path):
        assert len(path.read_text().splitlines()) == 1


def death(descriptor: int, *_arguments: object) -> int:
    """As the kernel does it."""
    os.close(descriptor)
    raise KeyboardInterrupt


def test_kill_minus_9_frees_a_lock(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    assert is_held(path)
    assert holder(path)["pid"] == process.pid
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert not is_held(path)


def test_processes_started_meanwhile_do_not_keep_it(tmp_path: Path) -> None:
    lock = FileLock.acquire(tmp_path / "lock")
    assert lock is not None
    child = subprocess.Popen(["sleep", "20"])
    lock.release()
    assert not is_held(tmp_path / "lock")
    child.kill()
    child.wait()


def test_who_waits_gets_a_lock_that_was_only_probed(tmp_path: Path) -> None:
    lock = FileLock.acquire(tmp_path / "lock")
    assert lock is not None
    before = time.monotonic()
    assert FileLock.acquire(tmp_path / "lock", wait_s=0.2) is None
    assert time.monotonic() - before >= 0.2
    lock.release()
    assert FileLock.acquire(tmp_path / "lock", wait_s=0.2) is not None


def test_a_lock_whose_folder_went_is_not_the_one_that_the_next_takes(tmp_path: Path) -> None:
    """Who waited for it would else share the name with whoever makes the folder anew."""
    path = tmp_path / "work" / "lock"
    held, got = FileLock.acquire(path), list[FileLock | None]()
    assert held is not None
    waiting = threading.Thread(target=lambda: got.append(FileLock.acquire(path, wait_s=10)))
    waiting.start()
    time.sleep(0.1)
    shutil.rmtree(path.parent)
    held.release()
    waiting.join()
    assert got[0] is not None
    assert is_held(path)
    assert FileLock.acquire(path) is None
    got[0].release()


def test_who_waits_long_says_for_whom_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(locks, "WAIT_S", 0.05)
    held = FileLock.acquire(tmp_path / "lock")
    assert held is not None
    threading.Timer(0.3, held.release).start()
    with waited_for(tmp_path / "lock", "features"):
        assert is_held(tmp_path / "lock")
    assert capsys.readouterr().err.count(f"waiting for process {os.getpid()} on ") == 1
    with waited_for(tmp_path / "lock", "features"):
        assert capsys.readouterr().err == ""


def test_a_lock_in_no_folder_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot write .*file/lock"):
        FileLock.acquire(tmp_path / "file" / "lock")


def attempt(folder: Path) -> Attempt:
    new = new_attempt(folder / "key")
    new.make_current()
    return new


def test_a_lease_is_fresh_while_it_moves(tmp_path: Path) -> None:
    watched = attempt(tmp_path)
    watch = LeaseWatch(watched.lease, timeout_s=0.3)
    assert not watch.is_fresh(), "no lease, no life"
    with heartbeat_of(watched, every_s=0.05):
        time.sleep(0.1)
        for _ in range(10):
            assert watch.is_fresh()
            time.sleep(0.05)
    assert not watch.is_fresh(), "given back"
    watched.lease.write_text("dead 1")
    assert watch.is_fresh(), "within the time-out the last beat still counts"
    time.sleep(0.4)
    assert not watch.is_fresh()


def test_a_worker_that_was_replaced_is_told_by_its_own_heartbeat(tmp_path: Path) -> None:
    signals: list[int] = []
    previous = signal.signal(signal.SIGUSR1, lambda number, _frame: signals.append(number))
    try:
        replaced = attempt(tmp_path)
        attempt(tmp_path)  # the second attempt is current now
        with heartbeat_of(replaced, every_s=10.0):
            deadline = time.monotonic() + 5
            while not signals and time.monotonic() < deadline:
                time.sleep(0.01)
    finally:
        signal.signal(signal.SIGUSR1, previous)
    assert signals
