"""How a sweep is getting on, told from what its driver and its workers wrote, while they may be writing; and what it
came to, for its page. It only reads. Drawing is elsewhere."""

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from optuna.distributions import IntDistribution

from harness.launch.observe import (
    Driver,
    Job,
    JobGroup,
    Pace,
    TimeLeft,
    WorkLog,
    driver_of,
    jobs_of,
    pace_of,
    time_left,
    work_log_of,
)
from harness.records.better import front_of
from harness.records.conclusions import Conclusions
from harness.records.errors import UserError
from harness.records.plain import from_plain
from harness.records.record import Protocol
from harness.records.sweep_summary import (
    CandidateSummary,
    KnobSummary,
    LevelSummary,
    ReasonCount,
    SweepSummary,
    grouped,
)
from harness.search.candidates import BEATEN, HOURS, REASONS, Candidate, FreshScore, candidate_of, rescored_in
from harness.search.halving import places
from harness.search.knob import Knob, Parameters
from harness.search.pareto import Direction
from harness.search.study import DEFINITION, FLOOR, SAMPLERS_USED, read_trials, stored_study
from harness.trials.claims import Claims
from harness.trials.task_config import task_of


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredSweep:
    """What the study says now."""

    place: str
    attributes: Mapping[str, Any]  # the study's user attributes
    candidates: tuple[Candidate, ...]
    began: Mapping[str, Any]
    definition: Mapping[str, Any]  # of the last driver
    rescored: Mapping[str, tuple[FreshScore, ...]]  # finalist -> its scores

    @property
    def objectives(self) -> Mapping[str, Direction]:
        objectives: Mapping[str, Direction] = self.began.get("objectives", {})
        return objectives

    @property
    def floor(self) -> float | None:
        return self.attributes.get(FLOOR)

    @property
    def hours(self) -> float:
        return float(self.attributes.get(HOURS, 0.0))

    @property
    def front(self) -> list[Candidate]:
        """Of the complete ones within their limits and better than the floor, by the search's own values."""
        complete = [each for each in self.candidates if each.may_win and each.levels[-1].values is not None]
        values = [each.levels[-1].values or () for each in complete]
        return [complete[at] for at in front_of(values, tuple(self.objectives.values()))]

    @property
    def fresh(self) -> list[FreshScore]:
        return [score for scores in self.rescored.values() for score in scores]

    @property
    def gpu_hours(self) -> float:
        levels = [level.gpu_seconds for each in self.candidates for level in each.levels]
        return (sum(levels) + sum(score.gpu_seconds for score in self.fresh)) / 3600

    @property
    def reasons(self) -> dict[str, tuple[ReasonCount, ...]]:
        """Refused, stopped, failed, beaten -> the reasons."""
        reasons = {state: grouped(each.reason for each in self.candidates if each.state == state) for state in REASONS}
        return {**reasons, BEATEN: grouped(each.beaten for each in self.candidates if each.beaten)}


def read_stored(folder: Path, name: str) -> StoredSweep | None:
    """The sweep of this folder; None if none began here. Errors: UserError where it cannot be read."""
    stored = read_trials(folder, name, ("levels", "enqueued", BEATEN, *REASONS))
    if stored is None:
        return None
    candidates = map(candidate_of, stored.trials)
    return StoredSweep(
        place=stored.place,
        attributes=stored.attributes,
        candidates=tuple(
            each for each in candidates if each.levels or each.state == "refused"
        ),  # others enqueued the rest
        began=stored.attributes.get("began", {}),
        definition=stored.attributes.get(DEFINITION, {}),
        rescored=rescored_in(stored.attributes),
    )


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
    job: Job | None  # None: it waits for room, or for another study
    other_study: str = ""  # that trains it


@dataclass(frozen=True, kw_only=True, slots=True)
class RescoredStatus:
    """A finalist's trainings with fresh seeds."""

    name: str
    scored: int
    failed: int
    running: int


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepStatus:
    kind: ClassVar[str] = "sweep"

    name: str
    place: str  # of the study
    driver: Driver
    objectives: Mapping[str, Direction]
    trials: int | None  # candidates to be trained in all
    states: Mapping[str, int]  # candidates
    reasons: Mapping[str, tuple[ReasonCount, ...]]  # why refused, stopped, failed, beaten: the most frequent first
    budgets: tuple[BudgetStatus, ...]  # lowest first
    awaited: Mapping[str, int]  # objective -> how many candidates wait for a queue to bring it
    score: str  # that ranks: what the floor is of
    floor: float | None  # what a candidate has to beat, to be promoted and to count
    front: tuple[FrontPoint, ...]  # of the complete ones, by the search's own values
    rescored: tuple[RescoredStatus, ...]  # the finalists
    running: tuple[Running, ...]
    pace: Pace | None
    end: TimeLeft | None
    end_unknown: str  # why there is no estimate
    hours: float  # of driving, noted each minute
    hours_limit: float | None
    gpu_hours: float
    gpu_hours_limit: float | None
    remarks: tuple[str, ...] = ()

    @property
    def all_jobs(self) -> tuple[Job, ...]:
        """Those that are known of."""
        return tuple(each.job for each in self.running if each.job is not None)


