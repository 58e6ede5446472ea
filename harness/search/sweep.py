"""The driver of a sweep: ask, refuse untrained what a rule or a limit forbids, train the rest, promote the best, tell
as results come. No batch waits for its slowest trial.

A candidate whose measurement is awaited enters its level when that has come; others are trained meanwhile. At the end
the driver waits for the rest, `wait_hours` beyond the last result or measurement at most.

What a trial of the study means stands in `candidates`, who is promoted in `halving`, what the sampler learns from in
`searcher`. Everything is in the study, the store or the jobs' folders before the driver relies on it, so it may be
killed between any two lines: the same command finds the running jobs, collects the finished ones and submits the lost
ones.

It knows neither wall clock nor sleep: the queue waits, the clock is given, so a simulation can drive it.
"""

import itertools
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import optuna

from harness.records.errors import UserError
from harness.records.plain import Plain, to_plain
from harness.records.quantities import better_side, title_of
from harness.records.quantity import value_of
from harness.records.record import TrialRecord
from harness.search.candidates import Candidate, Candidates, LevelResult, Proposal, checkpoints_key
from harness.search.definition import SweepStudy
from harness.search.halving import Level, Retention, places
from harness.search.problem import Placed, Point, Problem, awaited, why_all_are_refused
from harness.search.searcher import Searcher, Unseen
from harness.trials.progress import Show
from harness.trials.queue import POLL_S, Trials
from harness.trials.spec import TrialSpec

HOURS_EVERY_S = 60.0  # how often the hours driven are noted
FILLING_S = 30.0
"""How long candidates are proposed between two polls: until then results wait to be collected, and what was submitted
waits for company, to be one array on Slurm."""


@dataclass(frozen=True, slots=True)
class Ending:
    """Why no more candidates are proposed."""

    reason: str
    halts: bool = False  # nothing is promoted any more either: a limit of time was reached
    mistake: bool = False  # the user must mend something
    failed: bool = False  # all that was trained


