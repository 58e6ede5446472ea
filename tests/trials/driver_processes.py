"""Drivers in processes of their own that begin at once: each is forked from one process that has imported what they
need, which takes a Python six seconds of a core.

    driver = start("ablate", "tiny")    # as a `subprocess.Popen` of `harness ablate tiny`, in this working directory

As the product's own fork server, that process computes nothing, so a fork loses no thread.
"""

import atexit
import functools
import gc
import importlib
import json
import os
import random
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO, Any

IMPORTS = (
    "torch._dynamo",
    "pandas",
    "plotly.graph_objects",
    "harness.commands.report",
    "harness.search.driver",
    "harness.trials.ablation",
)
LOOK_EVERY_S = 0.05  # whether a driver has ended
MOST = 1 << 17  # bytes of a request


def start(*words: str) -> "Driver":
    """`harness WORDS`, which says what it says to files that `communicate` reads."""
    return start_call("harness.cli", [list(words)], tempfile.TemporaryFile(), tempfile.TemporaryFile())


def start_call(module: str, arguments: list[Any], out: IO[bytes], err: IO[bytes], **more: Any) -> "Driver":
    """`MODULE.main(*arguments)` as a process's whole life. more: `cwd`, `path` (folders to import from) and, beside
    this process's, `environment`."""
    request = {
        "module": module,
        "arguments": arguments,
        "cwd": str(more.get("cwd", Path.cwd())),
        "path": [str(folder) for folder in more.get("path", ())],
        "environment": {**os.environ, **more.get("environment", {})},
    }
    return Driver(server(), request, out, err)


class Driver:
    """What `subprocess.Popen` has of a process."""

    def __init__(self, server: "Server", request: dict[str, Any], out: IO[bytes], err: IO[bytes]) -> None:
        self._server, self._said = server, (out, err)
        self.pid = server.fork(request, [out.fileno(), err.fileno()])
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = self._server.code_of(self.pid)
        return self.returncode

    def wait(self, timeout: float = 3600.0) -> int:
        deadline = time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(str(self.pid), timeout)
            time.sleep(LOOK_EVERY_S)
        return code

    def communicate(self, timeout: float = 3600.0) -> tuple[str, str]:
        self.wait(timeout)
        for file in self._said:
            file.seek(0)
        out, err = (file.read().decode() for file in self._said)
        return out, err

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


@functools.cache
def server() -> "Server":
    return Server()


class Server:
    """The process that forks, seen from a test."""

    def __init__(self) -> None:
        self._socket, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        process = subprocess.Popen([sys.executable, __file__, str(its.fileno())], pass_fds=[its.fileno()])
        its.close()
        self._codes: dict[int, int] = {}
        atexit.register(lambda: (self._socket.close(), process.wait()))

    def fork(self, request: dict[str, Any], files: list[int]) -> int:
        socket.send_fds(self._socket, [json.dumps(request).encode()], files)
        while "forked" not in (told := self._listen()):
            pass
        return told["forked"]

    def code_of(self, pid: int) -> int | None:
        while select.select([self._socket], [], [], 0)[0]:
            self._listen()
        return self._codes.get(pid)

    def _listen(self) -> dict[str, int]:
        message = self._socket.recv(MOST)
        assert message, "the process that forks drivers has ended"
        told: dict[str, int] = json.loads(message)
        if "ended" in told:
            self._codes[told["ended"]] = told["code"]
        return told


def serve(tests: socket.socket) -> None:
    """Until the tests are over."""
    for name in IMPORTS:
        importlib.import_module(name)
    gc.freeze()
    running: set[int] = set()
    while True:
        if select.select([tests], [], [], LOOK_EVERY_S)[0]:
            message, files, _, _ = socket.recv_fds(tests, MOST, 2)
            if not message:
                return
            if (pid := os.fork()) == 0:
                tests.close()
                live(json.loads(message), files)
            running.add(pid)
            tests.send(json.dumps({"forked": pid}).encode())
            for file in files:
                os.close(file)
        while running and (ended := os.waitpid(-1, os.WNOHANG))[0]:
            running.remove(ended[0])
            tests.send(json.dumps({"ended": ended[0], "code": os.waitstatus_to_exitcode(ended[1])}).encode())


def live(request: dict[str, Any], files: list[int]) -> None:
    """A driver's life."""
    code: Any = 1
    try:
        for number, file in enumerate([os.open(os.devnull, os.O_RDONLY), *files]):
            os.dup2(file, number)
        os.chdir(request["cwd"])
        os.environ.clear()
        os.environ.update(request["environment"])
        sys.path[:0] = request["path"]
        random.seed()
        code = importlib.import_module(request["module"]).main(*request["arguments"])
    except SystemExit as end:
        code = end.code
    finally:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
