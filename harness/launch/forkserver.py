"""Workers that start at once: a process that has imported what jobs need, and forks for each.

    driver --socket--> fork server, imports done --fork--> keeper --fork--> worker: `worker.Job`

Importing torch and what a trial needs takes seconds, as long as many a small trial trains. A pool starts one fork
server, from its copy of the code, with the first job. Each job is still a process of its own in a session of its own,
with its own logs, locks and environment, which a signal, a lack of memory or a crash ends alone.

What makes the forks safe: the server computes nothing, so no OpenMP or autograd thread exists that a fork would lose,
and it never touches CUDA; Python's and NumPy's global random generators are seeded anew in each worker. On macOS a fork
after these imports is not safe (Apple's frameworks refuse it), so there every job starts a Python of its own.

The server ends when its driver does, killed or not. Keepers and workers go on, for the next driver to find. A keeper
holds its worker to the time limit: shortly before, the worker is told to save, and starts again.

    {"fork": N, "attempt": FOLDER, "imports": [...], "environment": {...}, "timeout_s": S}    driver to server
    {"end": N, "kill": false}
    {"forked": N, "pid": PID}    {"ended": N, "status": S}                                      server to driver
"""

import atexit
import contextlib
import gc
import importlib
import json
import os
import random
import selectors
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.launch.attempt import Attempt
from harness.launch.worker import TIME_LIMIT, Job

MODULE = "harness.launch.forkserver"
SAVE_S = 30.0  # before the time limit a worker is told to save; of a short limit, half


def main(arguments: list[str]) -> int:
    """`serve`, a driver's socket being standard input; or, for a job without a server, `keep` and `work`."""
    signal.pthread_sigmask(signal.SIG_SETMASK, [])  # the driver blocks signals while it starts a process
    match arguments:
        case ["serve"]:
            Server(socket.socket(fileno=0)).run()
            os._exit(0)  # torch takes its time to leave, and nothing is left to be done
        case ["keep", folder, timeout_s]:
            work = [*sys.orig_argv[:-3], "work", folder]
            return restart_until_done(lambda: subprocess.Popen(work).pid, float(timeout_s))
        case ["work", folder]:
            return run_attempt(Path(folder))
    raise ValueError(arguments)


class Server:
    """The server's life. Single-threaded; every fork leaves it with the child's number and process."""

    def __init__(self, driver: socket.socket) -> None:
        self._driver = driver
        self._unread = b""
        self._waiting: deque[dict[str, Any]] = deque()
        self._numbers: dict[int, int] = {}  # keeper's pid -> number
        self._child_ended, wakes = os.pipe()
        os.set_blocking(wakes, False)
        signal.set_wakeup_fd(wakes, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # without a handler the pipe stays silent
        self._selector = selectors.DefaultSelector()
        self._selector.register(driver, selectors.EVENT_READ)
        self._selector.register(self._child_ended, selectors.EVENT_READ)

    def run(self) -> None:
        """Until the driver is gone. Until the first fork SIGTERM ends it at once: nothing runs yet."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            while self._listen(wait=not self._waiting) or self._waiting:
                if self._waiting:
                    self._import(self._waiting[0]["imports"])
                    self._listen(wait=False)  # the driver may have thought better of it
                if self._waiting:
                    self._fork(self._waiting.popleft())

    def _listen(self, *, wait: bool) -> bool:
        """Take in what the driver says and which keepers ended; False once the driver is gone."""
        for key, _ in self._selector.select(None if wait else 0):
            if key.fileobj is not self._driver:
                os.read(self._child_ended, 1 << 16)
                self._reap()
                continue
            data = self._driver.recv(1 << 16)
            if not data:
                return False
            *lines, self._unread = (self._unread + data).split(b"\n")
            for line in lines:
                self._take(json.loads(line))
        return True

    def _reap(self) -> None:
        while self._numbers:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            self._send(ended=self._numbers.pop(pid), status=os.waitstatus_to_exitcode(status))

    def _take(self, message: dict[str, Any]) -> None:
        if "fork" in message:
            self._waiting.append(message)
            return
        for pid in [pid for pid, number in self._numbers.items() if number == message["end"]]:
            with contextlib.suppress(ProcessLookupError):  # it has yet to make its session; the driver asks again
                os.killpg(pid, signal.SIGKILL if message["kill"] else signal.SIGTERM)
        for request in [request for request in self._waiting if request["fork"] == message["end"]]:
            self._waiting.remove(request)
            self._send(ended=request["fork"], status=-signal.SIGTERM)

    def _import(self, modules: list[str]) -> None:
        for name in modules:
            if name not in sys.modules:
                with contextlib.suppress(Exception):  # the worker meets the same error, and reports it
                    importlib.import_module(name)
        gc.collect()
        gc.freeze()  # a collection in a worker does not touch, and so copy, what is shared

    def _fork(self, request: dict[str, Any]) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        pid = os.fork()
        if pid == 0:
            _exit_with(lambda: self._become_keeper(request))
        self._numbers[pid] = request["fork"]
        self._send(forked=request["fork"], pid=pid)

    def _send(self, **message: int) -> None:
        self._driver.sendall(json.dumps(message).encode() + b"\n")

    def _become_keeper(self, request: dict[str, Any]) -> int:
        """In the child: nothing of the server's stays but its memory."""
        attempt = Attempt(Path(request["attempt"]))
        os.setsid()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._selector.close()
        self._driver.close()
        for number, path in ((0, Path(os.devnull)), (1, attempt.logs / "job.out"), (2, attempt.logs / "job.err")):
            descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
            os.dup2(descriptor, number)
            if descriptor > 2:
                os.close(descriptor)
        os.environ.update(request["environment"])
        return restart_until_done(lambda: _fork_worker(attempt.folder), request["timeout_s"])


def restart_until_done(start: Callable[[], int], timeout_s: float) -> int:
    """Start a worker, hold it to the time limit, start it again where it saved at that; its last exit status."""
    while True:
        pid, deadline = start(), time.monotonic() + timeout_s
        status = _wait(pid, deadline - min(SAVE_S, timeout_s / 2))
        if status is None:
            os.kill(pid, signal.SIGUSR2)
            status = _wait(pid, deadline)
        if status is None:
            os.kill(pid, signal.SIGKILL)
            status = _wait(pid, float("inf"))
        assert status is not None
        if status != TIME_LIMIT:
            return status if status >= 0 else 128 - status


def _wait(pid: int, deadline: float) -> int | None:
    """The child's exit status, or None where it lives at the deadline."""
    pause_s = 0.01
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        seconds_left = deadline - time.monotonic()
        if seconds_left <= 0:
            return None
        time.sleep(min(seconds_left, pause_s))
        pause_s = min(2 * pause_s, 0.25)


def _fork_worker(folder: Path) -> int:
    pid = os.fork()
    if pid == 0:
        random.seed()
        if "numpy" in sys.modules:
            sys.modules["numpy"].random.seed()
        _exit_with(lambda: run_attempt(folder))
    return pid


def run_attempt(folder: Path) -> int:
    """The exit status of a worker: it has run its attempt, or was told of the time limit and saved."""
    return TIME_LIMIT if Job(folder, owns_process=True)() == "requeued" else 0


def _exit_with(run: Callable[[], int]) -> None:
    """End this forked process with that status; it never returns into the server's code."""
    status = 1
    try:
        status = run()
        atexit._run_exitfuncs()
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
