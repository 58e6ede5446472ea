"""Once per store, also at the same time: which driver has a trial trained now.

    STORE/claims/KEY.json      the driver, its host, the folder of its jobs, and that of the trial's checkpoints
    STORE/claims/DRIVER.beat   that the driver lives

A driver claims a trial when it has room to start it. While the claim holds, drivers of other studies leave the trial
alone: they go on with others, and find its record in the store. A claim holds as long as its driver lives, or the job
that it started does; after that it is anybody's, who goes on from the checkpoints that it left.
"""

import json
import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.launch.attempt import current_attempt
from harness.launch.events import Progress
from harness.launch.jobs import RunningJob, launcher_of, unfinished_job
from harness.launch.pool import Pool
from harness.launch.worker import Call
from harness.processes.lease import Heartbeat, LeaseWatch, unique_owner
from harness.processes.locks import DRIVER_LOCK, FileLock, is_held
from harness.records.errors import UserError
from harness.records.plain import Plain
from harness.records.store import write_atomic

BEAT_S = 5.0
LOCK_WAIT_S = 30.0
LOOK_EVERY_S = 1.0  # at what other studies have, at most
NEEDED = ("driver", "host", "folder")  # by every claim
LEASE_S = 60.0  # without a beat; only where the driver's lock cannot be seen, on another host


class Claims:
    """Those of one driver, which has the lock of `folder`, the folder of its jobs."""

    def __init__(self, store: Path, folder: Path) -> None:
        self._root, self._folder = store.absolute() / "claims", folder.absolute()
        self._heartbeat: Heartbeat | None = None
        self._watches: dict[str, LeaseWatch] = {}  # by driver
        self._jobs: dict[str, RunningJob] = {}  # of drivers that are gone, by key
        self._left: dict[str, Left] = {}  # what the one before had, by key

    def holder(self, key: str) -> str | None:
        """The name of another study that has the trial now. Nothing is written: `harness status` asks so."""
        claim = self._read(key)
        if claim is None or self._is_ours(claim) or not self._holds(claim, key):
            return None
        return _study_of(claim)

    def take(self, key: str, checkpoints: Path | None = None) -> str | None:
        """None where the trial is this driver's to train now; else the name of the study that has it. Its checkpoints
        will lie in that folder."""
        claim = self._read(key)
        if claim is not None and not self._is_ours(claim) and self._holds(claim, key):
            return _study_of(claim)
        with self._lock():
            since = self._read(key)
            if since is not None and since != claim:
                return _study_of(since)
            if claim is not None and not self._is_ours(claim) and claim.get("checkpoints"):
                self._left[key] = Left(study=_study_of(claim), checkpoints=self._root / claim["checkpoints"])
            mine = {"driver": self._driver(), "host": socket.gethostname(), "folder": self._relative(self._folder)}
            if checkpoints is not None:
                mine["checkpoints"] = self._relative(checkpoints)
            write_atomic(self._root / f"{key}.json", json.dumps(mine).encode())
        return None

    def left(self, key: str) -> "Left | None":
        """What another study left of a trial that this driver took over from it."""
        return self._left.pop(key, None)

    def release(self, key: str) -> None:
        claim = self._read(key)
        if claim is not None and self._is_ours(claim):
            (self._root / f"{key}.json").unlink(missing_ok=True)

    def close(self) -> None:
        """This driver ends. Its claims on jobs that go on without it hold as long as those do."""
        if self._heartbeat is not None:
            self._heartbeat.__exit__(None, None, None)
            self._heartbeat = None

    def _relative(self, path: Path) -> str:
        """Other hosts may have it at another place."""
        return os.path.relpath(path.absolute(), self._root)

    def _lock(self) -> FileLock:
        path = self._root / "lock"
        if (lock := FileLock.acquire(path, wait_s=LOCK_WAIT_S)) is None:
            raise UserError(f"{path} was held for {LOCK_WAIT_S:g} s, which takes milliseconds; end the process in it")
        return lock

    def _driver(self) -> str:
        """This driver's name, under which it is seen to live from now on."""
        if self._heartbeat is None:
            name = unique_owner()
            self._heartbeat = Heartbeat(self._root / f"{name}.beat", BEAT_S, owner=name)
            self._heartbeat.__enter__()
        return self._heartbeat.owner

    def _is_ours(self, claim: dict[str, Any]) -> bool:
        """This driver's, or that of an earlier driver of the same folder."""
        return self._folder_of(claim) == self._folder

    def _holds(self, claim: dict[str, Any], key: str) -> bool:
        return self._driver_lives(claim) or self._job_lives(self._folder_of(claim), key)

    def _job_lives(self, folder: Path, key: str) -> bool:
        """Watched with patience: on another host only time tells. Where nobody knows how the job was launched any more,
        its lock alone says."""
        if not (folder / key).is_dir():
            return False
        try:
            launcher = launcher_of(folder)
        except UserError:
            attempt = current_attempt(folder / key)
            return attempt is not None and attempt.result() is None and is_held(attempt.lock)
        job = unfinished_job(folder / key, launcher)
        if job is None:
            return False
        if key not in self._jobs or self._jobs[key].attempt != job.attempt:
            self._jobs[key] = job
        return self._jobs[key].lives

    def _driver_lives(self, claim: dict[str, Any]) -> bool:
        """On this host a driver that lives holds its folder's lock; the beat also tells it from a later one."""
        if claim["host"] == socket.gethostname() and not is_held(self._folder_of(claim) / DRIVER_LOCK):
            return False
        beat = self._root / f"{claim['driver']}.beat"
        return self._watches.setdefault(claim["driver"], LeaseWatch(beat, LEASE_S)).is_fresh()

    def _folder_of(self, claim: dict[str, Any]) -> Path:
        return Path(os.path.normpath(self._root / claim["folder"]))

    def _read(self, key: str) -> dict[str, Any] | None:
        """None where there is none; a damaged one is nobody's."""
        try:
            claim = json.loads((self._root / f"{key}.json").read_bytes())
        except (FileNotFoundError, ValueError):
            return None
        whole = isinstance(claim, dict) and all(isinstance(claim.get(name), str) for name in NEEDED)
        return claim if whole else None


