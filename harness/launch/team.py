"""The processes that work together on one training: one leads, the others follow it until it is gone.

    leader      with Team(SIZE) as team: ...        listens at `team.meeting`, and says what is to be shared
    follower    follow(MEETING, rank=1, local=1)    connects, and calls the attempt's `call.follow(FOLDER, PLACE)`

    {"word": "...", "rank": 1, "host": "node7"}                      follower, once
    {"task": 1, "attempt": FOLDER, "host": H, "port": P, "size": 3}  leader: where those that share this one meet
    {"task": 1} or {"task": 1, "error": "...", "kind": "own"}        follower, when its share has ended

Lines of JSON over one connection each, which the operating system closes when a process dies, on whatever node: so
both sides know within a moment. Whoever dies ends the work of all. Why it does, in this order: a mistake of the user's
that a follower met; one that is gone without a word; an error that one met; one that it met in what another left.
"""

import contextlib
import json
import os
import queue
import secrets
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias

from submitit.core.utils import DelayedSubmission

from harness.launch.attempt import Attempt, AttemptStopped, ProcessDied, result_of
from harness.records.errors import UserError

LOOPBACK = "127.0.0.1"
JOIN_S = 600.0
"""How long a follower may take to come, once its share waits for it: Python and torch load from a busy file system."""
LEAVE_S = 15.0
"""How long a leader may take to notice that a follower died."""
END_S = 60.0
"""How long followers may take to end their shares after the leader's."""
CAUSE_S = 2.0
"""How long after an error here the death of a follower may show that was its cause."""
LOOK_S = 0.5

