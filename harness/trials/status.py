"""How an ablation or a training (`harness train`, an ablation of one rung) is getting on, from its manifest, the store
and its jobs' folders; and the jobs of a command that is no study, as those that `harness evaluate` samples in. It only
reads."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from harness.launch.attempt import current_attempt
from harness.launch.observe import (
    Driver,
    Job,
    JobGroup,
    Pace,
    TimeLeft,
    driver_of,
    jobs_of,
    pace_of,
    time_left,
    work_log_of,
)
from harness.records.manifest import TRAINING, read_manifest
from harness.records.quantity import value_of
from harness.records.record import TrialRecord, why
from harness.records.store import Store
from harness.trials.claims import Claims

STATES = ("running", "waiting", "complete", "rejected", "failed")


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """A rung with one seed."""

    rung: str
    seed: int
    key: str
    state: str  # one of STATES
    score: float | None = None  # the one that ranks
    reason: str = ""  # why it failed or was rejected; of a waiting one, which study trains it
    job: Job | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class AblationStatus:
    name: str
    place: str  # of the manifest
    score: str  # the quantity that ranks
    driver: Driver
    states: Mapping[str, int]  # of (rung, seed)
    cells: tuple[Cell, ...]
    other_jobs: tuple[Job, ...]  # the controls
    pace: Pace | None
    end: TimeLeft | None
    end_unknown: str  # why there is no estimate
    remarks: tuple[str, ...] = ()

    @property
    def is_training(self) -> bool:
        """Of `harness train`: no study may be called so."""
        return self.name.startswith(TRAINING)

    @property
    def kind(self) -> str:
        return "training" if self.is_training else "ablation"

    @property
    def all_jobs(self) -> tuple[Job, ...]:
        """Those of its trials."""
        return tuple(cell.job for cell in self.cells if cell.job is not None)


@dataclass(frozen=True, kw_only=True, slots=True)
class JobsStatus:
    """Of a command that has jobs and no study."""

    kind: ClassVar[str] = "jobs"

    name: str
    place: str  # of their folder
    driver: Driver
    states: Mapping[str, int]  # running, has not begun, is gone; and as their newest attempts ended: done, failed, ...
    jobs: tuple[Job, ...]  # without a result
    remarks: tuple[str, ...] = ()

    @property
    def all_jobs(self) -> tuple[Job, ...]:
        return self.jobs


def jobs_status(out: Path, name: str) -> JobsStatus:
    folder = out / name / "attempts"
    work = work_log_of(folder)
    newest = (current_attempt(path.parent) for path in folder.glob("*/current"))
    results = [attempt.result() for attempt in newest if attempt is not None]
    jobs = jobs_of(folder, work=work)
    states = Counter[str]("running" if job.worker == "lives" else job.worker for job in jobs)
    states.update(result.state for result in results if result is not None)
    return JobsStatus(
        name=name,
        place=str(folder),
        driver=driver_of(folder),
        states=states,
        jobs=tuple(jobs),
        remarks=(work.damage,) if work.damage else (),
    )


def ablation_status(out: Path, name: str) -> AblationStatus:
    """Of the ablation in OUT/NAME, now. Errors: UserError where its manifest or a record cannot be read."""
    manifest, folder, now = read_manifest(out, name), out / name / "attempts", time.time()
    store, driver, work = Store(out / "store"), driver_of(folder), work_log_of(folder)
    keys = {manifest.key(rung, seed): (rung.name, seed) for seed in manifest.seeds for rung in manifest.rungs}
    jobs = {job.key: job for job in jobs_of(folder, work=work)}
    claims = Claims(store.root, folder)
    score = manifest.judging.first
    cells = tuple(_cell(store, claims, key, *keys[key], jobs.get(key), score) for key in keys)
    states = Counter(cell.state for cell in cells)
    kind = JobGroup(
        name="",
        keys=frozenset(keys),
        running=frozenset(cell.key for cell in cells if cell.state == "running"),
        to_come=0 if driver.stopping else states["waiting"],
    )
    end = time_left(work, [kind], driver, now)
    if isinstance(end, str):
        end = _left_as_said(cells, now) or end
    return AblationStatus(
        name=name,
        place=str(out / name / "manifest.json"),
        score=score,
        driver=driver,
        states={state: states[state] for state in STATES},
        cells=cells,
        other_jobs=tuple(job for key, job in jobs.items() if key not in keys),
        pace=pace_of(work, frozenset(keys), driver, now),
        end=end if isinstance(end, TimeLeft) else None,
        end_unknown=end if isinstance(end, str) else "",
        remarks=(work.damage,) if work.damage else (),
    )


def _left_as_said(cells: Sequence[Cell], now: float) -> TimeLeft | None:
    """Where all that is left is being trained, and says itself how long it will be."""
    left = []
    for cell in (cell for cell in cells if cell.state in ("running", "waiting")):
        job = cell.job
        if job is None or job.worker != "lives" or job.progress is None or job.progress.seconds_left is None:
            return None
        left.append(max(0.0, job.progress.seconds_left - (now - job.progress.time)))
    rests_on = "as what is training says of itself; its scores come after that"
    return TimeLeft(seconds=max(left), rests_on=rests_on) if left else None


def _cell(store: Store, claims: Claims, key: str, rung: str, seed: int, job: Job | None, score: str) -> Cell:
    record = store.trial(key)
    if record is None or (record.state != "complete" and job is not None):  # what failed is tried again
        state = "waiting" if job is None else "running"
        other = claims.holder(key) if job is None else None
        reason = f"study {other} trains it" if other else ""
        return Cell(rung=rung, seed=seed, key=key, state=state, reason=reason, job=job)
    value = value_of(record.quantities.get(score))
    return Cell(rung=rung, seed=seed, key=key, state=record.state, score=value, reason=_reason(record))


def _reason(record: TrialRecord) -> str:
    return "" if record.state == "complete" else why(record)
