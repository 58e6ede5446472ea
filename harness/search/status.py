"""How a sweep is getting on, told from what its driver and its workers wrote, while they may be writing; and what it
came to, for its page. It only reads. Drawing is elsewhere."""

import re
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.launch.observe import Driver, Estimate, Job, Kind, Pace, driver_of, estimate, jobs_of, pace_of, work_of
from harness.records.errors import UserError
from harness.records.plain import from_plain
from harness.records.sweep_summary import ReasonCount
from harness.search.candidates import HOURS, REASONS, Candidate, FreshScore, candidate_of, rescored_in
from harness.search.halving import places
from harness.search.knobs import Knob, Parameters
from harness.search.pareto import Direction, front_of
from harness.search.study import DEFINITION, FLOOR, read_trials


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredSweep:
    """What the study says now."""

    place: str
    attributes: Mapping[str, Any]  # the study's user attributes
    candidates: tuple[Candidate, ...]


def read_stored(folder: Path, name: str) -> StoredSweep | None:
    """The sweep of this folder; None if none began here. Errors: UserError where it cannot be read."""
    stored = read_trials(folder, name, ("levels", "enqueued", *REASONS))
    if stored is None:
        return None
    candidates = map(candidate_of, stored.trials)
    known = tuple(each for each in candidates if each.levels or each.state == "refused")  # others enqueued the rest
    return StoredSweep(place=stored.place, attributes=stored.attributes, candidates=known)


NUMBER = re.compile(r"(?<![\w.])-?\d+(?:,\d{3})*(?:\.\d+)?(?:e[+-]?\d+)?(?!\w)")


def grouped(sentences: Iterable[str]) -> tuple[ReasonCount, ...]:
    """The reasons, the most frequent first."""
    groups: dict[str, list[list[str]]] = defaultdict(list)
    for sentence in sentences:
        groups[NUMBER.sub("\0", sentence)].append(NUMBER.findall(sentence))
    reasons = [ReasonCount(text=_filled(form, numbers), times=len(numbers)) for form, numbers in groups.items()]
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
    reasons: Mapping[str, tuple[ReasonCount, ...]]  # why refused, stopped, failed: the most frequent first
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


def _status(folder: Path, name: str, stored: StoredSweep, now: float) -> SweepStatus:
    attempts, found = folder / "attempts", stored.candidates
    began: Mapping[str, Any] = stored.attributes.get("began", {})
    asked: Mapping[str, Any] = stored.attributes.get(DEFINITION, {})
    objectives: Mapping[str, Direction] = began.get("objectives", {})
    driver, work = driver_of(attempts), work_of(attempts)
    budgets = _budgets(found, began.get("budgets", ()))
    complete = [each for each in found if each.state == "complete" and each.levels[-1].values is not None]
    best = front_of([each.levels[-1].values or () for each in complete], tuple(objectives.values()))
    again = rescored_in(stored.attributes)
    fresh = [score for scores in again.values() for score in scores]
    gpu_seconds = [result.gpu_seconds for each in found for result in each.levels] + [
        score.gpu_seconds for score in fresh
    ]
    kinds = _kinds(found, budgets, asked.get("trials"), int(began.get("reduction", 2)), driver)
    if budgets:
        kinds.append(_final_round(again, _wanted(asked, began), budgets[-1].steps, driver))
    keys = frozenset(result.key for each in found for result in each.levels) | {score.key for score in fresh}
    end = estimate(work, kinds, driver, now) if "trials" in asked else "its driver did not say how many candidates"
    return SweepStatus(
        name=name,
        place=stored.place,
        driver=driver,
        objectives=objectives,
        trials=asked.get("trials"),
        states=_states(found),
        reasons=reasons_of(found),
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


def reasons_of(candidates: Iterable[Candidate]) -> dict[str, tuple[ReasonCount, ...]]:
    """Refused, stopped, failed -> the reasons."""
    known = list(candidates)
    return {state: grouped(each.reason for each in known if each.state == state) for state in REASONS}


def _states(found: Iterable[Candidate]) -> dict[str, int]:
    names = ("running", MEASUREMENT, PROMOTION, "complete", "stopped", "refused", "failed")
    counted = Counter(_waits(each) or each.state for each in found)
    return {name: counted[name] for name in names}


def _waits(candidate: Candidate) -> str:
    """What a candidate that is not trained at present waits for; empty where it is, or has ended."""
    if candidate.state != "running":
        return ""
    last = candidate.levels[-1]
    return MEASUREMENT if last.awaits else PROMOTION if last.values is not None else ""


def _awaited(found: Iterable[Candidate]) -> dict[str, int]:
    waiting = [each.levels[-1] for each in found if _waits(each) == MEASUREMENT]
    return dict(Counter(name for result in waiting for name in result.awaits))


def _budgets(found: Sequence[Candidate], steps: Iterable[int]) -> tuple[BudgetStatus, ...]:
    levels = [(each, result) for each in found for result in each.levels]
    results = Counter(result.steps for _, result in levels if result.values is not None)
    pending = (
        result for each, result in levels if each.state == "running" and result.values is None and not result.awaits
    )
    running = Counter(result.steps for result in pending)
    return tuple(BudgetStatus(steps=each, results=results[each], running=running[each]) for each in steps)


def _point(candidate: Candidate) -> FrontPoint:
    values = candidate.levels[-1].values or ()
    return FrontPoint(name=candidate.name, values=values, parameters=candidate.parameters)


def _rescored(name: str, scores: Sequence[FreshScore]) -> RescoredStatus:
    counted = Counter("running" if each.running else "failed" if each.failed else "scored" for each in scores)
    return RescoredStatus(name=name, scored=counted["scored"], failed=counted["failed"], running=counted["running"])


def _running(
    attempts: Path, found: Sequence[Candidate], again: Mapping[str, Sequence[FreshScore]]
) -> tuple[Running, ...]:
    searched = [each for each in found if each.state == "running" and not _waits(each)]
    pending = [(each.name, each.levels[-1].steps, each.levels[-1].key) for each in searched]
    top = {each.name: each.levels[-1].steps for each in found if each.state == "complete"}
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
    found: Sequence[Candidate],
    budgets: Sequence[BudgetStatus],
    trials: int | None,
    reduction: int,
    driver: Driver,
) -> list[Kind]:
    """One a budget. Of those to come at a higher one, as many as can be promoted at most."""
    kinds, most, before = [], trials or 0, 0
    for level, budget in enumerate(budgets):
        there = [each for each in found if any(result.steps == budget.steps for result in each.levels)]
        running = (each.levels[-1] for each in there if each.state == "running" and not _waits(each))
        most = max(most, len(there)) if level == 0 else places(most, reduction, drained=True)
        kinds.append(
            Kind(
                name=f"{budget.steps} steps",
                keys=frozenset(result.key for each in there for result in each.levels if result.steps == budget.steps),
                running=frozenset(result.key for result in running if result.steps == budget.steps),
                to_come=0 if driver.stopping else max(0, most - len(there)),
                size=budget.steps - before,
            )
        )
        before = budget.steps
    return kinds