Kind: TypeAlias = Literal["user", "gone", "own", "consequence"]
KINDS: tuple[Kind, ...] = ("user", "gone", "own", "consequence")
"""Why a follower ended, the likeliest cause of the others' ends first."""
SURE: tuple[Kind, ...] = ("user", "gone")


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Of one process among those that work together; where they meet."""

    rank: int = 0  # 0 leads
    size: int = 1
    local: int = 0  # among those on its node: it has the GPU of that number
    host: str = LOOPBACK
    port: int = 0
    listener: socket.socket | None = None  # the leader's, at that port


@dataclass(frozen=True, kw_only=True, slots=True)
class Meeting:
    """Where a leader listens, and a word that strangers do not know."""

    host: str
    port: int
    word: str


@dataclass(frozen=True, slots=True)
class _End:
    rank: int
    kind: Kind
    how: str  # "failed: ..."


class Team:
    """The leader's side: `share`, then `wait` or `cause`, then `dismiss`, as often as there are trainings.

    `knows_ends`: somebody else knows how followers end and says it (`gone`), so that a closed connection is none.
    """

    def __init__(self, size: int, host: str = LOOPBACK, *, knows_ends: bool = False) -> None:
        self.size, self._knows_ends = size, knows_ends
        self._server = _server(host, size)
        self._listener: socket.socket | None = None
        self.meeting = Meeting(host=host, port=self._server.getsockname()[1], word=secrets.token_hex(16))
        self._news = threading.Condition()
        self._connections: dict[int, _Connection] = {}  # by rank
        self._busy: set[int] = set()
        self._ends: list[_End] = []
        self._task: dict[str, Any] = {"task": 0}
        self._at_work = self._closed = False
        threading.Thread(target=self._accept, name="team", daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Followers end by this."""
        with self._news:
            self._closed, self._at_work = True, False
            _close(self._server)
            for connection in self._connections.values():
                connection.close()

    # a training

    def share(self, attempt: Attempt) -> Place:
        """Have all followers share the attempt's training, those that are yet to come too; the leader's own place.
        Errors: ProcessDied where one is gone, or still at an earlier training."""
        if not self._until(lambda: not self._busy or bool(self._ends), END_S) or self._ends:
            raise self.cause() or ProcessDied(f"process {min(self._busy)} of {self.size} does not end its last share")
        self._listener = listener = _server(self.meeting.host, self.size)
        port = listener.getsockname()[1]
        place = Place(size=self.size, host=self.meeting.host, port=port, listener=listener)
        with self._news:
            number = self._task["task"] + 1
            where = {"host": place.host, "port": place.port, "size": self.size}
            self._task = {"task": number, "attempt": str(attempt.folder), **where}
            self._at_work, self._busy = True, set(range(1, self.size))
            for connection in self._connections.values():
                connection.say(self._task)
        threading.Thread(target=self._watch, args=(number, attempt), name="team-watch", daemon=True).start()
        return place

    def wait(self, seconds: float) -> None:
        """Until all followers have ended their shares. Errors: why one did not."""
        self._until(lambda: not self._busy or bool(self._ends), seconds)
        if (cause := self.cause()) is not None:
            raise cause
        if self._busy:
            raise ProcessDied(f"process {min(self._busy)} of {self.size} does not end, {seconds:g} s after the others")

    def dismiss(self, wait_s: float = 0.0) -> None:
        """The training is over, whatever becomes of the followers' shares; they may take `wait_s` to end them."""
        with self._news:
            self._at_work = False
        if self._listener is not None:
            self._listener.close()  # where nobody took it
        self._until(lambda: not self._busy, wait_s)
        with self._news:
            self._ends = [end for end in self._ends if end.kind == "gone"]  # others serve again

    def cause(self, wait_s: float = 0.0) -> Exception | None:
        """Why the work ended, as far as it is a follower's end: one that is sure, or after `wait_s` the likeliest."""
        self._until(lambda: any(end.kind in SURE for end in self._ends), wait_s)
        with self._news:
            if not self._ends:
                return None
            end = min(self._ends, key=lambda each: KINDS.index(each.kind))
        if end.kind == "user":
            return UserError(end.how)
        return ProcessDied(f"process {end.rank} of {self.size} {end.how}")

    def gone(self, rank: int, how: str) -> None:
        """It has ended: "was ended by SIGKILL"."""
        with self._news:
            if not self._closed:
                self._ends.append(_End(rank, "gone", how))
                self._news.notify_all()

    # how

    def _until(self, true: Callable[[], bool], seconds: float) -> bool:
        with self._news:
            return self._news.wait_for(true, seconds)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                connection, _ = self._server.accept()
                threading.Thread(target=self._listen, args=(connection,), name="team-member", daemon=True).start()

    def _listen(self, accepted: socket.socket) -> None:
        connection = _Connection(accepted)
        messages = iter(connection)
        try:
            member = next(messages, {})
            rank, host = int(member["rank"]), str(member["host"])
            is_member = secrets.compare_digest(member["word"], self.meeting.word)
        except (ValueError, KeyError, TypeError):
            is_member = False
        if is_member:
            self._join(rank, connection)
            how = "ended without a word, as from kill -9 or a lack of memory"
            try:
                for said in messages:
                    self._hear(rank, said)
            except (ValueError, KeyError, TypeError) as error:
                how = f"said what process 0 does not understand ({type(error).__name__}: {error})"
            if not self._knows_ends:
                self.gone(rank, f"on {host} {how}")
        connection.close()

    def _join(self, rank: int, connection: "_Connection") -> None:
        with self._news:
            self._connections[rank] = connection
            if self._at_work:
                connection.say(self._task)

    def _hear(self, rank: int, said: dict[str, Any]) -> None:
        with self._news:
            if said["task"] == self._task["task"]:
                self._busy.discard(rank)
                if "error" in said and self._at_work:
                    how = said["error"] if said["kind"] == "user" else f"failed: {said['error']}"
                    self._ends.append(_End(rank, said["kind"], how))
            self._news.notify_all()

    def _watch(self, task: int, attempt: Attempt) -> None:
        """While the task lasts. The leader may wait for one that died or failed, in code that nothing interrupts: then
        this process ends, with the result that it would have by an error."""
        deadline = time.monotonic() + JOIN_S
        while not self._has_left(task, LOOK_S):
            missing = set(range(1, self.size)) - self._connections.keys()
            if missing and time.monotonic() > deadline:
                self.gone(min(missing), f"did not come within {JOIN_S:g} s")
            if self._ends:
                if not self._has_left(task, LEAVE_S) and (cause := self.cause()) is not None:
                    print(cause, file=sys.stderr, flush=True)
                    with contextlib.suppress(Exception):
                        attempt.write_result(result_of(cause))
                    os._exit(1)
                return

    def _has_left(self, task: int, wait_s: float) -> bool:
        return self._until(lambda: not self._at_work or self._task["task"] != task, wait_s)


