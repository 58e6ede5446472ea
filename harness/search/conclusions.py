"""What may be concluded of a sweep: its finalists by their re-scored means, with ties.

Finalists are compared seed by seed, under one noise for all of them (`measure.statistics`). Two are a tie unless the p
of their difference, corrected for all pairs in all objectives that a seed changes, is below 5%. A tie only says
that the seeds do not tell. That two are as good as equal is a statement of its own, proved by two one-sided tests: each
lies within `MARGIN` of the other, p likewise corrected.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean

import optuna
from optuna.trial import FrozenTrial

from harness.measure.statistics import LEVEL, Noise, Scores, noise_of, standard_error
from harness.measure.statistics_joint import Difference, Margin, corrected
from harness.records.conclusions import Conclusions, Finalist, RescoredObjective
from harness.search.candidates import FreshScore, candidate_name, columns, rescored_in
from harness.search.pareto import Direction, front_of
from harness.search.study import directions_of
from harness.trials.outcomes import LEARNT

MARGIN = 0.1
"""Fixed before any score: finalists that differ by less are as good as equal."""


def conclude(study: optuna.Study) -> Conclusions | None:
    """The conclusions of a sweep whose finalists have scores; None where there are none yet."""
    rescored, directions = rescored_in(study.user_attrs), directions_of(study)
    if not rescored:
        return None
    trials = {candidate_name(trial.number): trial for trial in study.get_trials(deepcopy=False)}
    scored = {name: scores for name, scores in rescored.items() if columns(scores)}
    varying = tuple(name for name in directions if name in LEARNT)
    values = {name: _by_objective(directions, trials[name], scores) for name, scores in scored.items()}
    compared = Compared.of({name: {each: found[name][1] for each, found in values.items()} for name in varying})
    objectives = {name: _objective(name, values, directions[name], compared) for name in directions}
    front = _front(objectives, directions)
    found = [
        Finalist(
            name=name,
            parameters=trials[name].params,
            objectives={objective: objectives[objective][name] for objective in directions},
            failures=tuple(score.failed for score in scores if score.failed),
            trials={score.seed: score.key for score in scores if score.values is not None},
            on_front=name in front,
        )
        for name, scores in scored.items()
    ]
    first = (varying or tuple(directions))[0]
    return Conclusions(
        directions=directions,
        varying=varying,
        finalists=tuple(sorted(found, key=lambda each: (each.objectives[first].rank, each.name))),
        without_score={
            name: tuple(score.failed for score in scores if score.failed)
            for name, scores in rescored.items()
            if name not in scored
        },
        level=LEVEL,
        margin=MARGIN,
        noise={name: noise.sentence for name, noise in compared.noise.items() if noise is not None},
    )


Pair = tuple[str, str, str]
"""Objective, one finalist, another."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Compared:
    """Every two finalists in every objective that a seed changes; p values corrected for all of them."""

    noise: Mapping[str, Noise | None]  # objective -> its noise; None where no finalist has two scores
    different: Mapping[Pair, float]  # p of "no difference"; 1 where the noise is not known
    equivalent: Mapping[Pair, float]  # p of "one lies outside the other's margin"

    @classmethod
    def of(cls, scores: Mapping[str, Scores]) -> "Compared":
        noise = {objective: noise_of(by_name) for objective, by_name in scores.items()}
        pairs = [(name, *pair) for name, by_name in scores.items() for pair in combinations(by_name, 2)]
        known = [(pair, of) for pair in pairs if (of := noise[pair[0]]) is not None]
        different = {pair: Difference(noise=of, one=pair[1], other=pair[2]) for pair, of in known}
        equivalent = {pair: Margin(p=_equivalent(of, *pair[1:]), pair=pair) for pair, of in known}
        unknown = dict.fromkeys(pairs, 1.0)
        return cls(noise=noise, different=unknown | corrected(different), equivalent=unknown | corrected(equivalent))

    def p(self, objective: str, name: str) -> dict[str, float]:
        """Another finalist -> p of no difference."""
        return {
            _other(pair, name): p for pair, p in self.different.items() if pair[0] == objective and name in pair[1:]
        }

    def ties(self, objective: str, name: str) -> tuple[str, ...]:
        return tuple(other for other, p in self.p(objective, name).items() if p >= 1 - LEVEL)

    def equals(self, objective: str, name: str) -> tuple[str, ...]:
        """The ties that are proved equivalent. (Two that are told apart can be so too: by less than matters.)"""
        ties = self.ties(objective, name)
        found = [
            pair for pair, p in self.equivalent.items() if pair[0] == objective and name in pair[1:] and p < 1 - LEVEL
        ]
        return tuple(other for pair in found if (other := _other(pair, name)) in ties)


def ties_of(scores: Mapping[str, Scores]) -> dict[str, dict[str, tuple[str, ...]]]:
    """Objective -> finalist -> the finalists that it is not told apart from."""
    compared = Compared.of(scores)
    return {
        objective: {name: compared.ties(objective, name) for name in by_name} for objective, by_name in scores.items()
    }


def _equivalent(noise: Noise, one: str, other: str) -> float:
    return max(noise.equivalent(one, other, MARGIN), noise.equivalent(other, one, MARGIN))


def _other(pair: Pair, name: str) -> str:
    return pair[2] if pair[1] == name else pair[1]


Values = Mapping[str, tuple[float, dict[int, float]]]
"""Objective -> the search's value, and seed -> score."""


def _by_objective(directions: Mapping[str, Direction], trial: FrozenTrial, scores: Sequence[FreshScore]) -> Values:
    searched = trial.values or ()
    return dict(zip(directions, zip(searched, columns(scores), strict=True), strict=True))


def _objective(
    objective: str, values: Mapping[str, Values], direction: Direction, compared: Compared
) -> dict[str, RescoredObjective]:
    """Every finalist's, by name."""
    scores = {name: tuple(each[objective][1].values()) for name, each in values.items()}
    means = {name: fmean(of) for name, of in scores.items()}
    sign = -1.0 if direction == "maximize" else 1.0
    return {
        name: RescoredObjective(
            search=each[objective][0],
            scores=scores[name],
            mean=means[name],
            standard_error=standard_error(scores[name]) if objective in compared.noise else None,
            rank=1 + sum(sign * other < sign * means[name] for other in means.values()),
            p=compared.p(objective, name),
            ties=compared.ties(objective, name),
            equivalent=compared.equals(objective, name),
        )
        for name, each in values.items()
    }


def _front(objectives: Mapping[str, Mapping[str, RescoredObjective]], directions: Mapping[str, Direction]) -> set[str]:
    """Those that no other dominates, by the means."""
    names = list(next(iter(objectives.values())))
    means = [tuple(objectives[objective][name].mean for objective in directions) for name in names]
    return {names[at] for at in front_of(means, tuple(directions.values()))}
