"""Requests and answers between a cluster and a Mac, which share a folder and nothing else.

    packages/HASH/            model.mlpackage, inputs.npz, reference.npz: copied beside, then renamed into place;
                              where a picture is asked for, a published folder's coreml/ and text/
    pending/ID.json           a request; written after its package
    claimed/ID~OWNER.json     the same file while an agent works on it: renaming it is the claim
    answered/ID.json          the same file afterwards
    results/CONTENT/DEVICE.json  the number, by package and protocol, device and build of its system; beside it the
                              picture, DEVICE.png, where one was asked for
    heartbeats/OWNER          counts up while its agent lives
    agents/HOST.json          what an agent on that host last had to say: "needs an iPhone: ..."

A rename has one winner on a local and on a network file system, and needs no lock that another machine would not see.
(On a folder that a service copies between machines it has not: run one agent there. Two would cost a second
measurement, never a wrong one.) Every step leaves a state that another agent continues from: a result is written
before the request is closed, and whoever claims a request looks for the result first.
"""

import json
import shutil
import socket
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias

from harness.device.benchmark import Arrays
from harness.device.request import (
    PHONE_PARTS,
    Answer,
    BenchmarkProtocol,
    PictureProtocol,
    Request,
    Result,
    content_key,
    folder_hash,
    package_hash,
)
from harness.device.targets import Identity, same_chip
from harness.processes.lease import BEATS_PER_LEASE, Heartbeat, LeaseWatch, unique_owner
from harness.records.errors import UserError
from harness.records.plain import from_plain, to_plain
from harness.records.provenance import now
from harness.records.store import file_sha256, write_atomic

State: TypeAlias = Literal["pending", "claimed", "answered"]
STATES: tuple[State, ...] = ("pending", "claimed", "answered")
LEASE_S = 60.0
PACKAGE, INPUTS, REFERENCE = "model.mlpackage", "inputs.npz", "reference.npz"


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """A request and where it stands."""

    request: Request
    state: State
    owner: str = ""  # of a claim
    path: Path


class Queue(Protocol):
    """Both ends of a queue. The cluster submits and looks for answers; an agent claims, finishes or gives back.

    The agent knows no more of a queue than this; a folder is the first kind.
    """

    # the cluster's end

    def submit(
        self,
        package: Path,
        inputs: Arrays,
        reference: Arrays,
        protocol: BenchmarkProtocol,
        *,
        chip: str | None = None,
        name: str = "",
        conditions: Mapping[str, Any] | None = None,
    ) -> str:
        """The request's id; submitting the same again changes nothing."""

    def submit_picture(
        self, folder: Path, protocol: PictureProtocol, *, chip: str | None = None, name: str = ""
    ) -> str:
        """The same of a picture from a published folder."""

    def find(self, request: str) -> Entry | None: ...

    def answer(self, request: str) -> Answer | None:
        """The earliest result on a device that the request accepts."""

    def picture(self, request: str) -> Path | None:
        """The picture that belongs to the answer; None where there is none, or it has not arrived yet."""

    def agent_messages(self) -> list[str]:
        """What agents last had to say, where it keeps them from measuring."""

    def entries(self) -> Iterator[Entry]:
        """All requests."""

    # the agent's end

    def alive(self) -> AbstractContextManager[str]:
        """The name to claim under; inside, others can tell that its owner lives."""

    def claim(self, owner: str, chip: str) -> Entry | None:
        """The next request for such a device whose package has arrived in full, now `owner`'s; None where none waits.

        One that an agent took before, and did not finish, comes after those nobody tried.
        """

    def folder(self, request: Request) -> Path:
        """Where PACKAGE, INPUTS and REFERENCE lie; where a picture is asked for, the published folder's parts."""

    def result(self, request: Request, device: Identity) -> Result | None:
        """What was measured before: this package under this protocol on this build of this device."""

    def finish(self, entry: Entry, device: Identity, quantity: Answer, picture: bytes | None = None) -> None:
        """Write the result, unless there is one, and close the request."""

    def close(self, entry: Entry) -> None:
        """Done; a claim that was taken away meanwhile is its new owner's to close."""

    def release(self, entry: Entry, error: str = "") -> None:
        """To those who wait; with what went wrong, if that speaks against the package."""

    def release_dead_claims(self) -> list[str]:
        """Give back what dead agents claimed; the ids."""

    def may_return_claims(self) -> bool:
        """Whether some claim's owner has not been seen alive: the request may come back."""

    def post_status(self, text: str) -> None:
        """Let the other end know why nothing is measured; "" once it is."""