# a follower


def follow(meeting: Meeting, *, rank: int, local: int, only: Path | None = None) -> None:
    """A follower's life, in its main thread. It hears no signals: the leader does, and in training all agree with it.
    `only`: the one attempt whose call it runs, where it knows that by itself; whoever answers in a dead leader's place
    names none. Errors: ConnectionRefusedError where the leader is gone."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    connection = _Connection(socket.create_connection((meeting.host, meeting.port), timeout=60))
    connection.say({"word": meeting.word, "rank": rank, "host": socket.gethostname()})
    tasks: queue.Queue[dict[str, Any] | None] = queue.Queue()
    is_busy = threading.Event()
    threading.Thread(target=_hear_tasks, args=(connection, tasks, is_busy), daemon=True).start()
    while (task := tasks.get()) is not None:
        said = {"task": task["task"], **_share(task, rank, local, only)}
        is_busy.clear()
        connection.say(said)


def _hear_tasks(
    connection: "_Connection", tasks: "queue.Queue[dict[str, Any] | None]", is_busy: threading.Event
) -> None:
    """Until the leader is gone; then a share that is being worked at ends with this process."""
    for task in connection:
        is_busy.set()
        tasks.put(task)
    tasks.put(None)
    if is_busy.is_set():
        print("the process that led this one is gone", file=sys.stderr, flush=True)
        os._exit(0)


def _share(task: dict[str, Any], rank: int, local: int, only: Path | None) -> dict[str, str]:
    """What there is to say of it: nothing, or the error."""
    attempt = Attempt(Path(task["attempt"]))
    place = Place(rank=rank, size=task["size"], local=local, host=task["host"], port=task["port"])
    try:
        if only is not None and attempt.folder.resolve() != only.resolve():
            raise UserError(
                f"process {rank} was sent {attempt.folder} and follows {only} alone; is another in its leader's place?"
            )
        call: Any = DelayedSubmission.load(attempt.call).function
        call.follow(attempt.folder, place)
    except AttemptStopped:
        return {}
    except Exception as error:
        traceback.print_exc()
        kind: Kind = "own"
        if isinstance(error, UserError):
            kind = "user"
        elif isinstance(error, ConnectionError):
            kind = "consequence"
        text = str(error) if kind == "user" else " ".join(f"{type(error).__name__}: {error}".split())
        return {"error": text, "kind": kind}
    return {}


# connections


class _Connection:
    """Messages both ways, each a line of JSON. A node that loses power closes nothing: the system asks after it, on
    Linux each 10 s from 30 s of silence on."""

    def __init__(self, connection: socket.socket) -> None:
        connection.settimeout(None)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3), ("TCP_NODELAY", 1)):
            if hasattr(socket, name):
                connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        self._socket, self._lines = connection, connection.makefile(encoding="utf-8")

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Until the other side is gone. Errors: ValueError where a whole line is no JSON."""
        with contextlib.suppress(OSError):  # what a dead process leaves may be reset
            for line in self._lines:
                if not line.endswith("\n"):  # it died in the middle of it
                    return
                yield json.loads(line)

    def say(self, message: Mapping[str, Any]) -> None:
        """Lost where the other side is gone, which shows to who listens."""
        with contextlib.suppress(OSError):
            self._socket.sendall(json.dumps(message).encode() + b"\n")

    def close(self) -> None:
        _close(self._socket)


def _close(ours: socket.socket) -> None:
    """A thread that waits at it wakes."""
    with contextlib.suppress(OSError):
        ours.shutdown(socket.SHUT_RDWR)
    ours.close()


def _server(host: str, size: int) -> socket.socket:
    """At a port that the system chooses, and that nobody else can take while this is open."""
    return socket.create_server((LOOPBACK if host == LOOPBACK else "", 0), backlog=size)
