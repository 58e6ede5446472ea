"""How much each knob of a sweep alone decides an objective: Optuna's PED-ANOVA (Watanabe et al., arXiv 2304.10255), or
fANOVA (Hutter et al., ICML 2014) where the page asks for it.

PED-ANOVA asks what tells the best tenth from the rest. Optuna gives the variance of "is among the best" that a knob
alone accounts for; divided by the whole variance, q (1 - q) of a share q, it is a share from 0 to 1 that means the same
for every number of candidates. fANOVA gives the share of the objective's own variance, by random forests.

A knob that exists only beside some values of others is judged among the candidates that have it, and each knob says
how many these are: given all candidates, Optuna's fANOVA leaves such knobs out, and its PED-ANOVA mixes into them how
often they exist. A knob with one value, or too few candidates, has a reason in the place of a number.
"""

import math
import random
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean, pstdev
from typing import Any, Literal, TypeAlias

from harness.records.quantities import is_learnt
from harness.records.sweep_summary import CandidateSummary, KnobSummary, SweepSummary

Method: TypeAlias = Literal["ped_anova", "fanova"]
FEWEST = 20
"""Candidates below which nothing is said: the best tenth of fewer is one."""
BEST, FEWEST_BEST = 0.1, 5
"""The share that counts as best, and how many these are at least, as Optuna advises."""
SHUFFLES, ALLOWED = 39, 2
"""Of so many shuffles of the values the largest so many decide what chance reaches: 2 of 40 are 5%."""
MOST_SHUFFLED = 1000
"""Candidates above which nothing is shuffled: chance stays below `CHANCE_OF_MANY` (test_importance)."""
CHANCE_OF_MANY = 0.015
FOREST_SEED = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class KnobImportance:
    knob: str
    candidates: int  # that have the knob and a value
    share: float | None  # 0 to 1; None: `why`
    chance: float | None = None
    """What the share has to exceed: in 5% of shuffles some knob of the objective does. None of fANOVA."""
    why: str = ""

    @property
    def is_told(self) -> bool:
        """Whether it is more than chance gives."""
        return self.share is not None and self.chance is not None and self.share > self.chance


@dataclass(frozen=True, kw_only=True, slots=True)
class Importances:
    """Of every knob for one objective, in the order of the space."""

    objective: str
    steps: int  # of training, after which the candidates are compared
    chosen: bool  # whether halving chose who came so far
    candidates: tuple[CandidateSummary, ...]  # that have a value
    knobs: tuple[KnobImportance, ...]


def importances(search: SweepSummary, method: Method) -> list[Importances]:
    """For each objective: after the lowest budget, to which every candidate is trained; and where a longer training
    changes the objective and enough came there, after the highest."""
    results = []
    for at, name in enumerate(search.objectives):
        results.append(_of(search, at, search.levels[0], method))
        if len(search.levels) > 1 and is_learnt(name):
            top = _of(search, at, search.levels[-1], method)
            results += [top] if len(top.candidates) >= FEWEST else []
    return results


def _of(search: SweepSummary, objective: int, steps: int, method: Method) -> Importances:
    name, direction = list(search.objectives.items())[objective]
    sign = -1.0 if direction == "maximize" else 1.0
    valued = [(each, values[objective]) for each in search.candidates if (values := each.values_at(steps)) is not None]
    finite = [(each, sign * value) for each, value in valued if math.isfinite(value)]
    return Importances(
        objective=name,
        steps=steps,
        chosen=steps != search.levels[0],
        candidates=tuple(each for each, _ in finite),
        knobs=tuple(knob_importances(search.knobs, [each for each, _ in finite], [loss for _, loss in finite], method)),
    )


def knob_importances(
    knobs: Mapping[str, KnobSummary], candidates: Sequence[CandidateSummary], losses: Sequence[float], method: Method
) -> Iterator[KnobImportance]:
    """Of every knob, in their order, by candidates with their losses, of which less is better."""
    groups = _groups(knobs, candidates)
    whys = {name: group.why_not(name, losses) for group in groups for name in group.names}
    judged = [name for name, why in whys.items() if not why]
    if method == "fanova":
        shares, chance = _joined(group.by_fanova(losses, judged) for group in groups), {}
    else:
        shares = _joined(group.by_ped_anova(losses, judged) for group in groups)
        chance = _chance(groups, losses, judged) if judged else {}
    counts = {name: len(group.places) for group in groups for name in group.names}
    for name in knobs:
        share, limit = shares.get(name), chance.get(name)
        yield KnobImportance(knob=name, candidates=counts[name], share=share, chance=limit, why=whys[name])


def _joined(parts: Iterable[Mapping[str, float]]) -> dict[str, float]:
    return {name: value for part in parts for name, value in part.items()}


def _chance(groups: Sequence["Group"], losses: Sequence[float], names: Sequence[str]) -> dict[str, float]:
    """What each knob's share has to exceed. Shares are compared by how many standard deviations they lie above their
    own mean over the shuffles, since a knob with many values reaches more by chance."""
    if len(losses) > MOST_SHUFFLED:
        return dict.fromkeys(names, CHANCE_OF_MANY)
    generator, dealt, shuffled = random.Random(0), list(losses), []
    for _ in range(SHUFFLES):
        generator.shuffle(dealt)
        shuffled.append(_joined(group.by_ped_anova(dealt, names) for group in groups))
    mean = {name: fmean(each[name] for each in shuffled) for name in names}
    spread = {name: pstdev(each[name] for each in shuffled) or 1e-12 for name in names}
    largest = sorted(max((each[name] - mean[name]) / spread[name] for name in names) for each in shuffled)
    return {name: mean[name] + largest[-ALLOWED] * spread[name] for name in names}