class FolderQueue:
    def __init__(self, root: Path, *, lease_s: float = LEASE_S) -> None:
        """UserError where the folder does not exist: a mistyped path would wait for ever."""
        self.root = Path(root).expanduser()
        if not self.root.is_dir():
            raise UserError(
                f"there is no queue folder {self.root}; make it (mkdir), or give the one that both sides see"
            )
        self.lease_s = lease_s
        self.heartbeats = self.root / "heartbeats"
        self._leases: dict[str, LeaseWatch] = {}  # of other agents, by owner

    # the cluster's end

    def submit(
        self,
        package: Path,
        inputs: Arrays,
        reference: Arrays,
        protocol: BenchmarkProtocol,
        *,
        chip: str | None = None,
        name: str = "",
        conditions: Mapping[str, Any] | None = None,
    ) -> str:
        def fill(folder: Path) -> None:
            import numpy

            savez: Any = numpy.savez  # its stub takes every name for its own options
            shutil.copytree(package, folder / PACKAGE)
            savez(folder / INPUTS, **inputs)
            savez(folder / REFERENCE, **reference)

        content = package_hash(package)
        files = self._place(content, fill)
        return self._submit(Request(
            package=content, protocol=protocol, chip=chip, files=files, submitted=now(), name=name,
            conditions=conditions or {},
        ))  # fmt: skip

    def submit_picture(
        self, folder: Path, protocol: PictureProtocol, *, chip: str | None = None, name: str = ""
    ) -> str:
        def fill(temporary: Path) -> None:
            for part in PHONE_PARTS:
                shutil.copytree(folder / part, temporary / part)

        content = folder_hash(folder)
        files = self._place(content, fill)
        return self._submit(
            Request(package=content, protocol=protocol, chip=chip, files=files, submitted=now(), name=name)
        )

    def _submit(self, request: Request) -> str:
        entry = self.find(request.id)
        if entry is None or (entry.state == "answered" and self.answer(request.id) is None):
            self._write(self._path("pending", request.id), request)
        return request.id

    def find(self, request: str) -> Entry | None:
        """Looks twice: a request that is given back moves against the order in which its places are looked at."""
        both = (*self.entries(request), *self.entries(request))
        return both[0] if both else None

    def answer(self, request: str) -> Answer | None:
        answered = self._answered(request)
        return None if answered is None else answered[0].quantity

    def picture(self, request: str) -> Path | None:
        answered = self._answered(request)
        path = None if answered is None else answered[1].with_suffix(".png")
        return path if path is not None and path.is_file() else None

    def _answered(self, request: str) -> tuple[Result, Path] | None:
        entry = self.find(request)
        if entry is None:
            return None
        submitted = entry.request
        paths = (self.root / "results" / submitted.content).glob("*.json")
        results = ((_read(Result, path), path) for path in paths)
        fitting = [each for each in results if each[0] is not None and _fits(submitted, each[0].chip)]
        return min(fitting, key=lambda each: each[0].finished) if fitting else None

    def agent_messages(self) -> list[str]:
        messages = []
        for path in sorted((self.root / "agents").glob("*.json")):
            message = _json_of(path)
            if isinstance(message, dict) and message.get("says"):
                messages.append(f"the agent on {path.stem} said at {message['time'][:16]} UTC: {message['says']}")
        return messages

    def entries(self, request: str = "*") -> Iterator[Entry]:
        """All requests, or the one with that id."""
        for state in STATES:
            name = f"{request}~*.json" if state == "claimed" else f"{request}.json"
            for path in sorted((self.root / state).glob(name)):
                if (stored := _read(Request, path)) is not None:
                    yield Entry(request=stored, state=state, owner=path.stem.partition("~")[2], path=path)

    # the agent's end

    @contextmanager
    def alive(self) -> Iterator[str]:
        owner = unique_owner()
        with Heartbeat(self.heartbeats / owner, self.lease_s / BEATS_PER_LEASE, owner=owner):
            yield owner

    def claim(self, owner: str, chip: str) -> Entry | None:
        waiting = [entry for entry in self.entries() if entry.state == "pending" and _fits(entry.request, chip)]
        for entry in sorted(waiting, key=lambda entry: (entry.request.attempts, entry.request.submitted)):
            path = self._path("claimed", f"{entry.request.id}~{owner}")
            if not self.is_complete(entry.request) or not _try_rename(entry.path, path):
                continue
            request = replace(entry.request, attempts=entry.request.attempts + 1)
            self._write(path, request)
            return Entry(request=request, state="claimed", owner=owner, path=path)
        return None

    def is_complete(self, request: Request) -> bool:
        """Whether every file of the package is there as it was submitted: a copy between machines takes a while."""
        folder = self.folder(request)
        return all(
            (folder / name).is_file() and file_sha256(folder / name) == digest for name, digest in request.files.items()
        )

    def folder(self, request: Request) -> Path:
        return self.root / "packages" / request.package

    def result(self, request: Request, device: Identity) -> Result | None:
        result: Result | None = _read(Result, self._result(request, device))
        return result

    def finish(self, entry: Entry, device: Identity, quantity: Answer, picture: bytes | None = None) -> None:
        request = entry.request
        if self.result(request, device) is None:
            result = Result(
                package=request.package,
                protocol=request.protocol,
                device=device.key,
                chip=device.chip,
                quantity=quantity,
                finished=now(),
            )
            if picture is not None:
                write_atomic(self._result(request, device).with_suffix(".png"), picture)
            self._write(self._result(request, device), result)
        self.close(entry)

    def close(self, entry: Entry) -> None:
        _try_rename(entry.path, self._path("answered", entry.request.id))

    def release(self, entry: Entry, error: str = "") -> None:
        if error and entry.path.exists():
            self._write(entry.path, replace(entry.request, errors=(*entry.request.errors, error)))
        _try_rename(entry.path, self._path("pending", entry.request.id))

    def release_dead_claims(self) -> list[str]:
        returned = []
        for entry in self._claims():
            if not self._lease_of(entry.owner).is_fresh():
                if _try_rename(entry.path, self._path("pending", entry.request.id)):
                    returned.append(entry.request.id)
                del self._leases[entry.owner]
                with suppress(OSError):
                    (self.heartbeats / entry.owner).unlink(missing_ok=True)
        return returned

    def may_return_claims(self) -> bool:
        return any(not self._lease_of(entry.owner).is_seen_alive() for entry in self._claims())

    def _lease_of(self, owner: str) -> LeaseWatch:
        watch = LeaseWatch(self.heartbeats / owner, self.lease_s, may_arrive_late=True)
        return self._leases.setdefault(owner, watch)

    def post_status(self, text: str) -> None:
        path = self.root / "agents" / f"{socket.gethostname()}.json"
        write_atomic(path, json.dumps({"says": text, "time": now()}, ensure_ascii=False).encode())

    def _claims(self) -> list[Entry]:
        return [entry for entry in self.entries() if entry.state == "claimed"]

    def _path(self, state: State, name: str) -> Path:
        folder = self.root / state
        folder.mkdir(exist_ok=True)
        return folder / f"{name}.json"

    def _result(self, request: Request, device: Identity) -> Path:
        return self.root / "results" / content_key(request.package, request.protocol) / f"{device.key}.json"

    def _write(self, path: Path, value: Request | Result) -> None:
        write_atomic(path, json.dumps(to_plain(value), indent=1, allow_nan=False, ensure_ascii=False).encode())

    def _place(self, content: str, fill: Callable[[Path], None]) -> dict[str, str]:
        """The folder of this content, which `fill` fills unless it is there; file -> sha256."""
        folder = self.root / "packages" / content
        if not folder.exists():
            temporary = folder.with_name(f".{content}.{uuid.uuid4().hex[:8]}")
            try:
                fill(temporary)
                _try_rename(temporary, folder)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
        files = (path for path in sorted(folder.rglob("*")) if path.is_file())
        return {path.relative_to(folder).as_posix(): file_sha256(path) for path in files}


def _fits(request: Request, chip: str) -> bool:
    return request.chip is None or same_chip(request.chip, chip)


def _try_rename(source: Path, target: Path) -> bool:
    """Rename; False where somebody else did before."""
    try:
        source.rename(target)
    except FileNotFoundError:
        return False
    except OSError:
        if target.is_dir():  # two submitted the same package at once
            return False
        raise
    return True


def _read(kind: Any, path: Path) -> Any:
    """The value in the file; None where it is not there (any more), or not yet whole on a synced folder."""
    plain = _json_of(path)
    try:
        return None if plain is None else from_plain(kind, plain)
    except UserError as error:
        raise UserError(f"{path} is not a file that this version can read ({error}); move it away") from error


def _json_of(path: Path) -> Any:
    """None where it is not there (any more), or not whole: yet, on a synced folder, or any more, after a power loss."""
    try:
        return json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return None
