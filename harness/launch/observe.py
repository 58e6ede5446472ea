"""What is going on in a folder of attempts, for people: looked at from outside, whether a driver runs or not.

It only reads. A lock is probed for microseconds (see `locks.is_held`), never held; nothing is decided by what is found
here, so a moment's truth is enough. No launcher is asked: on a cluster, a worker shows itself by its lock or its lease.

How fast jobs end, and when the last one may, is told from the log of attempts, with what that rests on.
"""

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

from harness.launch.attempt import Attempt, current_attempt
from harness.launch.config import LauncherConfig, SlurmLauncher, jobs_at_once
from harness.launch.events import Progress, read_progress
from harness.launch.jobs import launcher_of
from harness.launch.stopping import Mode, accepted_stop_request, is_stop_requested
from harness.processes.locks import DRIVER_LOCK, holder, is_held
from harness.records.errors import UserError
from harness.records.eta import duration
from harness.records.lines import lines_of

Worker: TypeAlias = Literal["lives", "has not begun", "is gone"]
BEGINNINGS = ("started", "resumed")
ENDS = ("finished", "failed", "stopped", "requeued", "lost", "cancelled")


@dataclass(frozen=True, kw_only=True, slots=True)
class Driver:
    runs: bool
    host: str = ""
    pid: int = 0
    since: float = 0.0  # Unix seconds
    command: str = ""
    at_once: int = 1  # jobs it keeps in flight
    stopping: Mode | None = None  # it was asked to end


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """A key that has no result yet."""

    key: str
    attempt: str
    worker: Worker
    where: str  # `node7, process 4711`, or the launcher's number of a job that has not begun
    progress: Progress | None
    starts: int = 0  # how often a worker began on it, in all attempts
    time_limits: int | None = None  # that it reached since it last failed; None where there are none
    most_time_limits: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class FinishedJob:
    key: str
    seconds: float  # of work, over all its attempts
    at: float  # Unix seconds


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkLog:
    """What the log says of the time that jobs took."""

    finished: tuple[FinishedJob, ...] = ()  # oldest first
    began: dict[str, float] | None = None  # key -> when its present attempt began to work
    starts: Mapping[str, int] = field(default_factory=dict)  # key -> how often a worker began on it
    damage: str = ""  # why the log is not all understood


def driver_of(folder: Path) -> Driver:
    """The driver of FOLDER, or the last one it had."""
    path = folder / DRIVER_LOCK
    runs, last = is_held(path), holder(path)
    request = accepted_stop_request(folder) if runs else None
    return Driver(
        runs=runs,
        host=str(last.get("host", "")),
        pid=int(last.get("pid", 0)),
        since=float(last.get("time", 0.0)),
        command=str(last.get("command", "")),
        at_once=jobs_at_once(launcher_of(folder)) if last.get("launcher") else 1,
        stopping=request.mode if request is not None else "finish" if runs and is_stop_requested(folder) else None,
    )


def jobs_of(folder: Path, keys: Iterable[str] | None = None, work: WorkLog | None = None) -> list[Job]:
    """The jobs without a result, of these keys or of all that were ever submitted; with `work` their starts too."""
    chosen = sorted(path.parent.name for path in folder.glob("*/current")) if keys is None else keys
    attempts = (current_attempt(folder / key) for key in chosen)
    slurm, starts = _slurm_of(folder), {} if work is None else work.starts
    open_ones = (attempt for attempt in attempts if attempt is not None and attempt.result() is None)
    return [_job(attempt, slurm, starts.get(attempt.key, 0)) for attempt in open_ones]


def work_log_of(folder: Path) -> WorkLog:
    """From the log of attempts: what finished, when, and how long it had been worked at."""
    began: dict[str, float] = {}
    spent: dict[str, float] = {}
    starts: Counter[str] = Counter()
    finished, cut = [], 0
    for line in lines_of(folder / "attempts.log"):
        if line is None:
            cut += 1
            continue
        key, event, at = line["key"], line["event"], float(line["time"])
        if event in BEGINNINGS:
            began[key] = at
            starts[key] += 1
        elif event in ENDS and key in began:
            spent[key] = spent.get(key, 0.0) + at - began.pop(key)
            if event == "finished":
                finished.append(FinishedJob(key=key, seconds=spent[key], at=at))
    damage = f"{folder / 'attempts.log'} is damaged ({cut} of its lines are cut short), so times lack those jobs"
    return WorkLog(finished=tuple(finished), began=began, starts=starts, damage=damage if cut else "")