def _groups(knobs: Mapping[str, KnobSummary], candidates: Sequence[CandidateSummary]) -> list["Group"]:
    """The knobs that the very same candidates have, together."""
    shared: dict[tuple[int, ...], list[str]] = {}
    for knob in knobs:
        places = tuple(at for at, each in enumerate(candidates) if knob in each.parameters)
        shared.setdefault(places, []).append(knob)
    return [
        Group(names=tuple(names), knobs=knobs, places=places, candidates=tuple(candidates[at] for at in places))
        for places, names in shared.items()
    ]


@dataclass(frozen=True, kw_only=True)
class Group:
    """The candidates that have some knobs. Losses are of all candidates, those elsewhere among them."""

    names: tuple[str, ...]  # of the knobs
    knobs: Mapping[str, KnobSummary]  # of the space
    places: tuple[int, ...]  # of these candidates among all
    candidates: tuple[CandidateSummary, ...]

    def why_not(self, knob: str, losses: Sequence[float]) -> str:
        """Why nothing can be said of the knob; empty where it can."""
        count = len(self.candidates)
        if count < FEWEST:
            return f"{count} candidate{'s' if count != 1 else ''} to judge it by, and it takes {FEWEST}"
        values = {repr(each.parameters[knob]) for each in self.candidates}
        if len(values) == 1:
            return f"{next(iter(values))} in all {count}"
        return "" if len({losses[at] for at in self.places}) > 1 else f"all {count} candidates have the same value"

    def by_ped_anova(self, of_all: Sequence[float], judged: Sequence[str]) -> dict[str, float]:
        """Its judged knobs' shares of the variance of "is among the best"."""
        from optuna.importance import PedAnovaImportanceEvaluator

        names, losses = [name for name in self.names if name in judged], [of_all[at] for at in self.places]
        if not names:
            return {}
        best = max(math.ceil(BEST * len(losses)), FEWEST_BEST)
        cutoff = sorted(losses)[best - 1]
        share = sum(loss <= cutoff for loss in losses) / len(losses)  # with all that equal the last of them
        if share == 1.0:
            return dict.fromkeys(names, 0.0)
        evaluator = PedAnovaImportanceEvaluator(target_quantile=best / len(losses))
        divergences = _quietly(evaluator, self._trials(losses), names)
        return {name: min(1.0, divergences[name] / (share * (1 - share))) for name in names}

    def by_fanova(self, of_all: Sequence[float], judged: Sequence[str]) -> dict[str, float]:
        """Its judged knobs' shares of the variance of the objective, in forests over all knobs that these candidates
        have."""
        from optuna.importance import FanovaImportanceEvaluator

        names, losses = [name for name in self.names if name in judged], [of_all[at] for at in self.places]
        if not names:
            return {}
        common = [name for name in self.knobs if all(name in each.parameters for each in self.candidates)]
        shares = _quietly(FanovaImportanceEvaluator(seed=FOREST_SEED), self._trials(losses), common)
        return {name: shares[name] for name in names}

    def _trials(self, losses: Sequence[float]) -> list[Any]:
        """As Optuna's finished trials of one objective that is minimised."""
        from optuna.trial import FrozenTrial, TrialState

        return [
            FrozenTrial(
                number=at, trial_id=at, state=TrialState.COMPLETE, value=loss, datetime_start=None,
                datetime_complete=None, params=dict(each.parameters), distributions=distributions, user_attrs={},
                system_attrs={}, intermediate_values={},
            )
            for at, (each, loss, distributions) in enumerate(
                zip(self.candidates, losses, self._distributions, strict=True)
            )
        ]  # fmt: skip

    @cached_property
    def _distributions(self) -> list[dict[str, Any]]:
        distributions = {name: _distribution(knob) for name, knob in self.knobs.items()}
        return [
            {name: distributions[name] for name in each.parameters if name in distributions} for each in self.candidates
        ]


def _distribution(knob: KnobSummary) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if knob.low is None or knob.high is None:
        return CategoricalDistribution(knob.choices)
    if knob.whole:
        return IntDistribution(int(knob.low), int(knob.high), log=knob.log, step=int(knob.step or 1))
    return FloatDistribution(knob.low, knob.high, log=knob.log, step=knob.step)


def _quietly(evaluator: Any, trials: list[Any], names: Sequence[str]) -> dict[str, float]:
    """What Optuna finds in these trials, without its warnings, which the page says in its own words, and without a
    storage, which would check and copy every trial."""
    from optuna import Study
    from optuna.study import StudyDirection

    class Finished(Study):
        def __init__(self) -> None:
            self._directions = [StudyDirection.MINIMIZE]

        def get_trials(self, *_: object, **__: object) -> list[Any]:
            return trials

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return dict(evaluator.evaluate(Finished(), params=list(names)))
