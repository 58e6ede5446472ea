"""The processes of one job that work together on this machine: its worker, which holds the attempt's locks and writes
its result, and others that follow it.

    worker      with followed(ATTEMPT, size) as place: ...                   starts the others, and sees them end
    follower    python -m harness.launch.together ATTEMPT RANK SIZE PORT     the call's `follow(ATTEMPT, place)`

One that dies ends the work of all: the worker leaves with ProcessDied, which is a lost attempt and no failed one, or
where it hangs in what it waits for, it ends with the reason as its last words. Followers end when their worker does.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from submitit.core.utils import DelayedSubmission

from harness.launch.attempt import Attempt
from harness.launch.snapshot import python_command
from harness.launch.worker import AttemptStopped, ProcessDied
from harness.records.errors import UserError

MODULE = "harness.launch.together"
HOST = "127.0.0.1"
LEAVE_S = 15.0
"""How long a worker may take to notice that a follower died."""
END_S = 60.0
"""How long followers may take to end after their worker's work."""
CAUSE_S = 2.0
"""How long after an error here a follower's death may show that was its cause."""
LOOK_S = 0.5


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Of one process among those that work together; where they meet."""

    rank: int = 0  # 0 is the worker
    size: int = 1
    host: str = HOST
    port: int = 0


@contextlib.contextmanager
def followed(attempt_folder: Path, size: int) -> Iterator[Place]:
    """The worker's place, once `size` - 1 followers are started; they run the same call's `follow`.

    UserError where a follower met one; ProcessDied where one ended otherwise.
    """
    if size == 1:
        yield Place()
        return
    place = Place(size=size, port=_free_port())
    watch = _Watch(attempt_folder, [_start(attempt_folder, replace(place, rank=rank)) for rank in range(1, size)])
    try:
        yield place
        watch.wait(END_S)
    except AttemptStopped:
        watch.wait(END_S, quietly=True)  # they were asked to end too
        raise
    except BaseException as error:
        watch.look(wait_s=CAUSE_S)
        if watch.death is not None:
            raise watch.death from error
        raise
    finally:
        watch.end()


class _Watch:
    """Over the followers, by a thread: this process may be waiting for one that is dead."""

    def __init__(self, attempt_folder: Path, followers: "list[subprocess.Popen[bytes]]") -> None:
        self._folder, self._followers = attempt_folder, followers
        self._left = threading.Event()
        self.death: Exception | None = None
        threading.Thread(target=self._run, daemon=True).start()

    def look(self, wait_s: float = 0.0) -> None:
        """Whether one of them died, or does so within `wait_s`; the first one counts."""
        deadline = time.monotonic() + wait_s
        while self.death is None:
            for rank, process in enumerate(self._followers, start=1):
                if self.death is None and process.poll() not in (None, 0):
                    self.death = _death(self._folder, rank, len(self._followers) + 1, process.returncode)
            if time.monotonic() >= deadline:
                return
            time.sleep(0.05)

    def wait(self, seconds: float, *, quietly: bool = False) -> None:
        """Until all have ended; an error for one that did not, or died, unless `quietly`."""
        deadline = time.monotonic() + seconds
        for process in self._followers:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline - time.monotonic()))
        self.look()
        if self.death is not None and not quietly:
            raise self.death

    def end(self) -> None:
        self._left.set()
        for process in self._followers:
            if process.poll() is None:
                process.kill()
            process.wait()

    def _run(self) -> None:
        while not self._left.wait(LOOK_S):
            self.look()
            if self.death is not None:
                if not self._left.wait(LEAVE_S):
                    print(self.death, file=sys.stderr, flush=True)
                    os._exit(1)
                return


def _death(folder: Path, rank: int, size: int, code: int) -> Exception:
    said: dict[str, Any] = {}
    with contextlib.suppress(OSError, ValueError):
        said = json.loads((folder / f"process-{rank}.json").read_text())
    if said.get("user_error"):
        return UserError(said["error"])
    how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"failed: {said.get('error', f'exit {code}')}"
    return ProcessDied(f"process {rank} of {size} {how}")


def _start(attempt_folder: Path, place: Place) -> "subprocess.Popen[bytes]":
    attempt = Attempt(attempt_folder)
    (attempt.folder / f"process-{place.rank}.json").unlink(missing_ok=True)  # of an earlier run
    attempt.logs.mkdir(exist_ok=True)
    numbers = map(str, (place.rank, place.size, place.port))
    command = [*python_command(attempt.root), "-m", MODULE, str(attempt.folder), *numbers]
    with (attempt.logs / f"process-{place.rank}.log").open("ab") as log:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind((HOST, 0))
        port: int = free.getsockname()[1]
        return port


def main(folder: str, rank: str, size: str, port: str) -> int:
    """A follower's life; its exit status."""
    attempt, place = Attempt(Path(folder)), Place(rank=int(rank), size=int(size), port=int(port))
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    try:
        call: Any = DelayedSubmission.load(attempt.call).function
        call.follow(attempt.folder, place)
    except AttemptStopped:
        return 0
    except Exception as error:
        traceback.print_exc()
        is_users = isinstance(error, UserError)
        said = {"error": str(error) if is_users else f"{type(error).__name__}: {error}", "user_error": is_users}
        (attempt.folder / f"process-{place.rank}.json").write_text(json.dumps(said))
        return 1
    return 0


def _end_with(worker: int) -> None:
    """End this process once its worker has."""
    while os.getppid() == worker:
        time.sleep(LOOK_S)
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