class Sweep:
    def __init__(
        self,
        problem: Problem,
        definition: SweepStudy,
        candidates: Candidates,
        queue: Trials,
        clock: Callable[[], float],
        show: Show,
        *,
        floor: float | None = None,
        enqueued: Sequence[Placed] = (),
    ) -> None:
        """`clock` gives Unix seconds; `floor` is what a candidate's first score must beat for it to be promoted, and to
        count at the top budget, needed where there are several budgets and the task has one; `enqueued` are proposed
        before the sampler's own."""
        if problem.top > 0 and floor is None and problem.judging.floor is not None:
            raise ValueError("promotions need a floor")
        self.problem, self.definition, self.candidates = problem, definition, candidates
        self.queue, self.clock, self.show, self.floor = queue, clock, show, floor
        directions, limits = tuple(problem.objectives.values()), problem.levels[0].settings.limits
        sampler, seed = definition.sampler, definition.sampler_seed
        self.searcher = Searcher(
            sampler, seed, directions, problem.space, problem.steps, candidates, problem.scaled, limits
        )
        self._limits = to_plain(limits)
        tried = (each for each in candidates if each.limits is None or each.limits == self._limits)  # others may pass
        self.unseen = Unseen(
            problem.space, lambda parameters: problem.point(parameters).fingerprint, tried, seed + len(candidates)
        )
        self.levels = tuple(Level(definition.reduction) for _ in range(problem.top))
        self.retention = Retention(directions)
        self._enqueued = deque(enqueued)
        self._running: dict[str, Candidate] = {}  # by trial key
        self._refusals: list[str] = []  # reasons, in a row
        self._began = self._noted = self._progress_at = clock()
        self._earlier_hours = candidates.hours

    def run(self) -> Ending:
        """Until `trials` candidates were trained, as far as each deserves, or there are no more, or time is up."""
        ended = sum(bool(each.levels) and each.state != "running" for each in self.candidates)  # under earlier drivers
        with self.driving(total=self.definition.trials - ended if self.problem.top == 0 else None):
            self._recover()
            ending = self._drive()
            if not ending.halts:
                self._stop_waiting(ending)
        if ending.mistake:
            raise UserError(ending.reason)
        return self._with_why_none_is_complete(ending)

    @contextmanager
    def driving(self, *, total: int | None) -> Iterator[None]:
        """The board is shown, and the hours are noted at the end: also at Ctrl-C, and at `harness stop`."""
        with self.show.board(total=total):
            try:
                yield
            except KeyboardInterrupt:
                self.candidates.note_hours(self.hours)
                raise
        self.candidates.note_hours(self.hours)

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
                self.note_progress()
                self._collect(self._running.pop(spec.key), spec, record)
            self.note_hours()
            self.show.running(self.queue.progress())

    def _last_word(self, ending: Ending) -> Ending | None:
        """The ending, when nothing more comes; None while something is trained, or a measurement is waited for."""
        if self.queue.in_flight > 0:
            return None
        if self.queue.awaiting == 0:
            return ending
        if not ending.halts and not ending.mistake and not self.patience_is_over:
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
        """One more candidate, submitted or refused; an Ending when there is nothing more to propose."""
        if self.candidates.submitted >= self.definition.trials:
            return Ending(f"{self.definition.trials} candidates were trained")
        if len(self._refusals) >= self.definition.max_rejections:
            return Ending(self._why_all_are_refused(), mistake=True)
        if self._enqueued:
            placed = self._enqueued.popleft()
            if self.unseen.nearest(placed.parameters) == placed.parameters:
                self._consider(Proposal(parameters=placed.parameters, notes={"enqueued": placed.name}), None)
            return None
        trial = self.searcher.ask()
        parameters = self.unseen.nearest(trial.params)
        if parameters is not None:
            attributes = self.searcher.sampler_attributes(trial)
            self._consider(Proposal(parameters=parameters, sampler_attributes=attributes), trial)
            return None
        self.searcher.discard(trial)
        if not self.unseen.finite:  # the continuum's knobs are asked again
            self._note_refusal("it was tried before")
            return None
        if self.candidates.submitted == 0:
            return Ending(self._why_all_are_refused(), mistake=True)
        return Ending("every candidate of the space was tried: it is exhausted")

    def _consider(self, proposal: Proposal, trial: optuna.Trial | None) -> None:
        """Refuse the candidate, or submit it."""
        try:
            point = self.problem.point(proposal.parameters)
        except UserError as error:
            self._refuse(proposal, str(error), trial)
            return
        gated = self.problem.gate(point)
        proposal = proposal.with_counts(point.fingerprint, gated.violations, gated.values)
        if gated.refusal is not None:
            self._refuse(proposal, gated.refusal, trial, self._limits)
            return
        self._refusals.clear()
        spec = self.problem.spec("", point, 0)
        candidate = self.candidates.submit(proposal, LevelResult(steps=self.problem.steps[0], key=spec.key))
        self.unseen.add(candidate)
        self.searcher.tell(candidate, trial)
        self._submit(candidate, 0, point)

    def _refuse(self, proposal: Proposal, reason: str, trial: optuna.Trial | None, limits: Plain = None) -> None:
        self._note_refusal(reason)
        candidate = self.candidates.refuse(proposal, reason, limits)
        self.unseen.add(candidate)
        self.searcher.tell(candidate, trial)

    def _note_refusal(self, reason: str) -> None:
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
        if (
            record := self.queue.submit(spec)
        ) is not None:  # measured before: by another study, or `again`, for this one
            self._collect(candidate, spec, record, paid=again)
        else:
            self._running[spec.key] = candidate
            self.show.add(spec)

    # results

    def _collect(self, candidate: Candidate, spec: TrialSpec, record: TrialRecord, *, paid: bool = True) -> None:
        """A training ended; not `paid`, for another study."""
        outcome, before = self.problem.outcome(record), candidate.awaiting
        spent = candidate.gpu_seconds_in(record.provenance) if paid else 0.0
        result = LevelResult(
            steps=spec.settings.recipe.steps,
            key=spec.key,
            values=outcome.values,
            stand_in=outcome.stand_in,
            awaits=outcome.awaits,
            score=value_of(record.quantities.get(self.problem.judging.first)),
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
            self.searcher.tell(candidate)

    def _result(self, candidate: Candidate, result: LevelResult) -> None:
        self.candidates.update(candidate, result)
        self.searcher.tell(candidate)
        self._settle(candidate)
        level = self.problem.steps.index(result.steps)
        if level < self.problem.top:
            self._enter(candidate, level)
            for number in self.levels[level].never_promoted(max(self._expected(level), self.levels[level].results)):
                self._stop(self.candidates[number], "more candidates are better in everything than can be promoted")

    def _settle(self, candidate: Candidate) -> None:
        """A candidate whose last result decides: it is complete, and counts if it is better than the floor; or it is
        stopped, being no better."""
        last = candidate.levels[-1]
        if last.steps == self.problem.steps[-1]:
            self.candidates.complete(candidate, beaten="" if self._beats_floor(last) else self._why_below(last))
            self.problem.drop_checkpoints(self.retention.complete(candidate))
        elif not self._beats_floor(last):
            self._stop(candidate, self._why_below(last), waiting=False)

    def _enter(self, candidate: Candidate, level: int) -> None:
        """Into the competition for the next budget: a result, new or of an earlier driver."""
        result = next(each for each in candidate.levels if each.steps == self.problem.steps[level])
        if result.values is None:
            return
        promoted = len(candidate.levels) > level + 1
        eligible = promoted or (candidate.state == "running" and self._beats_floor(result))
        self.levels[level].add(candidate.number, self.problem.losses(result.values), eligible=eligible)
        if promoted:
            self.levels[level].promote(candidate.number)

    def _beats_floor(self, result: LevelResult) -> bool:
        """Anything does, where the task has none, and where a sweep with one budget could not know it."""
        return not self.problem.judging.is_beaten(result.score, self.floor)

    def _why_below(self, last: LevelResult) -> str:
        judging = self.problem.judging
        assert judging.floor is not None
        title, side = title_of(judging.first), better_side(judging.first)
        had = f"it has no {title}"
        if last.score is not None:
            had = f"its {title} of {last.score:.4g} is not {side} {self.floor:.4g}"
        return f"{had}, which {judging.floor.what} reaches"

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
        self._forget(candidate)

    def _stop(self, candidate: Candidate, reason: str, *, waiting: bool = True) -> None:
        """It will not be promoted."""
        if waiting:
            self.levels[self.problem.steps.index(candidate.levels[-1].steps)].withdraw(candidate.number)
        self.candidates.stop(candidate, reason)
        self._forget(candidate)

    def _forget(self, candidate: Candidate) -> None:
        self.searcher.tell(candidate)
        self.problem.drop_checkpoints([checkpoints_key(candidate)])

    def _stop_waiting(self, ending: Ending) -> None:
        """When the sweep ends, nobody is promoted any more."""
        for level in self.levels:
            for number in sorted(level.waiting):
                self._stop(self.candidates[number], f"not among the best when the sweep ended: {ending.reason}")

    def _with_why_none_is_complete(self, ending: Ending) -> Ending:
        """The ending, and the reason where that is the floor, or that all have failed."""
        trained = [each for each in self.candidates if each.levels]
        failed = [each for each in trained if each.state == "failed"]
        if failed and len(failed) == len(trained):
            why = f"all {len(failed):,} failed, the last because {failed[-1].reason}"
            return replace(ending, reason=f"{ending.reason}; {why}", failed=True)
        if ending.halts or self.floor is None or any(each.state == "complete" and not each.beaten for each in trained):
            return ending
        low = sum(each.state != "failed" and not self._beats_floor(each.levels[-1]) for each in trained)
        first = self.problem.judging.first
        why = f"{low} of {len(trained)} are not {better_side(first)} the floor, a {title_of(first)} of {self.floor:.4g}"
        none = "no complete one counts" if any(each.beaten for each in trained) else "none is complete"
        longer = "the budgets" if self.problem.top > 0 else "recipe.steps"
        return replace(ending, reason=f"{ending.reason}; {none}, {why}: raise {longer}")

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

    def note_progress(self) -> None:
        """A training ended, or a measurement came."""
        self._progress_at = self.clock()

    @property
    def patience_is_over(self) -> bool:
        """Whether measurements were awaited in vain for `wait_hours`."""
        return self.clock() - self._progress_at >= 3600 * self.definition.wait_hours

    def note_hours(self) -> None:
        if self.clock() - self._noted >= HOURS_EVERY_S:
            self._noted = self.clock()
            self.candidates.note_hours(self.hours)

    def _why_all_are_refused(self) -> str:
        """Why none of those refused in a row can be trained; of those that an earlier driver refused, all."""
        count = len(self._refusals) or len(self.candidates)
        refused = list(itertools.islice(self.candidates.newest(), count))
        reasons = self._refusals or [each.reason for each in reversed(refused)]
        return why_all_are_refused(refused, reasons, self.problem.levels[0].settings.limits)