def sweep_status(folder: Path, name: str) -> SweepStatus | None:
    """Of the sweep in this folder, now; None if none began here. Errors: UserError where the folder is damaged."""
    stored = read_stored(folder, name)
    if stored is None:
        return None
    with _readable(stored):
        return _status(folder, name, stored, time.time())


@contextmanager
def _readable(stored: StoredSweep) -> Iterator[None]:
    """What a study of another version lacks, or has otherwise, is one sentence."""
    try:
        yield
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{stored.place} is no study that this version can read: {type(error).__name__} {error}"
        ) from error


def _status(folder: Path, name: str, stored: StoredSweep, now: float) -> SweepStatus:
    attempts, candidates, definition = folder / "attempts", stored.candidates, stored.definition
    driver, work = driver_of(attempts), work_log_of(attempts)
    budgets = _budgets(candidates, stored.began.get("budgets", ()))
    kinds = _kinds(candidates, budgets, definition.get("trials"), int(stored.began.get("reduction", 2)), driver)
    if budgets:
        kinds.append(_final_round(stored.rescored, _finalists(stored), budgets[-1].steps, driver))
    keys = frozenset(level.key for each in candidates for level in each.levels) | {score.key for score in stored.fresh}
    end = (
        time_left(work, kinds, driver, now) if "trials" in definition else "its driver did not say how many candidates"
    )
    return SweepStatus(
        name=name,
        place=stored.place,
        driver=driver,
        objectives=stored.objectives,
        trials=definition.get("trials"),
        states=_states(candidates),
        reasons=stored.reasons,
        budgets=budgets,
        awaited=dict(Counter(name for each in candidates if each.awaiting for name in each.awaiting.awaits)),
        score=task_of(stored.began.get("protocol", {})).judging.first,
        floor=stored.floor,
        front=tuple(map(_point, stored.front)),
        rescored=tuple(_rescored(name, scores) for name, scores in stored.rescored.items()),
        running=_running(attempts, candidates, stored.rescored, work),
        pace=pace_of(work, keys, driver, now),
        end=end if isinstance(end, TimeLeft) else None,
        end_unknown=end if isinstance(end, str) else "",
        hours=stored.hours,
        hours_limit=definition.get("hours"),
        gpu_hours=stored.gpu_hours,
        gpu_hours_limit=definition.get("gpu_hours"),
        remarks=(work.damage,) if work.damage else (),
    )


def _states(candidates: Iterable[Candidate]) -> dict[str, int]:
    names = ("running", MEASUREMENT, PROMOTION, "complete", "stopped", "refused", "failed")
    counted = Counter(_state(each) for each in candidates)
    return {name: counted[name] for name in names}


def _state(candidate: Candidate) -> str:
    """Its state, or what it waits for."""
    if candidate.state != "running" or candidate.in_flight:
        return candidate.state
    return MEASUREMENT if candidate.awaiting else PROMOTION


def _budgets(candidates: Sequence[Candidate], steps: Iterable[int]) -> tuple[BudgetStatus, ...]:
    results = Counter(level.steps for each in candidates for level in each.levels if level.values is not None)
    running = Counter(each.in_flight.steps for each in candidates if each.in_flight)
    return tuple(BudgetStatus(steps=each, results=results[each], running=running[each]) for each in steps)


def _point(candidate: Candidate) -> FrontPoint:
    values = candidate.levels[-1].values or ()
    return FrontPoint(name=candidate.name, values=values, parameters=candidate.parameters)


def _rescored(name: str, scores: Sequence[FreshScore]) -> RescoredStatus:
    counted = Counter("running" if each.running else "failed" if each.failed else "scored" for each in scores)
    return RescoredStatus(name=name, scored=counted["scored"], failed=counted["failed"], running=counted["running"])


def _running(
    attempts: Path, candidates: Sequence[Candidate], rescored: Mapping[str, Sequence[FreshScore]], work: WorkLog
) -> tuple[Running, ...]:
    pending = [(each.name, each.in_flight.steps, each.in_flight.key) for each in candidates if each.in_flight]
    top = {each.name: each.levels[-1].steps for each in candidates if each.state == "complete"}
    pending += [
        (f"{name}, seed {score.seed}", top[name], score.key)
        for name, scores in rescored.items()
        for score in scores
        if score.running
    ]
    jobs = {job.key: job for job in jobs_of(attempts, [key for _, _, key in pending], work)}
    claims = Claims(attempts.parent.parent / "store", attempts)
    others = {key: claims.holder(key) or "" for _, _, key in pending if key not in jobs}
    return tuple(
        Running(name=name, steps=steps, job=jobs.get(key), other_study=others.get(key, ""))
        for name, steps, key in pending
    )


