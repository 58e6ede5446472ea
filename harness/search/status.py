"""How a sweep is getting on, told from what its driver and its workers wrote, while they may be writing.

It only reads, and quickly: of SQLite a few columns in one transaction of milliseconds, so that the driver, which waits
five seconds for the file, never notices; of a journal or a server what Optuna gives. `candidates` says what a trial of
the study means. Drawing is elsewhere.
"""

import json
import re
import sqlite3
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, json_to_distribution
from optuna.trial import TrialState

from harness.launch.observe import Driver, Estimate, Job, Kind, Pace, driver_of, estimate, jobs_of, pace_of, work_of
from harness.records.errors import UserError
from harness.records.plain import from_plain
from harness.search.candidates import (
    HOURS,
    FreshScore,
    RungResult,
    State,
    candidate_name,
    rescored_in,
    rungs_in,
    state_of,
)
from harness.search.halving import places
from harness.search.knobs import Knob, Parameters
from harness.search.pareto import Direction, front_of
from harness.search.study import DEFINITION, FLOOR, begun_in, place, stored_study

REASONS = ("refused", "stopped", "failed")


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredCandidate:
    number: int
    state: State
    rungs: tuple[RungResult, ...]
    reason: str  # why it was refused, stopped or failed
    enqueued: str  # its name, if the sampler did not choose it
    parameters: Parameters


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredStudy:
    place: str
    attributes: Mapping[str, Any]  # the study's user attributes
    candidates: tuple[StoredCandidate, ...]


def read_stored(folder: Path, name: str) -> StoredStudy | None:
    """The study of this folder; None if no sweep began here. Errors: UserError where it cannot be read."""
    storage = begun_in(folder)
    if storage is None:
        return None
    where = place(folder, storage)
    if storage != "sqlite":
        if storage == "journal" and not Path(where).exists():
            return None  # Optuna would make the file
        study = stored_study(folder, name)
        return None if study is None else _from_optuna(study, where)
    path = folder / "study.db"
    if not path.exists():
        return None
    with reading(path) as file:
        file.execute("BEGIN")
        return _from_sqlite(file, name, where)


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """The file, which cannot be written so. Errors: UserError where it, or what is read from it, is damaged."""
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)) as file:
            yield file
    except (sqlite3.Error, ValueError, KeyError, TypeError) as error:
        raise _unreadable(path, error) from error


def _from_optuna(study: optuna.Study, where: str) -> StoredStudy:
    found = (
        _candidate(trial.number, trial.state, trial.user_attrs, trial.params)
        for trial in study.get_trials(deepcopy=False)
    )
    return StoredStudy(place=where, attributes=study.user_attrs, candidates=_known(found))


def _from_sqlite(file: sqlite3.Connection, name: str, where: str) -> StoredStudy | None:
    """By Optuna's tables; that this is what Optuna reads of them is tested."""
    row = file.execute("SELECT study_id FROM studies WHERE study_name = ?", (name,)).fetchone()
    if row is None:
        return None
    said = file.execute("SELECT key, value_json FROM study_user_attributes WHERE study_id = ?", row)
    attributes = {key: json.loads(value) for key, value in said}
    trials = file.execute(
        "SELECT trial_id, number, state FROM trials WHERE study_id = ? ORDER BY number", row
    ).fetchall()
    by_trial: dict[int, dict[str, Any]] = {trial_id: {} for trial_id, _, _ in trials}
    ours = "FROM {} AS a JOIN trials AS t ON a.trial_id = t.trial_id WHERE t.study_id = ?"
    wanted = ", ".join(f"'{key}'" for key in ("rungs", "enqueued", *REASONS))
    table = ours.format("trial_user_attributes")
    for trial_id, key, value in file.execute(f"SELECT a.trial_id, key, value_json {table} AND key IN ({wanted})", row):
        by_trial[trial_id][key] = json.loads(value)
    knobs: dict[int, dict[str, Any]] = {trial_id: {} for trial_id, _, _ in trials}
    table = ours.format("trial_params")
    for trial_id, knob, value, distribution in file.execute(
        f"SELECT a.trial_id, param_name, param_value, distribution_json {table} ORDER BY a.param_id", row
    ):
        knobs[trial_id][knob] = _distribution(distribution).to_external_repr(value)
    found = (
        _candidate(number, TrialState[state], by_trial[trial_id], knobs[trial_id]) for trial_id, number, state in trials
    )
    return StoredStudy(place=where, attributes=attributes, candidates=_known(found))


