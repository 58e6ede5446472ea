"""The driver of a sweep: ask, refuse untrained what a rule or a limit forbids, train the rest, promote the best, tell
as results come. No batch waits for its slowest trial.

A candidate whose measurement is awaited enters its level when that has come; others are trained meanwhile. At the end
the driver waits for the rest, `wait_hours` beyond the last news at most.

What a trial of the study means is said in `candidates`, who is promoted in `halving`, what the sampler learns from in
`searcher`. Everything is in the study, the store or the jobs' folders before the driver relies on it, so it may be
killed between any two lines: the same command finds the running jobs, collects the finished ones and submits the lost
ones.

It knows neither wall clock nor sleep: the queue waits, the clock is given, so a simulation can drive it.
"""

import itertools
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeAlias

import optuna

from harness.records.errors import UserError
from harness.records.plain import Plain, to_plain
from harness.records.quantity import value_of
from harness.records.record import TrialRecord
from harness.search.candidates import Candidate, Candidates, LevelResult, Proposal, checkpoints_key
from harness.search.definition import SweepStudy
from harness.search.halving import Level, Retention, places
from harness.search.problem import Placed, Point, Problem, unmet
from harness.search.searcher import Searcher, Unseen
from harness.trials.progress import Show
from harness.trials.queue import POLL_S, Trials
from harness.trials.spec import TrialSpec


class Patience:
    def __init__(self, clock: Callable[[], float], hours: float) -> None:
        """`clock` gives seconds. It is over when nothing was heard for so many hours."""
        self._clock, self._hours, self._last = clock, hours, clock()

    def heard(self) -> None:
        """Something: a training ended, or a measurement came."""
        self._last = self._clock()

    @property
    def is_over(self) -> bool:
        return self._clock() - self._last >= 3600 * self._hours


def awaited(count: int) -> str:
    """`2 candidates await a measurement: ...`"""
    who = "1 candidate awaits" if count == 1 else f"{count:,} candidates await"
    return (
        f"{who} a measurement: the same command goes on when it has come, and with it (`harness latency queue` says "
        "what keeps it)"
    )


Clock: TypeAlias = Callable[[], float]
"""Unix seconds."""

HOURS_EVERY_S = 60.0  # how often the hours driven are noted
FILLING_S = 30.0
"""How long candidates are asked for between two polls: until then results wait to be told, and what was submitted waits
for company, to be one array on Slurm."""


@dataclass(frozen=True, slots=True)
class Ending:
    """Why no more candidates are asked for."""

    reason: str
    halts: bool = False  # nothing is promoted any more either: a limit of time was reached
    mistake: bool = False  # the user must mend something


