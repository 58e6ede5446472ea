"""The last round of a sweep: its finalists are trained again with fresh seeds, scored with fresh samples, and compared.

A search shows the best of many noisy scores, and the best of them is partly the luckiest: E[min x_i] <= min E[x_i]
(the winner's curse). The mean of the fresh scores chose nobody, and has no such bias. It stands beside the search's
value, which stays as it was. Whoever takes the best of those means chooses again, of a few and with a smaller spread;
hence ties are shown. Fresh number n is the seed of a training and the seed of its samples' noise (`sampling.seed`);
neither is the search's. So k scores of one candidate are independent, and two candidates at one number share images'
order and samples' noise.

The trainings go through the same queue as all else: what the store has is not trained, a killed driver's jobs are
found, and the sweep's limits of time hold. Every candidate's first fresh seed comes before any second one, so a round
that was halted has compared all of them.

Finalists are compared seed by seed, under one noise for all of them (`measure.statistics`). Two are a tie unless the
corrected p of their difference is below 5%. A tie only says that the seeds do not tell. That two are as good as equal
is a statement of its own, proved by two one-sided tests: each lies within `MARGIN` of the other. Both statements, of
all pairs in all objectives that a seed changes, are corrected together: at most one table in twenty has a false one.
"""

from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, count, islice
from statistics import fmean

import optuna
from optuna.trial import FrozenTrial

from harness.measure.statistics import LEVEL, Noise, Scores, noise_of, standard_error
from harness.measure.statistics_joint import Difference, Single, Test, corrected
from harness.records.better import front_of
from harness.records.conclusions import Conclusions, Finalist, RescoredObjective
from harness.records.quantities import is_learnt, is_relative
from harness.records.quantity import value_of
from harness.records.record import TrialRecord
from harness.search.candidates import Candidate, FreshScore, candidate_name, columns, rescored_in
from harness.search.definition import Finalists
from harness.search.halving import Level
from harness.search.pareto import Direction
from harness.search.problem import Problem, awaited
from harness.search.study import FLOOR, directions_of
from harness.search.sweep import Ending, Sweep
from harness.trials.queue import POLL_S
from harness.trials.spec import TrialSpec
from harness.trials.task_config import task_of


def rescore_finalists(sweep: Sweep, settings: Finalists, ending: Ending) -> Ending:
    """Choose the finalists of a search with this `ending`, and train them again; what ends the command now."""
    finalists = chosen(sweep.candidates, sweep.problem, settings)
    if not finalists:
        counts = "" if sweep.floor is None else " and better than the floor"
        return replace(ending, reason=f"{ending.reason}; no candidate is complete{counts}, so there are no finalists")
    seeds = fresh_seeds(sweep.problem, settings.seeds)
    names = ", ".join(candidate.name for candidate in finalists)
    sweep.show.note(f"{ending.reason}; training the finalists again: {names}, seeds {', '.join(map(str, seeds))}")
    with sweep.driving(total=len(finalists) * len(seeds)):
        halt = FinalRound(sweep, finalists, seeds).run()
    if halt is not None:
        return halt
    if sweep.queue.awaiting > 0:
        return Ending(f"{ending.reason}; {awaited(sweep.queue.awaiting)}", halts=True)
    return replace(ending, reason=f"{ending.reason}; {len(finalists)} finalists were re-scored with {len(seeds)} seeds")


def chosen(candidates: Iterable[Candidate], problem: Problem, settings: Finalists) -> list[Candidate]:
    """The best of the complete ones that may win: of all, or of each value of a knob."""
    groups: dict[str, list[Candidate]] = {}
    for candidate in candidates:
        if candidate.may_win:
            value = None if settings.each is None else candidate.parameters.get(settings.each)
            groups.setdefault(repr(value), []).append(candidate)
    return [candidate for group in groups.values() for candidate in _best(group, problem, settings.most)]


def _best(complete: Sequence[Candidate], problem: Problem, most: int) -> list[Candidate]:
    """The front of the top budget; of more than `most`, an epsilon-net's points, in its order."""
    values = [candidate.levels[-1].values or () for candidate in complete]
    net = Level(reduction=1)  # all of one front, so its order is the net's
    for at in sorted(front_of(values, tuple(problem.objectives.values()))):
        net.add(at, problem.losses(values[at]), eligible=True)
    best: list[Candidate] = []
    while len(best) < most and (at_next := net.next(drained=True)) is not None:
        net.promote(at_next)
        best.append(complete[at_next])
    return best


def fresh_seeds(problem: Problem, number: int) -> tuple[int, ...]:
    """The lowest numbers that are neither the seed of the search's trainings nor that of its samples."""
    settings = problem.levels[-1].settings
    used = {problem.seed, settings.task.scoring(settings).seed}
    return tuple(islice((seed for seed in count() if seed not in used), number))