@cache
def _distribution(text: str) -> BaseDistribution:
    return json_to_distribution(text)


def _candidate(
    number: int, state: TrialState, attributes: Mapping[str, Any], parameters: Parameters
) -> StoredCandidate:
    return StoredCandidate(
        number=number,
        state=state_of(state, attributes),
        rungs=tuple(rungs_in(attributes)),
        reason=next((str(attributes[key]) for key in REASONS if key in attributes), ""),
        enqueued=str(attributes.get("enqueued", "")),
        parameters=parameters,
    )


def _known(found: Iterable[StoredCandidate]) -> tuple[StoredCandidate, ...]:
    """Trials that another tool enqueued are no candidates yet."""
    return tuple(each for each in found if each.rungs or each.state == "refused")


def _unreadable(path: Path, error: Exception) -> UserError:
    if path.with_name(f"{path.name}-journal").exists():
        return UserError(
            f"{path} was left in the middle of a write ({error}); the same `harness sweep` mends that when it goes on"
        )
    return UserError(f"cannot read the study {path}: {error}; move a damaged file away, or put back a copy")


NUMBER = re.compile(r"(?<![\w.])-?\d+(?:,\d{3})*(?:\.\d+)?(?:e[+-]?\d+)?(?!\w)")


@dataclass(frozen=True, kw_only=True, slots=True)
class Reason:
    text: str  # numbers in which the sentences differ are `...`
    times: int


def grouped(sentences: Iterable[str]) -> tuple[Reason, ...]:
    """The reasons, the most frequent first."""
    groups: dict[str, list[list[str]]] = defaultdict(list)
    for sentence in sentences:
        groups[NUMBER.sub("\0", sentence)].append(NUMBER.findall(sentence))
    reasons = [Reason(text=_filled(form, numbers), times=len(numbers)) for form, numbers in groups.items()]
    return tuple(sorted(reasons, key=lambda reason: -reason.times))


def _filled(form: str, numbers: Sequence[Sequence[str]]) -> str:
    """The sentence with the numbers that all have in common."""
    common = iter(["..." if len(set(column)) > 1 else column[0] for column in zip(*numbers, strict=True)])
    return "".join(next(common) if character == "\0" else character for character in form)


MEASUREMENT, PROMOTION = "waiting for a measurement", "waiting for promotion"


@dataclass(frozen=True, kw_only=True, slots=True)
class BudgetStatus:
    steps: int
    results: int
    running: int


@dataclass(frozen=True, kw_only=True, slots=True)
class FrontPoint:
    name: str
    values: tuple[float, ...]  # in the order of the objectives
    parameters: Parameters


@dataclass(frozen=True, kw_only=True, slots=True)
class Running:
    """A candidate that is being trained, or will be as soon as there is room."""

    name: str  # `trial-7`; `trial-7, seed 2` where a finalist is trained again
    steps: int
    job: Job | None  # None: it waits for room


@dataclass(frozen=True, kw_only=True, slots=True)
class RescoredStatus:
    """A finalist's trainings with fresh seeds."""

    name: str
    scored: int
    failed: int
    running: int


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepStatus:
    name: str
    place: str  # of the study
    driver: Driver
    objectives: Mapping[str, Direction]
    trials: int | None  # candidates to be trained in all
    states: Mapping[str, int]  # candidates
    reasons: Mapping[str, tuple[Reason, ...]]  # why refused, stopped, failed: the most frequent first
    budgets: tuple[BudgetStatus, ...]  # lowest first
    awaited: Mapping[str, int]  # objective -> how many candidates wait for a queue to bring it
    floor: float | None  # the KID below which a candidate is promoted
    front: tuple[FrontPoint, ...]  # of the complete ones, by the search's own values
    rescored: tuple[RescoredStatus, ...]  # the finalists
    running: tuple[Running, ...]
    pace: Pace | None
    end: Estimate | None
    end_unknown: str  # why there is no estimate
    hours: float  # of driving, noted each minute
    hours_limit: float | None
    gpu_hours: float
    gpu_hours_limit: float | None
    remarks: tuple[str, ...] = ()


