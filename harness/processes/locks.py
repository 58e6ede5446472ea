"""Locks that the operating system drops when their holder dies, however it dies.

`flock` belongs to the open file: no other process can hold it, kill -9 frees it, and children that are started
by exec do not inherit it. The file stays (removing it would let two processes lock two files of one name); what it
holds says who locked it last.
"""

import fcntl
import json
import os
import socket
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from harness.records.errors import UserError
from harness.records.plain import Plain
from harness.records.provenance import own_command
from harness.records.store import unwritable


class FileLock:
    """An exclusive lock on `path`, held from construction by `acquire` until `release` or death."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor: int | None = descriptor

    @classmethod
    def acquire(cls, path: Path, *, wait_s: float = 0.0, **owner: Any) -> "FileLock | None":
        """The lock, or None where another process holds it for all of `wait_s` seconds.

        `owner` is written into the file beside pid, host and time, for those who find it held.
        """
        deadline = time.monotonic() + wait_s
        descriptor = _open(path)
        while not _try_lock(descriptor, path) or not _is_at(descriptor, path):
            if not _is_at(descriptor, path):  # its folder went, with what was done in it: nobody else looks at this one
                os.close(descriptor)
                descriptor = _open(path)
                continue
            if time.monotonic() >= deadline:
                os.close(descriptor)
                return None
            time.sleep(0.02)
        lock = cls(path, descriptor)
        lock.sign(**owner)
        return lock

    def sign(self, **owner: Any) -> None:
        """Write who holds the lock. The first line is one write, and only then the rest of a longer one goes: a reader
        sees this holder or the one before, and so does one after a kill between the two."""
        assert self._descriptor is not None
        text = json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "time": time.time(), **owner})
        try:
            written = os.pwrite(self._descriptor, text.encode() + b"\n", 0)
            os.ftruncate(self._descriptor, written)
        except OSError as error:
            self.release()
            raise unwritable(self.path, error) from error

    @property
    def held(self) -> bool:
        return self._descriptor is not None

    def fileno(self) -> int:
        """To hand to a child, which then holds it too, also when this process dies first: `pass_fds`."""
        assert self._descriptor is not None
        return self._descriptor

    def release(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)  # closing the last descriptor drops the lock
            self._descriptor = None

    def __enter__(self) -> "FileLock":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


WAIT_S = 0.5  # between looks at a lock that another process holds


def waited_for(path: Path, what: str) -> FileLock:
    """The lock at `path`, once nobody else holds it; where that takes a while, one line says for whose `what`."""
    lock = FileLock.acquire(path, wait_s=WAIT_S)
    if lock is None:
        other = holder(path)
        where = f"process {other.get('pid')} on {other.get('host')}"
        print(f"waiting for {where}, which computes {what}", file=sys.stderr)
    while lock is None:
        lock = FileLock.acquire(path, wait_s=WAIT_S)
    return lock


DRIVER_LOCK = "driver.lock"


class DrivenError(UserError):
    """Another driver has the folder."""


def lock_driver(folder: Path, launcher: Plain = None) -> FileLock:
    """The lock of the one driver of `folder`; a UserError names the one that has it.

    `launcher`, as plain data, stays in the file: whoever finds jobs of a dead driver knows where they run. Who starts
    no jobs names none, and leaves what stands there.
    """
    path = folder / DRIVER_LOCK
    recorded = launcher or holder(path).get("launcher")
    lock = FileLock.acquire(path, wait_s=0.5, command=own_command(), launcher=recorded)
    if lock is not None:
        return lock
    raise _driven(folder)


def check_no_driver(folder: Path) -> None:
    """The same error where `folder` has a driver; takes no lock and writes nothing."""
    if is_held(folder / DRIVER_LOCK):
        raise _driven(folder)


def _driven(folder: Path) -> DrivenError:
    other = holder(folder / DRIVER_LOCK)
    return DrivenError(
        f"another driver (process {other.get('pid')} on {other.get('host')}) already works in {folder}; "
        "wait for it or stop it, then run the same command again"
    )


def is_held(path: Path) -> bool:
    """Whether a living process holds the lock at `path`.

    Probing shares the lock for microseconds: several may probe at once, and need only read the file; whoever wants the
    lock must be ready to wait a moment (`wait_s`).
    """
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        return not _try_lock(descriptor, path, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


def holder(path: Path) -> dict[str, Any]:
    """What the present or last holder wrote: pid, host, time and more; empty where nobody ever held it."""
    try:
        written = json.loads(path.read_text().partition("\n")[0])
    except (FileNotFoundError, ValueError):  # neither JSON nor text, after a power loss
        return {}
    return written if isinstance(written, dict) else {}


def _open(path: Path) -> int:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise unwritable(path, error) from error


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether that is the file that everybody opens under this name."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _try_lock(descriptor: int, path: Path, kind: int = fcntl.LOCK_EX) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise UserError(
            f"cannot lock {path}: {error.strerror}; choose an output folder on a file system with file locks"
        ) from error
    return True