class FinalRound:
    """Each finalist trained to the top budget with each fresh seed. Nothing else may be in the queue's flight."""

    def __init__(self, sweep: Sweep, finalists: Sequence[Candidate], seeds: Sequence[int]) -> None:
        self._sweep = sweep
        self._waiting = deque((candidate, seed) for seed in seeds for candidate in finalists)
        self._running: dict[str, Candidate] = {}  # by trial key

    def run(self) -> Ending | None:
        """None when all have their scores; else the limit of time that halted it: then nothing more is submitted, and
        what runs is finished. A score that awaits a measurement is left without values when patience is over."""
        sweep, queue = self._sweep, self._sweep.queue
        sweep.note_progress()
        halt: Ending | None = None
        while True:
            sweep.note_hours()
            halt = halt or sweep.time_is_up()
            while self._waiting and queue.free > 0 and halt is None:
                self._submit(*self._waiting.popleft())
            waits = queue.awaiting > 0 and not sweep.patience_is_over
            if queue.in_flight == 0 and (halt is not None or not (self._waiting or waits)):
                return halt
            for spec, record in queue.poll(POLL_S):
                sweep.note_progress()
                self._collect(self._running.pop(spec.key), spec, record, paid=True)
            sweep.show.running(queue.progress())

    def _submit(self, candidate: Candidate, seed: int) -> None:
        parent = candidate.levels[-1].key
        spec = self._sweep.problem.fresh_spec(candidate.name, candidate.parameters, seed, parent=parent)
        before = candidate.fresh_score(seed)  # an earlier driver's
        if before is None:
            self._sweep.candidates.rescore(candidate, FreshScore(seed=seed, key=spec.key))
        if (record := self._sweep.queue.submit(spec)) is not None:
            self._collect(candidate, spec, record, paid=before is not None and before.running)
        else:
            self._running[spec.key] = candidate
            self._sweep.show.add(spec)

    def _collect(self, candidate: Candidate, spec: TrialSpec, record: TrialRecord, *, paid: bool) -> None:
        """A training ended; not `paid`, for another study."""
        outcome, before = self._sweep.problem.outcome(record), candidate.fresh_score(spec.seed)
        if outcome.awaits:
            self._running[spec.key] = candidate
            self._sweep.queue.expect(spec)
            return
        spent = float(record.provenance.get("gpu_seconds", 0.0)) if paid else 0.0
        score = FreshScore(
            seed=spec.seed,
            key=spec.key,
            values=outcome.values,
            score=value_of(record.quantities.get(spec.settings.task.judging.first)),
            gpu_seconds=spent + (before.gpu_seconds if before else 0.0),
            failed=outcome.failed,
        )
        if score != before:
            self._sweep.candidates.rescore(candidate, score)
        self._sweep.show.ended(spec, record)


MARGIN = 0.1
"""Fixed before any score: finalists that differ by less are as good as equal."""


def conclude(study: optuna.Study) -> Conclusions | None:
    """The conclusions of a sweep whose finalists have scores; None where there are none yet."""
    rescored, directions = rescored_in(study.user_attrs), directions_of(study)
    if not rescored:
        return None
    trials = {candidate_name(trial.number): trial for trial in study.get_trials(deepcopy=False)}
    scored = {name: scores for name, scores in rescored.items() if columns(scores)}
    varying = tuple(name for name in directions if is_learnt(name))
    values = {name: _by_objective(directions, trials[name], scores) for name, scores in scored.items()}
    beaten = _beaten(study, scored)
    count = {each: of for each, of in values.items() if each not in beaten}
    compared = Compared.of({name: {each: of[name][1] for each, of in count.items()} for name in varying})
    objectives = {name: _objective(name, values, directions[name], compared, beaten) for name in directions}
    front = _front(objectives, directions, beaten)
    finalists = [
        Finalist(
            name=name,
            parameters=trials[name].params,
            objectives={objective: objectives[objective][name] for objective in directions},
            failures=tuple(score.failed for score in scores if score.failed),
            trials={score.seed: score.key for score in scores if score.values is not None},
            on_front=name in front,
            beaten=name in beaten,
        )
        for name, scores in scored.items()
    ]
    first, last = (varying or tuple(directions))[0], len(finalists)
    return Conclusions(
        directions=directions,
        varying=varying,
        finalists=tuple(sorted(finalists, key=lambda each: (each.objectives[first].rank or 1 + last, each.name))),
        without_score={
            name: tuple(score.failed for score in scores if score.failed)
            for name, scores in rescored.items()
            if name not in scored
        },
        level=LEVEL,
        margin=MARGIN,
        noise={name: noise.sentence for name, noise in compared.noise.items() if noise is not None},
    )