def _finalists(stored: StoredSweep) -> Mapping[str, int] | None:
    """`most` finalists in all, and how many `seeds` of each; None where there is no such round."""
    setting = stored.definition.get("finalists")
    if setting is None or setting.get("each") is None:
        return setting
    values = from_plain(Knob, stored.began["space"]["knobs"][setting["each"]]).values() or (None,)
    return {**setting, "most": setting["most"] * len(values)}


def _final_round(
    rescored: Mapping[str, Sequence[FreshScore]], setting: Mapping[str, int] | None, steps: int, driver: Driver
) -> JobGroup:
    """The finalists' trainings from step 0. Who they are is known once one has a second seed; until then, the most."""
    fresh = [score for scores in rescored.values() for score in scores]
    finalists = len(rescored) if len(fresh) > len(rescored) else setting["most"] if setting else 0
    to_come = finalists * setting["seeds"] - len(fresh) if setting and not driver.stopping else 0
    return JobGroup(
        name="re-scoring",
        keys=frozenset(score.key for score in fresh),
        running=frozenset(score.key for score in fresh if score.running),
        to_come=max(0, to_come),
        size=steps,
    )


def _kinds(
    candidates: Sequence[Candidate], budgets: Sequence[BudgetStatus], trials: int | None, reduction: int, driver: Driver
) -> list[JobGroup]:
    """One a budget. Of those to come at a higher one, as many as can be promoted at most."""
    kinds, most, before = [], trials or 0, 0
    for level, budget in enumerate(budgets):
        keys = [result.key for each in candidates for result in each.levels if result.steps == budget.steps]
        running = (each.in_flight for each in candidates if each.in_flight)
        most = max(most, len(keys)) if level == 0 else places(most, reduction, drained=True)
        kinds.append(
            JobGroup(
                name=f"{budget.steps} steps",
                keys=frozenset(keys),
                running=frozenset(result.key for result in running if result.steps == budget.steps),
                to_come=0 if driver.stopping else max(0, most - len(keys)),
                size=budget.steps - before,
            )
        )
        before = budget.steps
    return kinds


def sweep_summary(folder: Path, name: str) -> SweepSummary:
    """Of the sweep in this folder. Errors: UserError where it has no study, or a damaged one."""
    from harness.search.finalists import conclude  # loads torch, and a look at the status needs none

    stored, study = read_stored(folder, name), stored_study(folder, name)
    if stored is None or study is None or not stored.began:
        raise UserError(f"the sweep in {folder} has no study yet; `harness sweep {name}` begins it")
    with _readable(stored):
        return _summary_of(folder, name, stored, conclude(study))


def _summary_of(folder: Path, name: str, stored: StoredSweep, conclusions: Conclusions | None) -> SweepSummary:
    driver, began, definition = driver_of(folder / "attempts"), stored.began, stored.definition
    return SweepSummary(
        name=name,
        place=stored.place,
        command=driver.command or f"harness sweep {name}",
        driver_runs=driver.runs,
        objectives=stored.objectives,
        levels=tuple(began["budgets"]),
        samplers=tuple(stored.attributes.get(SAMPLERS_USED, ())),
        seed=int(began["seed"]),
        trials=definition.get("trials"),
        candidates=tuple(map(_summary, stored.candidates)),
        front=tuple(each.name for each in stored.front),
        reasons=stored.reasons,
        conclusions=conclusions,
        protocol=began["protocol"],
        protocol_fingerprint=Protocol(sections=began["protocol"]).fingerprint,
        knobs=_knobs(began),
        reduction=int(began.get("reduction", 2)),
        twin=definition.get("twin"),
        judging=task_of(began["protocol"]).judging,
        floor=stored.floor,
        hours=stored.hours,
        gpu_hours=stored.gpu_hours,
        report=definition.get("report"),
    )


def _summary(candidate: Candidate) -> CandidateSummary:
    """At the highest level of which the values are known; where none are, at the one where it is trained."""
    levels = [level for level in candidate.levels if level.values is not None] or candidate.levels
    return CandidateSummary(
        name=candidate.name,
        state=candidate.state,
        parameters=candidate.parameters,
        steps=levels[-1].steps if levels else 0,
        key=levels[-1].key if levels else "",
        values=levels[-1].values if levels else None,
        reason=candidate.reason or candidate.beaten,
        beaten=bool(candidate.beaten),
        rung=candidate.enqueued,
        levels=tuple(
            LevelSummary(steps=level.steps, values=level.values, gpu_seconds=level.gpu_seconds)
            for level in candidate.levels
        ),
    )


def _knobs(began: Mapping[str, Any]) -> dict[str, KnobSummary]:
    knobs = began.get("space", {}).get("knobs", {})
    return {name: _knob(from_plain(Knob, content, where=f"knobs.{name}")) for name, content in knobs.items()}


def _knob(knob: Knob) -> KnobSummary:
    if knob.range is None:
        return KnobSummary(choices=knob.values() or (), when=knob.when)
    low, high = knob.range
    whole = isinstance(knob.distribution(), IntDistribution)
    return KnobSummary(low=low, high=high, log=knob.log, step=knob.step, whole=whole, when=knob.when)
