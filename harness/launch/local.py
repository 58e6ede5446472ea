"""Jobs on this machine, each a process in a session of its own, so that only the driver hears Ctrl-C, and decides.

They are forked from a process that has imported what they need (`forkserver`), or, where that is not safe or not
wanted, each start a Python of their own. Locks, logs, signals, time limits and results are the same.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any, Protocol

from harness.launch.attempt import Attempt
from harness.launch.config import LocalLauncher, thread_variables
from harness.launch.endings import Ending
from harness.launch.snapshot import python_command
from harness.launch.worker import Call
from harness.processes.locks import holder, is_held

FORKSERVER = "harness.launch.forkserver"
ONE_THREAD = {"JE_ARROW_MALLOC_CONF": "background_thread:false"}
"""Of a process that forks: where pyarrow is installed pandas loads it, and its allocator would start a thread."""
CLOSE_S = 2.0  # for which the end of an idle server is waited for


class LocalWorkers:
    """Starts the jobs of one pool, whose folder is `root`."""

    def __init__(self, root: Path, launcher: LocalLauncher) -> None:
        self._root, self._launcher = root, launcher
        self._server: ForkServer | None = None

    def start(self, attempt: Attempt, call: Call, slot: int) -> "LocalProcess":
        attempt.logs.mkdir(exist_ok=True)
        environment = self._devices(slot)
        if not self._launcher.forks:
            return LocalProcess(attempt, self._start_cold(attempt, environment))
        if self._server is None or not self._server.lives:
            self._server = ForkServer(self._root, os.environ | thread_variables(self._launcher) | ONE_THREAD)
        return LocalProcess(attempt, self._server.fork(attempt, call, environment, 60 * self._launcher.timeout_min))

    def close(self) -> None:
        """Jobs go on."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def _devices(self, slot: int) -> dict[str, str]:
        """CUDA_VISIBLE_DEVICES is left alone where no devices are dealt out."""
        devices = self._launcher.cuda_devices
        if devices is None:
            return {}
        count = self._launcher.processes
        dealt = [devices[(slot * count + number) % len(devices)] for number in range(count)] if devices else []
        return {"CUDA_VISIBLE_DEVICES": ",".join(map(str, dealt))}

    def _start_cold(self, attempt: Attempt, environment: dict[str, str]) -> "ColdProcess":
        limit = str(60 * self._launcher.timeout_min)
        command = [*python_command(self._root), "-m", FORKSERVER, "keep", str(attempt.folder), limit]
        with (attempt.logs / "job.out").open("ab") as out, (attempt.logs / "job.err").open("ab") as err:
            return ColdProcess(
                subprocess.Popen(
                    command,
                    env=os.environ | thread_variables(self._launcher) | environment,
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=err,
                    start_new_session=True,
                )
            )


class Process(Protocol):
    """What the driver knows of a job's keeper."""

    @property
    def name(self) -> str:
        """For people, and for the driver after this one."""

    def status(self) -> int | None:
        """The exit status, below 0 for a signal, or None while it runs or is about to."""

    def end(self, *, kill: bool) -> None: ...


class ColdProcess:
    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process
        self.name = str(process.pid)

    def status(self) -> int | None:
        return self._process.poll()

    def end(self, *, kill: bool) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL if kill else signal.SIGTERM)


class ForkServer:
    """The driver's end of a fork server, which lives until it is closed or this process ends."""

    def __init__(self, root: Path, environment: dict[str, str]) -> None:
        self._socket, theirs = socket.socketpair()
        command = [*python_command(root), "-m", FORKSERVER, "serve"]
        with theirs, (root / "forkserver.log").open("ab") as log:
            self._process = subprocess.Popen(
                command, env=environment, stdin=theirs.fileno(), stdout=log, stderr=log, start_new_session=True
            )
        self._unread = b""
        self._count = 0
        self.pids: dict[int, int] = {}  # number -> keeper
        self.statuses: dict[int, int] = {}  # number -> how it ended

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def lives(self) -> bool:
        return self._process.poll() is None

    def fork(self, attempt: Attempt, call: Call, environment: dict[str, str], timeout_s: float) -> "ForkedProcess":
        """Returns at once; the server may still be importing."""
        self._count += 1
        self._send(
            fork=self._count,
            attempt=str(attempt.folder),
            imports=modules_of(call),
            environment=environment,
            timeout_s=timeout_s,
        )
        return ForkedProcess(self, self._count)

    def end(self, number: int, *, kill: bool) -> None:
        self.listen()
        self._send(end=number, kill=kill)
        if not self.pids:
            self._process.terminate()  # effective until its first fork: whoever asks need not wait for its imports
        if not self.lives and number in self.pids:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pids[number], signal.SIGKILL if kill else signal.SIGTERM)

    def listen(self) -> None:
        """Take in what it said."""
        with contextlib.suppress(BlockingIOError, ConnectionError, OSError):
            while data := self._socket.recv(1 << 16, socket.MSG_DONTWAIT):
                *lines, self._unread = (self._unread + data).split(b"\n")
                for message in map(json.loads, lines):
                    if "forked" in message:
                        self.pids[message["forked"]] = message["pid"]
                    else:
                        self.statuses[message["ended"]] = message["status"]

    def close(self) -> None:
        """It ends once it has forked what it was asked to."""
        self._socket.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(CLOSE_S)

    def _send(self, **message: Any) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it is dead, which shows in `lives`
            self._socket.sendall(json.dumps(message).encode() + b"\n")