def _beaten(study: optuna.Study, scored: Mapping[str, Sequence[FreshScore]]) -> set[str]:
    """Those whose mean first score over the fresh seeds is no better than the floor."""
    floor, judging = study.user_attrs.get(FLOOR), task_of(study.user_attrs.get("began", {}).get("protocol", {})).judging
    first = {name: [each.score for each in scores if each.score is not None] for name, scores in scored.items()}
    return judging.beaten_of(first, floor)


Pair = tuple[str, str, str]
"""Objective, one finalist, another."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Compared:
    """Every two finalists that are not beaten in every objective that a seed changes; p values corrected for both
    statements of all of them together."""

    noise: Mapping[str, Noise | None]  # objective -> its noise; None where no finalist has two scores
    different: Mapping[Pair, float]  # p of "no difference"; 1 where the noise is not known
    equivalent: Mapping[Pair, float]  # p of "one lies outside the other's margin"

    @classmethod
    def of(cls, scores: Mapping[str, Scores]) -> "Compared":
        noise = {objective: noise_of(by_name) for objective, by_name in scores.items()}
        pairs = [(name, *pair) for name, by_name in scores.items() for pair in combinations(by_name, 2)]
        with_noise = [(pair, of) for pair in pairs if (of := noise[pair[0]]) is not None]
        tests: dict[tuple[str, Pair], Test] = {}
        for pair, of in with_noise:
            tests["different", pair] = Difference(noise=of, one=pair[1], other=pair[2], pair=pair)
            if is_relative(pair[0]):  # a part of a logarithm's value, such as PSNR's, says nothing
                tests["equivalent", pair] = Single(p=_equivalent(of, *pair[1:]), pair=pair)
        p = corrected(tests)
        of_question = {
            question: {pair: p.get((question, pair), 1.0) for pair in pairs} for question in ("different", "equivalent")
        }
        return cls(noise=noise, **of_question)

    def p(self, objective: str, name: str) -> dict[str, float]:
        """Another finalist -> p of no difference."""
        return _of_others(self.different, objective, name)

    def ties(self, objective: str, name: str) -> tuple[str, ...]:
        return tuple(other for other, p in self.p(objective, name).items() if p >= 1 - LEVEL)

    def equals(self, objective: str, name: str) -> tuple[str, ...]:
        """The ties that are proved equivalent. (Two that are told apart can be so too: by less than matters.)"""
        p, ties = _of_others(self.equivalent, objective, name), self.ties(objective, name)
        return tuple(other for other in p if p[other] < 1 - LEVEL and other in ties)


def _equivalent(noise: Noise, one: str, other: str) -> float:
    return max(noise.equivalent(one, other, MARGIN), noise.equivalent(other, one, MARGIN))


def _of_others(p: Mapping[Pair, float], objective: str, name: str) -> dict[str, float]:
    """The values of this finalist's pairs, by the other one."""
    pairs = {pair: value for pair, value in p.items() if pair[0] == objective and name in pair[1:]}
    return {pair[2] if pair[1] == name else pair[1]: value for pair, value in pairs.items()}


Values = Mapping[str, tuple[float, dict[int, float]]]
"""Objective -> the search's value, and seed -> score."""


def _by_objective(directions: Mapping[str, Direction], trial: FrozenTrial, scores: Sequence[FreshScore]) -> Values:
    searched = trial.values or ()
    return dict(zip(directions, zip(searched, columns(scores), strict=True), strict=True))


def _objective(
    objective: str, values: Mapping[str, Values], direction: Direction, compared: Compared, beaten: Collection[str]
) -> dict[str, RescoredObjective]:
    """Every finalist's, by name; those that are `beaten` have no rank."""
    scores = {name: tuple(each[objective][1].values()) for name, each in values.items()}
    means = {name: fmean(of) for name, of in scores.items()}
    sign = -1.0 if direction == "maximize" else 1.0
    ranked = [mean for name, mean in means.items() if name not in beaten]
    return {
        name: RescoredObjective(
            search=each[objective][0],
            scores=scores[name],
            mean=means[name],
            standard_error=standard_error(scores[name]) if objective in compared.noise else None,
            rank=None if name in beaten else 1 + sum(sign * other < sign * means[name] for other in ranked),
            p=compared.p(objective, name),
            ties=compared.ties(objective, name),
            equivalent=compared.equals(objective, name),
        )
        for name, each in values.items()
    }


def _front(
    objectives: Mapping[str, Mapping[str, RescoredObjective]],
    directions: Mapping[str, Direction],
    beaten: Collection[str],
) -> set[str]:
    """Those that no other dominates, by the means; of those that are not `beaten`."""
    names = [name for name in next(iter(objectives.values())) if name not in beaten]
    means = [tuple(objectives[objective][name].mean for objective in directions) for name in names]
    return {names[at] for at in front_of(means, tuple(directions.values()))}
