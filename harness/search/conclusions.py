"""From the study to what may be concluded: finalists by their re-scored means, and their ties.

Two finalists are told apart in an objective if Welch's 95% interval of the difference of their means,

    m_1 - m_2 +- t sqrt(s_1^2 / k_1 + s_2^2 / k_2),  t Student's 97.5% quantile at Welch and Satterthwaite's degrees,

leaves out 0 and no score of the one lies within those of the other: two that overlap are never told apart, as in an
ablation's claims. Else they are a tie. Pairs by seed are not taken: at three seeds they leave two degrees of freedom,
and pay only where a seed moves all architectures alike. Each pair is tested by itself, without a correction for many.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations
from statistics import fmean

import optuna
from optuna.trial import FrozenTrial
from scipy import stats

from harness.records.conclusions import Conclusions, Finalist, RescoredObjective
from harness.search.candidates import candidate_name
from harness.search.front import front_of
from harness.search.rescored import FreshScore, columns, rescored_in, standard_error
from harness.search.storage import Direction, directions_of
from harness.trials.outcomes import LEARNT

LEVEL = 0.95


def conclude(study: optuna.Study) -> Conclusions | None:
    """The conclusions of a sweep whose finalists have scores; None where there are none yet."""
    rescored, directions = rescored_in(study.user_attrs), directions_of(study)
    if not rescored:
        return None
    trials = {candidate_name(trial.number): trial for trial in study.get_trials(deepcopy=False)}
    scored = {name: scores for name, scores in rescored.items() if columns(scores)}
    varying = tuple(name for name in directions if name in LEARNT)
    values = {name: _by_objective(directions, trials[name], scores) for name, scores in scored.items()}
    objectives = {name: _objective(name, values, directions[name], name in varying) for name in directions}
    front = _front(objectives, directions)
    found = [
        Finalist(
            name=name,
            parameters=trials[name].params,
            objectives={objective: objectives[objective][name] for objective in directions},
            failures=tuple(score.failed for score in scores if score.failed),
            keys=tuple(score.key for score in scores if score.values is not None),
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
    )


def tied(one: Sequence[float], other: Sequence[float], level: float = LEVEL) -> bool:
    """Whether these scores do not tell two means apart."""
    if max(min(one), min(other)) <= min(max(one), max(other)):
        return True  # they overlap
    if min(len(one), len(other)) < 2:
        return True  # no spread is known
    if len(set(one)) == len(set(other)) == 1:
        return False  # they have no spread, and differ
    interval = stats.ttest_ind(one, other, equal_var=False).confidence_interval(level)
    return bool(interval.low <= 0 <= interval.high)


Values = Mapping[str, tuple[float, list[float]]]
"""Objective -> the search's value, and the scores."""


def _by_objective(directions: Mapping[str, Direction], trial: FrozenTrial, scores: Sequence[FreshScore]) -> Values:
    searched = trial.values or ()
    return dict(zip(directions, zip(searched, columns(scores), strict=True), strict=True))


def _objective(
    objective: str, values: Mapping[str, Values], direction: Direction, varies: bool
) -> dict[str, RescoredObjective]:
    """Every finalist's, by name."""
    means = {name: fmean(each[objective][1]) for name, each in values.items()}
    sign = -1.0 if direction == "maximize" else 1.0
    ties: dict[str, list[str]] = {name: [] for name in values}
    for one, other in combinations(values, 2):
        if varies and tied(values[one][objective][1], values[other][objective][1]):
            ties[one].append(other)
            ties[other].append(one)
    return {
        name: RescoredObjective(
            search=each[objective][0],
            scores=tuple(each[objective][1]),
            mean=means[name],
            standard_error=standard_error(each[objective][1]) if varies else None,
            rank=1 + sum(sign * other < sign * means[name] for other in means.values()),
            ties=tuple(ties[name]),
        )
        for name, each in values.items()
    }


def _front(objectives: Mapping[str, Mapping[str, RescoredObjective]], directions: Mapping[str, Direction]) -> set[str]:
    """Those that no other dominates, by the means."""
    names = list(next(iter(objectives.values())))
    means = [tuple(objectives[objective][name].mean for objective in directions) for name in names]
    return {names[at] for at in front_of(means, tuple(directions.values()))}
