"""A request that the driver of a folder end, made by another process, perhaps on another host.

    FOLDER/stop        asked, and not heard yet
    FOLDER/stopping    heard: the driver renames the file, so whoever asked can tell

`finish`: nothing more is started, what runs is waited for. `cancel`: what runs is asked to end, and saves first. An
empty file asks to finish, so `touch` will do. Nothing is lost either way: the same command goes on where this driver
ended. Both files go when a driver ends and when another begins, so a request is for one driver only.
"""

import contextlib
import getpass
import json
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Literal, TypeAlias

from harness.records.errors import UserError
from harness.records.manifest import study_command
from harness.records.store import write_atomic

Mode: TypeAlias = Literal["finish", "cancel"]


class DriverStopped(KeyboardInterrupt):
    """The driver was asked to end. A Ctrl-C from elsewhere: whoever cleans up after the one does so after the other."""


class DriverTerminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP reached the driver: it ends, and what it started goes on."""

    def __init__(self, number: int, study: Path, jobs: int) -> None:
        self.status = 128 + number  # what a shell reports of a program that the signal ended
        going_on = "1 job goes on by itself" if jobs == 1 else f"{jobs} jobs go on by themselves"
        stop = study_command("stop", study, "--cancel")
        more = f"{going_on}; {stop} has what runs save and end" if jobs else "nothing was running"
        super().__init__(f"ended by {signal.Signals(number).name}; {more}")


class Termination:
    """The handler of SIGTERM and SIGHUP. The first one ends the driver; what comes while it ends changes nothing."""

    def __init__(self, study: Path, jobs: Callable[[], int]) -> None:
        self.heard = False
        """Also where another error has taken the place of DriverTerminated, as when the terminal is gone."""
        self.driver_ends = False
        self._study, self._jobs = study, jobs

    def __call__(self, number: int, _frame: FrameType | None) -> None:
        if not self.driver_ends:
            self.heard = self.driver_ends = True
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            raise DriverTerminated(number, self._study, self._jobs())


@contextlib.contextmanager
def terminating(study: Path, jobs: Callable[[], int]) -> Iterator[Termination]:
    """Inside, SIGTERM and SIGHUP raise DriverTerminated, unless somebody listens already or ignores them (`nohup`).

    `study` is its folder; `jobs` says how many run.
    """
    before, termination = {}, Termination(study, jobs)
    if threading.current_thread() is threading.main_thread():
        ours = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) is signal.SIG_DFL]
        before = {number: signal.getsignal(number) for number in (*ours, signal.SIGINT)}
        for number in ours:
            signal.signal(number, termination)
    try:
        yield termination
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Inside, signals that end a driver wait: what is started is known before they are heard."""
    waiting = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM, signal.SIGHUP))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, waiting)


@dataclass(frozen=True, kw_only=True, slots=True)
class StopRequest:
    mode: Mode
    by: str = ""  # `alice on login1`
    time: float = 0.0  # Unix seconds

    @property
    def ending(self) -> str:
        """Why the driver ended."""
        if self.mode == "cancel":
            return "stopped as `harness stop --cancel` asked, what ran was asked to end"
        return "stopped as `harness stop` asked, what ran has ended"


def request_stop(folder: Path, mode: Mode) -> None:
    """Ask the driver of this folder to end; a later request takes the place of one that nobody heard."""
    plain = {"mode": mode, "by": f"{_user()} on {socket.gethostname()}", "time": time.time()}
    write_atomic(folder / "stop", json.dumps(plain).encode())


def accept_stop_request(folder: Path) -> StopRequest | None:
    """The driver's look: a request that is new to it, which counts as heard from now on."""
    try:
        (folder / "stop").replace(folder / "stopping")
    except FileNotFoundError:
        return None
    return accepted_stop_request(folder)


def is_stop_requested(folder: Path) -> bool:
    """Whether a request waits to be heard."""
    return (folder / "stop").exists()


def accepted_stop_request(folder: Path) -> StopRequest | None:
    """The request that the driver follows."""
    try:
        text = (folder / "stopping").read_text()
    except FileNotFoundError:
        return None
    try:
        plain: dict[str, Any] = json.loads(text) if text.strip() else {"mode": "finish"}
        return StopRequest(**plain)
    except (ValueError, TypeError) as error:
        raise UserError(
            f"{folder / 'stop'} held '{text.strip()[:40]}', which is no request to stop; leave that to `harness stop`, "
            "and run the same command again"
        ) from error


def clear_stop_request(folder: Path) -> None:
    """No request is left; only a driver calls it, for itself."""
    for name in ("stop", "stopping"):
        (folder / name).unlink(missing_ok=True)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may know no name for its user
        return "somebody"
