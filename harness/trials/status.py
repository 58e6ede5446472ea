"""How an ablation is getting on, from its manifest, the store and its jobs' folders; and the jobs of a command that is
no study, as `harness train`. It only reads."""

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

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
from harness.records.manifest import read_manifest
from harness.records.quantity import value_of
from harness.records.record import TrialRecord, trial_key, why
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


@dataclass(frozen=True, kw_only=True, slots=True)
class JobsStatus:
    """Of `harness train`, or of another command that has jobs and no study."""

    name: str
    place: str  # of their folder
    driver: Driver
    states: Mapping[str, int]  # running; and as their newest attempts ended: done, failed, ...
    jobs: tuple[Job, ...]  # without a result
    remarks: tuple[str, ...] = ()


def jobs_status(out: Path, name: str) -> JobsStatus:
    folder = out / name / "attempts"
    work = work_log_of(folder)
    newest = (current_attempt(path.parent) for path in folder.glob("*/current"))
    results = [attempt.result() for attempt in newest if attempt is not None]
    states = Counter("running" if result is None else result.state for result in results)
    return JobsStatus(
        name=name,
        place=str(folder),
        driver=driver_of(folder),
        states=states,
        jobs=tuple(jobs_of(folder, work=work)),
        remarks=(work.damage,) if work.damage else (),
    )


def ablation_status(out: Path, name: str) -> AblationStatus:
    """Of the ablation in OUT/NAME, now. Errors: UserError where its manifest or a record cannot be read."""
    manifest, folder, now = read_manifest(out, name), out / name / "attempts", time.time()
    store, driver, work = Store(out / "store"), driver_of(folder), work_log_of(folder)
    keys = {
        trial_key(rung.architecture_fingerprint, manifest.protocol_fingerprint, seed): (rung.name, seed)
        for seed in manifest.seeds
        for rung in manifest.rungs
    }
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