class Sweep:
    def __init__(
        self,
        problem: Problem,
        definition: SweepStudy,
        candidates: Candidates,
        queue: Trials,
        clock: Clock,
        show: Show,
        *,
        floor: float | None = None,
        enqueued: Sequence[Placed] = (),
    ) -> None:
        """`floor` is the KID that a candidate must be below to be promoted; asked for where there are several budgets.
        `enqueued` are proposed before the sampler is asked."""
        if problem.top > 0 and floor is None:
            raise ValueError("promotions need a floor")
        self.problem, self.definition, self.candidates = problem, definition, candidates
        self.queue, self.clock, self.show, self.floor = queue, clock, show, floor
        self.searcher = Searcher(
            definition.sampler,
            definition.sampler_seed,
            tuple(problem.objectives.values()),
            problem.space,
            problem.steps,
            candidates,
            problem.scaled,
            problem.levels[0].settings.limits,
        )
        fingerprint = partial(_fingerprint, problem)
        self._limits = to_plain(problem.levels[0].settings.limits)
        met = (each for each in candidates if each.limits is None or each.limits == self._limits)  # others may pass now
        self.unseen = Unseen(problem.space, fingerprint, met, definition.sampler_seed + len(candidates))
        self.levels = tuple(Level(definition.reduction) for _ in range(problem.top))
        self.retention = Retention(tuple(problem.objectives.values()))
        self._enqueued = deque(enqueued)
        self._running: dict[str, Candidate] = {}  # by trial key
        self._refusals: list[str] = []  # reasons, in a row
        self._began, self._earlier_hours, self._noted = clock(), candidates.hours, clock()
        self.patience = Patience(clock, definition.wait_hours)

    def run(self) -> Ending:
        """Until `trials` candidates were trained, as far as each deserves, or there are no more, or time is up."""
        ended = sum(bool(each.levels) and each.state != "running" for each in self.candidates)  # under earlier drivers
        with self.show.board(total=self.definition.trials - ended if self.problem.top == 0 else None):
            try:
                self._recover()
                ending = self._drive()
            except KeyboardInterrupt:  # Ctrl-C, or `harness stop`
                self.candidates.note_hours(self.hours)
                raise
            if not ending.halts:
                self._stop_waiting(ending)
        self.candidates.note_hours(self.hours)
        if ending.mistake:
            raise UserError(ending.reason)
        return self._with_the_floor(ending)

    @property
    def hours(self) -> float:
        """For which drivers of this study ran, all together."""
        return self._earlier_hours + (self.clock() - self._began) / 3600

    # the loop

    def _drive(self) -> Ending:
        ending: Ending | None = None
        while True:
            ending, more = self._fill(ending)
            if ending is not None and not more and (last := self._last_word(ending)) is not None:
                return last
            for spec, record in self.queue.poll(0.0 if more else POLL_S):
                self.patience.heard()
                self._tell(self._running.pop(spec.key), spec, record)
            self.note_hours()
            self.show.running(self.queue.progress())

    def _last_word(self, ending: Ending) -> Ending | None:
        """The ending, when nothing more comes; None while something is trained, or a measurement is waited for."""
        if self.queue.in_flight > 0:
            return None
        if self.queue.awaiting == 0:
            return ending
        if not ending.halts and not ending.mistake and not self.patience.is_over:
            return None
        return replace(ending, reason=f"{ending.reason}; {awaited(self.queue.awaiting)}", halts=True)

    def _fill(self, ending: Ending | None) -> tuple[Ending | None, bool]:
        """Submit while there is room. True: there may be more to do, but it is time to poll."""
        began = self.clock()
        while self.queue.free > 0:
            if self.clock() - began >= FILLING_S:
                return ending, True
            ending = self.time_is_up() or ending
            if ending is not None and ending.halts:
                break
            if self._promote():
                continue
            if ending is None:
                ending = self._propose()
            elif self.queue.in_flight + self.queue.awaiting > 0 or not self._promote(drained=True):
                break
        return ending, False

    def _propose(self) -> Ending | None:
        """One more candidate, submitted or refused; an Ending when there is nothing more to ask for."""
        if self.candidates.submitted >= self.definition.trials:
            return Ending(f"{self.definition.trials} candidates were trained")
        if len(self._refusals) >= self.definition.max_rejections:
            return Ending(self._unmet(), mistake=True)
        if self._enqueued:
            placed = self._enqueued.popleft()
            if self.unseen.nearest(placed.parameters) == placed.parameters:
                self._consider(Proposal(parameters=placed.parameters, notes={"enqueued": placed.name}), None)
            return None
        asked = self.searcher.ask()
        parameters = self.unseen.nearest(asked.params)
        if parameters is not None:
            self._consider(Proposal(parameters=parameters, sampler_attributes=self.searcher.noted(asked)), asked)
            return None
        self.searcher.give_up(asked)
        if self.unseen.finite:
            if self.candidates.submitted == 0:
                return Ending(self._unmet(), mistake=True)
            return Ending("every candidate of the space was met: it is exhausted")
        self._lengthen("it was met before")  # the continuum's knobs are asked again
        return None

    def _consider(self, proposal: Proposal, asked: optuna.Trial | None) -> None:
        """Refuse the candidate, or submit it."""
        try:
            point = self.problem.point(proposal.parameters)
        except UserError as error:
            self._refuse(proposal, str(error), asked)
            return
        gated = self.problem.gate(point)
        proposal = proposal.known(point.fingerprint, gated.violations, gated.values)
        if gated.refusal is not None:
            self._refuse(proposal, gated.refusal, asked, self._limits)
            return
        self._refusals.clear()
        spec = self.problem.spec("", point, 0)
        candidate = self.candidates.submit(proposal, LevelResult(steps=self.problem.steps[0], key=spec.key))
        self.unseen.meet(candidate)
        self.searcher.follow(candidate, asked)
        self._submit(candidate, 0, point)

    def _refuse(self, proposal: Proposal, reason: str, asked: optuna.Trial | None, limits: Plain = None) -> None:
        self._lengthen(reason)
        candidate = self.candidates.refuse(proposal, reason, limits)
        self.unseen.meet(candidate)
        self.searcher.follow(candidate, asked)

    def _lengthen(self, reason: str) -> None:
        """The row of candidates that are not trained."""
        self._refusals.append(reason)
        self.show.refused(len(self._refusals), reason)

    def _promote(self, *, drained: bool = False) -> bool:
        """Submit one candidate to its next budget, the highest budgets first; False if none is to be promoted now.

        `drained`: no more candidates come, nothing runs and no measurement is awaited, so no budget below those waiting
        will have more results.
        """
        for level in range(self.problem.top) if drained else reversed(range(self.problem.top)):
            number = self.levels[level].next(drained=drained)
            if number is not None:
                candidate = self.candidates[number]
                point = self.problem.point(candidate.parameters)
                key = self.problem.spec("", point, level + 1).key
                self.candidates.update(candidate, LevelResult(steps=self.problem.steps[level + 1], key=key))
                self.levels[level].promote(number)
                self._submit(candidate, level + 1, point)
                return True
        return False

    def _submit(self, candidate: Candidate, level: int, point: Point, *, again: bool = False) -> None:
        spec = self.problem.spec(candidate.name, point, level)
        record = self.queue.submit(spec)
        if record is not None:  # measured before: by another study, or `again`, for this one
            self._tell(candidate, spec, record, paid=again)
        else:
            self._running[spec.key] = candidate
            self.show.add(spec)

    # results

    def _tell(self, candidate: Candidate, spec: TrialSpec, record: TrialRecord, *, paid: bool = True) -> None:
        """A training ended; not `paid`, for another study."""
        outcome, before = self.problem.outcome(record), candidate.awaiting
        spent = _spent_gpu_seconds(candidate, record) if paid else 0.0
        result = LevelResult(
            steps=spec.settings.recipe.steps,
            key=spec.key,
            values=outcome.values,
            stand_in=outcome.stand_in,
            awaits=outcome.awaits,
            kid=value_of(record.quantities.get("kid")),
            gpu_seconds=spent if before is None else before.gpu_seconds,
        )
        if outcome.failed:
            self._fail(candidate, result, outcome.failed)
        elif outcome.awaits:
            self._wait(candidate, spec, result)
        else:
            self._result(candidate, result)
        self.show.ended(spec, record)
        if record.state == "complete" and outcome.failed:
            self.show.note(f"{candidate.name} has failed: {outcome.failed}")

    def _wait(self, candidate: Candidate, spec: TrialSpec, result: LevelResult) -> None:
        """Trained, and not measured yet: others are trained meanwhile."""
        self._running[spec.key] = candidate
        self.queue.expect(spec)
        if result != candidate.levels[-1]:
            self.candidates.update(candidate, result)
            if result.stand_in is not None:
                self.searcher.learn(candidate)

    def _result(self, candidate: Candidate, result: LevelResult) -> None:
        self.candidates.update(candidate, result)
        self.searcher.learn(candidate)
        self._settle(candidate)
        level = self.problem.steps.index(result.steps)
        if level < self.problem.top:
            self._enter(candidate, level)
            for number in self.levels[level].never_promoted(max(self._expected(level), self.levels[level].results)):
                self._stop(self.candidates[number], "more candidates are better in everything than can be promoted")

    def _settle(self, candidate: Candidate) -> None:
        """A candidate whose last result decides: it is complete, or no better than the floor."""
        last = candidate.levels[-1]
        if last.steps == self.problem.steps[-1]:
            self.candidates.complete(candidate)
            self.problem.drop_checkpoints(self.retention.complete(candidate))
        elif not self._above_floor(last):
            had = "it has no KID" if last.kid is None else f"its KID of {last.kid:.4g} is not below {self.floor:.4g}"
            self._stop(candidate, f"{had}, which a Gaussian fitted to the pixels reaches", waiting=False)

    def _enter(self, candidate: Candidate, level: int) -> None:
        """Into the competition for the next budget: a result, new or of an earlier driver."""
        result = next(each for each in candidate.levels if each.steps == self.problem.steps[level])
        if result.values is None:
            return
        promoted = len(candidate.levels) > level + 1
        eligible = promoted or (candidate.state == "running" and self._above_floor(result))
        self.levels[level].add(candidate.number, self.problem.losses(result.values), eligible=eligible)
        if promoted:
            self.levels[level].promote(candidate.number)

    def _above_floor(self, result: LevelResult) -> bool:
        return self.floor is not None and result.kid is not None and result.kid < self.floor

    def _expected(self, level: int) -> int:
        """Results at this level when all candidates were trained, at most."""
        expected = max(self.definition.trials, self.candidates.submitted)
        for _ in range(level):
            expected = places(expected, self.definition.reduction, drained=True)
        return expected

    def _fail(self, candidate: Candidate, result: LevelResult, reason: str) -> None:
        bare = replace(result, values=None, stand_in=None, awaits=())
        if bare != candidate.levels[-1]:
            self.candidates.update(candidate, bare)
        self.candidates.fail(candidate, reason)
        self.searcher.end(candidate)
        self.problem.drop_checkpoints([checkpoints_key(candidate)])

    def _stop(self, candidate: Candidate, reason: str, *, waiting: bool = True) -> None:
        """It will not be promoted."""
        if waiting:
            self.levels[self.problem.steps.index(candidate.levels[-1].steps)].withdraw(candidate.number)
        self.candidates.stop(candidate, reason)
        self.searcher.end(candidate)
        self.problem.drop_checkpoints([checkpoints_key(candidate)])

    def _stop_waiting(self, ending: Ending) -> None:
        """When the sweep ends, nobody is promoted any more."""
        for level in self.levels:
            for number in sorted(level.waiting):
                self._stop(self.candidates[number], f"not among the best when the sweep ended: {ending.reason}")

    def _with_the_floor(self, ending: Ending) -> Ending:
        """The ending, and why nothing is complete if the floor is the reason."""
        if ending.halts or self.floor is None or any(each.state == "complete" for each in self.candidates):
            return ending
        low = sum(bool(each.levels) and not self._above_floor(each.levels[-1]) for each in self.candidates)
        said = f"{low} of {self.candidates.submitted} are not below the floor, a KID of {self.floor:.4g}"
        return replace(ending, reason=f"{ending.reason}; none is complete, {said}: raise the budgets")

    # earlier drivers, limits

    def _recover(self) -> None:
        """What an earlier driver left: its results count, and what it submitted is submitted again (finished ones come
        at once)."""
        for candidate in self.candidates:
            for level in range(min(len(candidate.levels), self.problem.top)):
                self._enter(candidate, level)
            if candidate.state == "complete":
                self.retention.complete(candidate)
        for candidate in self.candidates.running():
            if (result := candidate.in_flight or candidate.awaiting) is not None:
                point = self.problem.point(candidate.parameters)
                self._submit(candidate, self.problem.steps.index(result.steps), point, again=True)
            else:
                self._settle(candidate)
        kept = self.retention.kept(self.candidates.running())  # a kill between a candidate's end and its folder's
        self.problem.drop_checkpoints({folder.name for folder in self.problem.checkpoints.glob("*")} - kept)

    def time_is_up(self) -> Ending | None:
        hours, gpu_hours = self.definition.hours, self.definition.gpu_hours
        if hours is not None and self.hours >= hours:
            return Ending(f"the sweep ran for its {hours:g} hours; hours=... lets it go on", halts=True)
        if gpu_hours is not None and self.candidates.gpu_seconds >= 3600 * gpu_hours:
            return Ending(f"its {gpu_hours:g} GPU-hours are spent; gpu_hours=... lets it go on", halts=True)
        return None

    def note_hours(self) -> None:
        if self.clock() - self._noted >= HOURS_EVERY_S:
            self._noted = self.clock()
            self.candidates.note_hours(self.hours)

    def _unmet(self) -> str:
        """Why none of those refused in a row can be trained; of those that an earlier driver refused, all."""
        count = len(self._refusals) or len(self.candidates)
        refused = list(itertools.islice(self.candidates.newest(), count))
        reasons = self._refusals or [each.reason for each in reversed(refused)]
        return unmet(refused, reasons, self.problem.levels[0].settings.limits)


def _fingerprint(problem: Problem, parameters: dict[str, object]) -> str:
    return problem.point(parameters).fingerprint  # type: ignore[arg-type]


def _spent_gpu_seconds(candidate: Candidate, record: TrialRecord) -> float:
    """On an accelerator at this budget: a record counts from the first step, whatever budget that was at."""
    spent = float(record.provenance.get("gpu_seconds", 0.0))
    if set(record.provenance.get("continued_from", ())) & {result.steps for result in candidate.levels[:-1]}:
        spent -= sum(result.gpu_seconds for result in candidate.levels[:-1])
    return max(0.0, spent)