def _study_of(claim: dict[str, Any]) -> str:
    """`fig3` of `../../fig3/attempts`."""
    return Path(claim["folder"]).parent.name


@dataclass(frozen=True, kw_only=True, slots=True)
class Left:
    """Checkpoints of a trial whose training ended with its driver."""

    study: str
    checkpoints: Path


@dataclass(slots=True)
class _Job:
    call: Call
    holds: Callable[[Plain], bool]
    is_done: Callable[[], bool]
    checkpoints: Path | None
    take_over: Callable[[Left], None]
    claims: Claims
    other_study: str = ""  # that has it done now


class Backlog:
    """Jobs that the pool does not have yet: those that wait for room in it, and those that another study has done."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._jobs: dict[str, _Job] = {}
        self._claims: dict[Path, Claims] = {}  # by store
        self._look_at = 0.0  # monotonic seconds

    def __len__(self) -> int:
        return len(self._jobs)

    @property
    def free(self) -> int:
        """How many more jobs can be taken: none while another study has as many of them as the pool runs at once, since
        what these would teach is not known yet."""
        elsewhere = sum(bool(job.other_study) for job in self._jobs.values())
        if elsewhere >= self._pool.max_in_flight:
            return 0
        return max(0, self._pool.free - (len(self._jobs) - elsewhere))

    def progress(self) -> dict[str, Progress]:
        """Of those that another study has done: its name."""
        studies = {key: job.other_study for key, job in self._jobs.items() if job.other_study}
        return {
            key: Progress(phase=f"run by study {name}", step=0, of=1, time=time.time()) for key, name in studies.items()
        }

    def add(
        self,
        key: str,
        call: Call,
        store: Path,
        *,
        is_done: Callable[[], bool],
        holds: Callable[[Plain], bool] = lambda _result: True,
        checkpoints: Path | None = None,
        take_over: Callable[[Left], None] = lambda _left: None,
    ) -> None:
        """`is_done` says whether the store has what the job makes; `holds` is the pool's. The job's checkpoints lie in
        `checkpoints`, and `take_over` hears, before it starts, of those that a study left which is gone."""
        if store not in self._claims:
            self._claims[store] = claims = Claims(store, self._pool.folder)
            self._pool.on_close.append(claims.close)
        self._jobs[key] = _Job(call, holds, is_done, checkpoints, take_over, self._claims[store])

    def start(self) -> list[str]:
        """Hand to the pool what it has room for and nobody else has done; the keys of those that are done meanwhile."""
        looks = time.monotonic() >= self._look_at
        over = [key for key, job in list(self._jobs.items()) if self._is_over(key, job, looks)]
        if looks:
            self._look_at = time.monotonic() + LOOK_EVERY_S
        return over

    def _is_over(self, key: str, job: _Job, looks: bool) -> bool:
        """Whether the store has what it makes; else it is started, if that is possible."""
        if job.other_study and not looks:
            return False
        if job.other_study and job.is_done():
            del self._jobs[key]
            return True
        earlier = current_attempt(self._pool.folder / key)  # an earlier driver's may live or have ended
        if self._pool.free > 0 or earlier is not None:
            job.other_study = job.claims.take(key, job.checkpoints) or ""
            if not job.other_study:
                return self._begin(key, job)
        return False

    def _begin(self, key: str, job: _Job) -> bool:
        """The claim is ours. Whoever had it before may have ended since we looked."""
        del self._jobs[key]
        if job.is_done():
            job.claims.release(key)
            return True
        if (left := job.claims.left(key)) is not None:
            job.take_over(left)
        self._pool.submit(key, job.call, holds=job.holds)
        return False

    def end(self, key: str) -> None:
        """The pool is done with it, and the store has what came of it."""
        for claims in self._claims.values():
            claims.release(key)