def _job(attempt: Attempt, slurm: SlurmLauncher | None, starts: int) -> Job:
    lease_s = 0.0 if slurm is None else slurm.lease_timeout_s  # elsewhere there are no leases
    held, lease_age_s = is_held(attempt.lock), _age_s(attempt.lease)
    lives = held or (lease_age_s is not None and lease_age_s < lease_s)
    by = holder(attempt.lock)
    job_id = attempt.submitted().get("job_id")
    waits = f"job {job_id}" if job_id is not None else ""
    return Job(
        key=attempt.key,
        attempt=attempt.name,
        worker="lives" if lives else "is gone" if by else "has not begun",
        where=f"{by.get('host')}, process {by.get('pid')}" if by else waits,
        progress=read_progress(attempt.folder),
        starts=starts,
        time_limits=None if slurm is None else attempt.timeouts_of_key(),
        most_time_limits=None if slurm is None else slurm.max_requeues,
    )


def _slurm_of(folder: Path) -> SlurmLauncher | None:
    """The launcher of its last driver, where that is one."""
    try:
        launcher: LauncherConfig = launcher_of(folder)
    except UserError:
        return None
    return launcher if isinstance(launcher, SlurmLauncher) else None


def _age_s(path: Path) -> float | None:
    try:
        return max(0.0, time.time() - path.stat().st_mtime)
    except FileNotFoundError:
        return None


WINDOW_S = 3600.0
FEWEST = 10  # so many jobs make a rate, if the driver ran long enough for them
NEWEST = 50  # a mean duration is of so many at most: machines change


@dataclass(frozen=True, kw_only=True, slots=True)
class Pace:
    ended: int
    hours: float  # in which they ended
    per_hour: float


@dataclass(frozen=True, kw_only=True, slots=True)
class TimeLeft:
    seconds: float  # from now
    rests_on: str


@dataclass(frozen=True, kw_only=True, slots=True)
class JobGroup:
    """Jobs that take about the same time: the trainings to one budget."""

    name: str  # `100 steps`
    keys: frozenset[str]  # that were ever submitted
    running: frozenset[str]  # of those
    to_come: int  # not submitted yet
    size: float = 1.0  # in proportion to which a kind without a finished job takes longer than another


def pace_of(work: WorkLog, keys: frozenset[str], driver: Driver, now: float) -> Pace | None:
    """Of the last hour, or of the last ten jobs if those took longer; of this driver's life only. None below two."""
    ends = [job.at for job in work.finished if job.key in keys and job.at >= driver.since]
    since = max(driver.since, min([now - WINDOW_S, *ends[-FEWEST:][:1]]))
    ended = sum(at >= since for at in ends)
    hours = (now - since) / 3600
    if not driver.runs or ended < 2 or hours <= 0:
        return None
    return Pace(ended=ended, hours=hours, per_hour=ended / hours)


def time_left(work: WorkLog, kinds: Sequence[JobGroup], driver: Driver, now: float) -> TimeLeft | str:
    """When all jobs of these kinds have ended, or why that cannot be told."""
    if not driver.runs:
        return "no driver runs"
    ended = {kind.name: [job for job in work.finished if job.key in kind.keys][-NEWEST:] for kind in kinds}
    means = {name: _mean(jobs) for name, jobs in ended.items() if jobs}
    if sum(map(len, ended.values())) < 2:
        return "fewer than 2 results"
    seconds_left: list[float] = []
    scaled = []
    for kind in kinds:
        open_ones = len(kind.running) + kind.to_come
        if open_ones and kind.name not in means:
            scaled.append(kind.name)
        mean = means.get(kind.name) or _scaled(kind, kinds, means)
        began = work.began or {}
        seconds_left += [max(0.0, mean - (now - began.get(key, now))) for key in kind.running]
        seconds_left += [mean] * kind.to_come
    seconds = max(sum(seconds_left) / max(1, driver.at_once), max(seconds_left, default=0.0))
    return TimeLeft(seconds=seconds, rests_on=_grounds(len(seconds_left), driver, means, scaled))


def _scaled(kind: JobGroup, kinds: Iterable[JobGroup], means: Mapping[str, float]) -> float:
    """From the largest kind that has a mean."""
    other = max((each for each in kinds if each.name in means), key=lambda each: each.size)
    return means[other.name] * kind.size / other.size


def _mean(jobs: Sequence[FinishedJob]) -> float:
    return sum(job.seconds for job in jobs) / len(jobs)


def _grounds(jobs: int, driver: Driver, mean_of_kind: Mapping[str, float], scaled: Sequence[str]) -> str:
    means = ", ".join(f"{name or 'a job'} {duration(mean)}" for name, mean in mean_of_kind.items())
    more = f"; no result yet for {', '.join(scaled)}, scaled by steps" if scaled else ""
    return f"{jobs} to end, {driver.at_once} at once; mean so far: {means}{more}"