class ForkedProcess:
    def __init__(self, server: ForkServer, number: int) -> None:
        self._server, self._number = server, number
        self.name = f"{server.pid}.{number}"

    def status(self) -> int | None:
        self._server.listen()
        if (status := self._server.statuses.get(self._number)) is not None or self._server.lives:
            return status
        self._server.listen()  # its last words
        pid = self._server.pids.get(self._number)
        if pid is not None and _exists(pid):
            return None
        return self._server.statuses.get(self._number, -signal.SIGKILL)

    def end(self, *, kill: bool) -> None:
        self._server.end(self._number, kill=kill)


class LocalProcess:
    """A job that this driver started."""

    def __init__(self, attempt: Attempt, process: Process) -> None:
        self._attempt, self._process = attempt, process
        self.job_id: str | None = process.name

    def may_live(self) -> bool:
        return self._process.status() is None

    def state(self) -> str:
        status = self._process.status()
        if status is None:
            return "running"
        number = -status if status < 0 else status - 128
        return f"ended by {signal.Signals(number).name}" if 0 < number < signal.NSIG else f"ended with status {status}"

    def ending(self) -> Ending:
        return Ending(policy="lost", why=self.state())

    def stop(self, *, kill: bool = False) -> None:
        """The worker gets the signal, and its keeper ends with it; before there is a worker, both get it."""
        if stop_worker(self._attempt, kill=kill) and not kill:
            return
        if self.may_live():
            self._process.end(kill=kill)


class Orphan:
    """A job on this machine whose driver died: its lock tells all, once it has taken it."""

    def __init__(self, attempt: Attempt, grace_s: float) -> None:
        self._attempt, self._grace_s = attempt, grace_s
        self.job_id = attempt.job_id

    def may_live(self) -> bool:
        """Only while it may still be starting. The clock is that of the file, which is this machine's."""
        since = time.time() - float(self._attempt.submitted().get("time", 0.0))
        return not self._attempt.started and 0 <= since < self._grace_s

    def state(self) -> str:
        return "left behind by an earlier driver"

    def ending(self) -> Ending:
        return Ending(policy="lost", why=self.state())

    def stop(self, *, kill: bool = False) -> None:
        stop_worker(self._attempt, kill=kill)


def stop_worker(attempt: Attempt, *, kill: bool) -> bool:
    """Signal the worker that holds the attempt's lock; whether there was one. The lock proves the pid is its own."""
    if not is_held(attempt.lock):
        return False
    pid = int(holder(attempt.lock).get("pid", 0))
    if pid in (0, os.getpid()):
        return False
    with contextlib.suppress(ProcessLookupError):
        if kill:
            os.killpg(os.getpgid(pid), signal.SIGKILL)  # its loaders too: the session is the job's own
        else:
            os.kill(pid, signal.SIGTERM)
    return True


def modules_of(call: Call) -> list[str]:
    """What a job will import: the module that defines its callable, and those that `call.imports` names."""
    function = call
    while (inner := getattr(function, "func", None)) is not None:  # functools.partial
        function = inner
    module = getattr(function, "__module__", None) or type(function).__module__
    named = getattr(function, "imports", ())
    return [name for name in (module, *named) if name != "__main__"]


def _exists(pid: int) -> bool:
    """Whether a process runs. In a container the driver may be PID 1, which inherits the dead and must reap them."""
    with contextlib.suppress(ChildProcessError):
        if os.waitpid(pid, os.WNOHANG)[0] == pid:
            return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