def sweep_status(folder: Path, name: str) -> SweepStatus | None:
    """Of the sweep in this folder, now; None if none began here. Errors: UserError where the folder is damaged."""
    stored = read_stored(folder, name)
    if stored is None:
        return None
    try:
        return _status(folder, name, stored, time.time())
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{stored.place} is no study that this version can read: {type(error).__name__} {error}"
        ) from error


def _status(folder: Path, name: str, stored: StoredStudy, now: float) -> SweepStatus:
    attempts, found = folder / "attempts", stored.candidates
    began: Mapping[str, Any] = stored.attributes.get("began", {})
    asked: Mapping[str, Any] = stored.attributes.get(DEFINITION, {})
    objectives: Mapping[str, Direction] = began.get("objectives", {})
    driver, work = driver_of(attempts), work_of(attempts)
    budgets = _budgets(found, began.get("budgets", ()))
    complete = [each for each in found if each.state == "complete" and each.rungs[-1].values is not None]
    best = front_of([each.rungs[-1].values or () for each in complete], tuple(objectives.values()))
    again = rescored_in(stored.attributes)
    fresh = [score for scores in again.values() for score in scores]
    gpu_seconds = [rung.gpu_seconds for each in found for rung in each.rungs] + [score.gpu_seconds for score in fresh]
    kinds = _kinds(found, budgets, asked.get("trials"), int(began.get("reduction", 2)), driver)
    if budgets:
        kinds.append(_final_round(again, _wanted(asked, began), budgets[-1].steps, driver))
    keys = frozenset(rung.key for each in found for rung in each.rungs) | {score.key for score in fresh}
    end = estimate(work, kinds, driver, now) if "trials" in asked else "its driver did not say how many candidates"
    return SweepStatus(
        name=name,
        place=stored.place,
        driver=driver,
        objectives=objectives,
        trials=asked.get("trials"),
        states=_states(found),
        reasons={state: grouped(each.reason for each in found if each.state == state) for state in REASONS},
        budgets=budgets,
        awaited=_awaited(found),
        floor=stored.attributes.get(FLOOR),
        front=tuple(_point(complete[at]) for at in best),
        rescored=tuple(_rescored(name, scores) for name, scores in again.items()),
        running=_running(attempts, found, again),
        pace=pace_of(work, keys, driver, now),
        end=end if isinstance(end, Estimate) else None,
        end_unknown=end if isinstance(end, str) else "",
        hours=float(stored.attributes.get(HOURS, 0.0)),
        hours_limit=asked.get("hours"),
        gpu_hours=sum(gpu_seconds) / 3600,
        gpu_hours_limit=asked.get("gpu_hours"),
        remarks=(work.damage,) if work.damage else (),
    )


def _states(found: Iterable[StoredCandidate]) -> dict[str, int]:
    names = ("running", MEASUREMENT, PROMOTION, "complete", "stopped", "refused", "failed")
    counted = Counter(_waits(each) or each.state for each in found)
    return {name: counted[name] for name in names}


def _waits(candidate: StoredCandidate) -> str:
    """What a candidate that is not trained at present waits for; empty where it is, or has ended."""
    if candidate.state != "running":
        return ""
    last = candidate.rungs[-1]
    return MEASUREMENT if last.awaits else PROMOTION if last.values is not None else ""


def _awaited(found: Iterable[StoredCandidate]) -> dict[str, int]:
    waiting = [each.rungs[-1] for each in found if _waits(each) == MEASUREMENT]
    return dict(Counter(name for rung in waiting for name in rung.awaits))


