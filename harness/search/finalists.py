"""The last round of a sweep: its finalists are trained again with fresh seeds and scored with fresh samples.

A search shows the best of many noisy scores, and the best of them is partly the luckiest: E[min x_i] <= min E[x_i]
(the winner's curse). The mean of the fresh scores chose nobody, and has no such bias. It stands beside the search's
value, which stays as it was. Whoever takes the best of those means chooses again, of a few and with a smaller spread;
hence ties are told. Fresh number n is the seed of a training and the seed of its samples' noise (`sampling.seed`);
neither is the search's. So k scores of one candidate are independent, and two candidates at one number share images'
order and samples' noise.

The trainings go through the same queue as all else: what the store has is not trained, a killed driver's jobs are
found, and the sweep's limits of time hold. Every candidate's first fresh seed comes before any second one, so a round
that was halted has compared all of them.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import count, islice

from harness.records.quantity import value_of
from harness.records.record import TrialRecord
from harness.search.candidates import Candidate, FreshScore
from harness.search.definition import Finalists
from harness.search.halving import Level
from harness.search.pareto import front_of
from harness.search.problem import Problem
from harness.search.sweep import Ending, Patience, Sweep, awaited
from harness.trials.progress import Show
from harness.trials.queue import POLL_S, Trials
from harness.trials.spec import TrialSpec


def rescore_finalists(sweep: Sweep, wanted: Finalists, ended: Ending) -> Ending:
    """Choose the finalists of a search that `ended`, and train them again; what ends the command now."""
    finalists = chosen(sweep.candidates, sweep.problem, wanted)
    if not finalists:
        return replace(ended, reason=f"{ended.reason}; no candidate is complete, so there are no finalists")
    seeds = fresh_seeds(sweep.problem, wanted.seeds)
    names = ", ".join(candidate.name for candidate in finalists)
    sweep.show.note(f"{ended.reason}; training the finalists again: {names}, seeds {', '.join(map(str, seeds))}")
    halt: Ending | None = None

    def halted() -> bool:
        nonlocal halt
        sweep.note_hours()
        halt = halt or sweep.time_is_up()
        return halt is not None

    heard = sweep.candidates.rescore
    sweep.patience.heard()
    with sweep.show.board(total=len(finalists) * len(seeds)):
        try:
            rescore(
                sweep.problem, sweep.queue, finalists, seeds, sweep.show,
                halted=halted, heard=heard, patience=sweep.patience,
            )  # fmt: skip
        except KeyboardInterrupt:  # Ctrl-C, or `harness stop`
            sweep.candidates.note_hours(sweep.hours)
            raise
    sweep.candidates.note_hours(sweep.hours)
    if halt is not None:
        return halt
    if sweep.queue.awaiting > 0:
        return Ending(f"{ended.reason}; {awaited(sweep.queue.awaiting)}", halts=True)
    return replace(ended, reason=f"{ended.reason}; {len(finalists)} finalists were re-scored with {len(seeds)} seeds")


def chosen(candidates: Iterable[Candidate], problem: Problem, wanted: Finalists) -> list[Candidate]:
    """The best of the complete ones, limits met: of all, or of each value of a knob."""
    groups: dict[str, list[Candidate]] = {}
    for candidate in candidates:
        if candidate.state == "complete" and all(violation <= 0 for violation in candidate.violations.values()):
            value = None if wanted.each is None else candidate.parameters.get(wanted.each)
            groups.setdefault(repr(value), []).append(candidate)
    return [candidate for group in groups.values() for candidate in _best(group, problem, wanted.most)]


def _best(complete: Sequence[Candidate], problem: Problem, most: int) -> list[Candidate]:
    """The front of the top budget; of more than `most`, an epsilon-net's points, in its order."""
    values = [candidate.levels[-1].values or () for candidate in complete]
    net = Level(reduction=1)  # all of one front, so its order is the net's
    for at in sorted(front_of(values, tuple(problem.objectives.values()))):
        net.add(at, problem.losses(values[at]), eligible=True)
    found: list[Candidate] = []
    while len(found) < most and (best := net.next(drained=True)) is not None:
        net.promote(best)
        found.append(complete[best])
    return found


def fresh_seeds(problem: Problem, wanted: int) -> tuple[int, ...]:
    """The lowest numbers that are neither the seed of the search's trainings nor that of its samples."""
    used = {problem.seed, problem.levels[-1].settings.sampling.seed}
    return tuple(islice((number for number in count() if number not in used), wanted))


def rescore(
    problem: Problem,
    queue: Trials,
    candidates: Sequence[Candidate],
    seeds: Sequence[int],
    show: Show,
    *,
    halted: Callable[[], bool] = lambda: False,
    heard: Callable[[Candidate, FreshScore], None] = lambda _candidate, _score: None,
    patience: Patience | None = None,
) -> dict[int, dict[int, FreshScore]]:
    """Train each candidate to the top budget with each fresh seed; the candidate's number -> seed -> its score.

    Nothing else may be in the queue's flight. Once `halted`, nothing more is submitted and what runs is finished.
    `heard` is told of every submission (a score without values) and of every score. A score that awaits a measurement
    is expected until `patience` is over, and then left without values.
    """
    waiting = deque((candidate, seed) for seed in seeds for candidate in candidates)
    running: dict[str, Candidate] = {}  # by trial key
    scores: dict[int, dict[int, FreshScore]] = {candidate.number: {} for candidate in candidates}

    def tell(candidate: Candidate, spec: TrialSpec, record: TrialRecord, *, paid: bool) -> None:
        if problem.outcome(record).awaits:
            running[spec.key] = candidate
            queue.expect(spec)
            return
        before = candidate.fresh_score(spec.seed)
        score = score_of(problem, spec, record, before.gpu_seconds if before else 0.0, paid=paid)
        scores[candidate.number][spec.seed] = score
        if score != before:
            heard(candidate, score)
        show.ended(spec, record)

    while True:
        halt = halted()
        while waiting and queue.free > 0 and not halt:
            candidate, seed = waiting.popleft()
            spec = problem.fresh_spec(candidate.name, candidate.parameters, seed, parent=candidate.levels[-1].key)
            before = candidate.fresh_score(seed)  # an earlier driver's
            if before is None:
                heard(candidate, FreshScore(seed=seed, key=spec.key))
            if (record := queue.submit(spec)) is not None:
                tell(candidate, spec, record, paid=before is not None and before.running)
            else:
                running[spec.key] = candidate
                show.add(spec)
        given_up = halt or queue.awaiting == 0 or (patience is not None and patience.is_over)
        if queue.in_flight == 0 and (halt or not waiting) and given_up:
            return scores
        for spec, record in queue.poll(POLL_S):
            if patience is not None:
                patience.heard()
            tell(running.pop(spec.key), spec, record, paid=True)
        show.running(queue.progress())


def score_of(problem: Problem, spec: TrialSpec, record: TrialRecord, spent: float, *, paid: bool) -> FreshScore:
    """What a record holds; `spent` are GPU-seconds of before; not `paid` where it was trained for another study."""
    found = problem.outcome(record)
    return FreshScore(
        seed=spec.seed,
        key=spec.key,
        values=found.values,
        kid=value_of(record.quantities.get("kid")),
        gpu_seconds=spent + (float(record.provenance.get("gpu_seconds", 0.0)) if paid else 0.0),
        failed=found.failed,
    )