def _budgets(found: Sequence[StoredCandidate], steps: Iterable[int]) -> tuple[BudgetStatus, ...]:
    rungs = [(each, rung) for each in found for rung in each.rungs]
    results = Counter(rung.steps for _, rung in rungs if rung.values is not None)
    pending = (rung for each, rung in rungs if each.state == "running" and rung.values is None and not rung.awaits)
    running = Counter(rung.steps for rung in pending)
    return tuple(BudgetStatus(steps=each, results=results[each], running=running[each]) for each in steps)


def _point(candidate: StoredCandidate) -> FrontPoint:
    values = candidate.rungs[-1].values or ()
    return FrontPoint(name=candidate_name(candidate.number), values=values, parameters=candidate.parameters)


def _rescored(name: str, scores: Sequence[FreshScore]) -> RescoredStatus:
    counted = Counter("running" if each.running else "failed" if each.failed else "scored" for each in scores)
    return RescoredStatus(name=name, scored=counted["scored"], failed=counted["failed"], running=counted["running"])


def _running(
    attempts: Path, found: Sequence[StoredCandidate], again: Mapping[str, Sequence[FreshScore]]
) -> tuple[Running, ...]:
    searched = [each for each in found if each.state == "running" and not _waits(each)]
    pending = [(candidate_name(each.number), each.rungs[-1].steps, each.rungs[-1].key) for each in searched]
    top = {candidate_name(each.number): each.rungs[-1].steps for each in found if each.state == "complete"}
    pending += [
        (f"{name}, seed {score.seed}", top[name], score.key)
        for name, scores in again.items()
        for score in scores
        if score.running
    ]
    jobs = {job.key: job for job in jobs_of(attempts, [key for _, _, key in pending])}
    return tuple(Running(name=name, steps=steps, job=jobs.get(key)) for name, steps, key in pending)


def _wanted(asked: Mapping[str, Any], began: Mapping[str, Any]) -> Mapping[str, int] | None:
    """`most` finalists in all, and how many `seeds` of each; None where there is no such round."""
    wanted = asked.get("finalists")
    if wanted is None or wanted.get("each") is None:
        return wanted
    values = from_plain(Knob, began["space"]["knobs"][wanted["each"]]).values() or (None,)
    return {**wanted, "most": wanted["most"] * len(values)}


def _final_round(
    again: Mapping[str, Sequence[FreshScore]], wanted: Mapping[str, int] | None, steps: int, driver: Driver
) -> Kind:
    """The finalists' trainings from step 0. Who they are is known once one has a second seed; until then, the most."""
    fresh = [score for scores in again.values() for score in scores]
    finalists = len(again) if len(fresh) > len(again) else wanted["most"] if wanted else 0
    to_come = finalists * wanted["seeds"] - len(fresh) if wanted and not driver.stopping else 0
    return Kind(
        name="re-scoring",
        keys=frozenset(score.key for score in fresh),
        running=frozenset(score.key for score in fresh if score.running),
        to_come=max(0, to_come),
        size=steps,
    )


def _kinds(
    found: Sequence[StoredCandidate],
    budgets: Sequence[BudgetStatus],
    trials: int | None,
    reduction: int,
    driver: Driver,
) -> list[Kind]:
    """One a budget. Of those to come at a higher one, as many as can be promoted at most."""
    kinds, most, before = [], trials or 0, 0
    for level, budget in enumerate(budgets):
        there = [each for each in found if any(rung.steps == budget.steps for rung in each.rungs)]
        running = (each.rungs[-1] for each in there if each.state == "running" and not _waits(each))
        most = max(most, len(there)) if level == 0 else places(most, reduction, drained=True)
        kinds.append(
            Kind(
                name=f"{budget.steps} steps",
                keys=frozenset(rung.key for each in there for rung in each.rungs if rung.steps == budget.steps),
                running=frozenset(rung.key for rung in running if rung.steps == budget.steps),
                to_come=0 if driver.stopping else max(0, most - len(there)),
                size=budget.steps - before,
            )
        )
        before = budget.steps
    return kinds
