"""What proposes candidates: a Searcher with Optuna's `ask` and `tell`.

Optuna's samplers compare all values of a study, and values of different budgets do not compare. So the sampler never
sees the stored study, but one in memory that holds, of every candidate, its values at the highest budget that has
enough results. When a higher budget has enough, and when a driver begins, it is built anew from the candidates. What is
proposed does not depend on the storage, then, nor is a storage of thousands of trials read to ask.

Values are held on the scale of `pareto.scaled`. Of a candidate that awaits a measurement it holds what is predicted
meanwhile, and the measured value from the moment it comes. Refused candidates are no trials here: TPE and GP hear of
them in their own way.
"""

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import copy
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, QMCSampler, RandomSampler, TPESampler
from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from harness.records.errors import UserError
from harness.search.candidates import Candidate
from harness.search.knob import Parameters
from harness.search.pareto import Direction
from harness.search.space import Space


class TPE(TPESampler):
    """TPE (Watanabe, arXiv 2304.11127) to which refused candidates are bad ones, and nothing else.

    Optuna counts a refused trial like any other: among the `n_startup_trials` that are random, and in gamma(n), how
    many of the trained ones are called good. Where a limit refuses half of what is asked, it models after a handful of
    results, and calls twice as many good as it means to. Here they are no trials of the study. They are in the density
    of bad ones alone, l(x) / g(x)'s g, and so steer the sampler away from where they were.
    """

    refused: Sequence[FrozenTrial] = ()
    """With the number that the next trial of the study had when each was refused: the newest weigh most."""

    def _build_parzen_estimator(
        self, study: Any, search_space: dict[str, BaseDistribution], trials: list[FrozenTrial], handle_below: bool
    ) -> Any:
        if not handle_below:
            trials = sorted([*self.refused, *trials], key=lambda trial: trial.number)  # stable: refused, then its trial
        return super()._build_parzen_estimator(study, search_space, trials, handle_below)


class GP(GPSampler):
    """Optuna's Gaussian processes (expected hypervolume improvement, constrained) that learn limits from refused
    candidates too.

    Optuna fits a limit's process to trained candidates, which all meet it; how far a refused one is beyond a limit is
    known as well, and says where the limit lies. What a rule refused has no such number and is left out. Knobs that
    exist only beside others are drawn at random: a process has one set of inputs.
    """

    refused: Sequence[FrozenTrial] = ()

    def _get_constraints_acqf_args(
        self, constraint_vals: Any, internal_search_space: Any, normalized_params: Any
    ) -> tuple[Any, Any]:
        names, count = internal_search_space._optuna_search_space.keys(), constraint_vals.shape[1]
        counted = [each for each in self.refused if names <= each.params.keys() and len(each.constraints) == count]
        if counted:
            values = np.array([list(each.constraints.values()) for each in counted])
            constraint_vals = np.concatenate([constraint_vals, values])
            inputs = internal_search_space.get_normalized_params(counted)
            normalized_params = np.concatenate([normalized_params, inputs])
        return super()._get_constraints_acqf_args(constraint_vals, internal_search_space, normalized_params)


class Grid(RandomSampler):
    """Every combination of the space, each once, in its order: the last knob varies fastest."""

    _left: Iterator[Parameters] = iter(())
    _point: Parameters = MappingProxyType({})

    def begin(self, space: Space, candidates: Iterable[Candidate]) -> None:
        """Those of the space that are no candidate's."""
        tried = {_key(candidate.parameters) for candidate in candidates}
        self._left = (point for point in space.combinations() if _key(point) not in tried)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        super().before_trial(study, trial)
        self._point = next(self._left, self._point)  # after the last one it comes again, and was tried

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        if param_name in self._point:
            return self._point[param_name]
        return super().sample_independent(study, trial, param_name, param_distribution)


SAMPLERS: Mapping[str, Callable[[int], BaseSampler]] = {
    "tpe": lambda seed: TPE(seed=seed),
    "gp": lambda seed: GP(seed=seed, warn_independent_sampling=False),
    "nsga2": lambda seed: NSGAIISampler(seed=seed),
    "random": lambda seed: RandomSampler(seed=seed),
    "qmc": lambda seed: QMCSampler(seed=seed, scramble=True),
    "grid": lambda _seed: Grid(),
}
"""A sampler that begins again with the same seed would ask for the same again: callers add the number of candidates.

All but these two learn from nothing but results, so they do not hear of refused candidates either.
"""


class Unseen:
    def __init__(
        self, space: Space, fingerprint: Callable[[Parameters], str], candidates: Iterable[Candidate], seed: int
    ) -> None:
        """`fingerprint` of what a combination trains; it raises UserError where a rule refuses the combination."""
        self._space, self._fingerprint = space, fingerprint
        self._random = random.Random(seed)
        self._fingerprints: dict[Any, str | None] = {}  # combination -> what was computed; None: a rule refuses it
        self._tried: set[Any] = set()  # combinations
        self._architectures: set[str] = set()
        for candidate in candidates:
            self.add(candidate)

    @property
    def finite(self) -> bool:
        """Whether the space can be exhausted: no knob is a continuum."""
        return all(knob.values() is not None for knob in self._space.knobs.values())

    def add(self, candidate: Candidate) -> None:
        self._tried.add(_key(candidate.parameters))
        if candidate.fingerprint is not None:
            self._architectures.add(candidate.fingerprint)

    def nearest(self, parameters: Parameters) -> Parameters | None:
        """This combination, if neither it nor what it trains was tried; else the one the fewest knobs away, of several
        any; None where there is none left. A combination that a rule refuses is no neighbour."""
        if _key(parameters) not in self._tried and self._of(parameters) not in self._architectures:
            return parameters
        layer: list[Parameters] = [parameters]
        reached = {_key(parameters)}
        while layer:
            neighbours = [other for at in layer for other in self._space.neighbours(at)]
            layer = []
            for other in neighbours:
                if (key := _key(other)) not in reached:
                    reached.add(key)
                    layer.append(other)
            self._random.shuffle(layer)
            for near in layer:
                if self._is_new(near):
                    return near
        return None

    def _is_new(self, parameters: Parameters) -> bool:
        if _key(parameters) in self._tried:
            return False
        fingerprint = self._of(parameters)
        return fingerprint is not None and fingerprint not in self._architectures

    def _of(self, parameters: Parameters) -> str | None:
        key = _key(parameters)
        if key not in self._fingerprints:
            try:
                self._fingerprints[key] = self._fingerprint(parameters)
            except UserError:
                self._fingerprints[key] = None
        return self._fingerprints[key]


def _key(parameters: Parameters) -> frozenset[tuple[str, str]]:
    """A combination whatever the order of its knobs. By `repr`: 1, 1.0 and true are three values."""
    return frozenset((name, repr(value)) for name, value in parameters.items())


ENOUGH = 10
"""Results at a budget before the sampler learns from them: as many as TPE wants before it stops asking at random."""

Scaled: TypeAlias = Callable[[tuple[float, ...]], tuple[float, ...]]
"""The objectives' values -> what the sampler is told."""


class Searcher:
    def __init__(
        self,
        sampler: str,
        seed: int,
        directions: Sequence[Direction],
        space: Space,
        budgets: Sequence[int],
        candidates: Iterable[Candidate],
        scaled: Scaled,
        limits: Iterable[str],
    ) -> None:
        """`limits` are the names of those that hold now; the sampler is told of the ones that held from the start."""
        self._sampler, self._seed, self._directions, self._space = sampler, seed, list(directions), space
        self._budgets, self._scaled = tuple(budgets), scaled
        self._known: dict[int, Candidate] = {each.number: each for each in candidates}
        trained = [each for each in self._known.values() if each.state != "refused"]
        self._limits = [name for name in sorted(limits) if all(name in each.violations for each in trained)]
        self._results = {
            steps: {number for number, each in self._known.items() if _values(each, steps) is not None}
            for steps in self._budgets
        }
        self._build()

    @property
    def budget(self) -> int:
        """The highest budget with enough results: the sampler learns from this one."""
        enough = [steps for steps, numbers in self._results.items() if len(numbers) >= ENOUGH]
        return max(enough, default=self._budgets[0])

    def ask(self) -> optuna.Trial:
        """The sampler's choice, asked knob by knob: `params`, `distributions` and `system_attrs` have it."""
        trial = self._study.ask()
        self._next = trial.number + 1
        self._space.suggest(trial)
        return trial

    def sampler_attributes(self, trial: optuna.Trial) -> dict[str, Any]:
        """What the sampler wrote down about its choice: NSGA-II's generation."""
        return dict(self._storage.get_trial(trial._trial_id).system_attrs)

    def discard(self, trial: optuna.Trial) -> None:
        """Nothing comes of it."""
        self._study.tell(trial, state=TrialState.FAIL)  # samplers do not see failed ones

    def tell(self, candidate: Candidate, trial: optuna.Trial | None = None) -> None:
        """What became of a candidate: it is new; it has values at another level, or measured ones for predicted; or it
        was stopped or failed: without values at the sampler's budget it is no example of a good one.

        `trial` proposed a new one, or something near it that was tried before.
        """
        if candidate.number not in self._known:
            self._begin(candidate, trial)
            return
        for steps, numbers in self._results.items():
            numbers.discard(candidate.number)
            if _values(candidate, steps) is not None:
                numbers.add(candidate.number)
        number, values = self._numbers[candidate.number], _values(candidate, self.budget)
        has_values = self._storage.get_trial(number).state == TrialState.COMPLETE  # in memory, its number is its id
        withdrawn = has_values and values is None  # a prediction; a genetic sampler may hold it for a parent
        if self.budget != self._built_for or withdrawn:
            self._build()
        elif values is not None and has_values:
            self._storage.replace(number, self._scaled(values))
        elif values is not None:
            self._study.tell(number, self._scaled(values))
        elif candidate.state != "running":
            self._study.tell(number, state=_STATES[candidate.state])

    def _begin(self, candidate: Candidate, trial: optuna.Trial | None) -> None:
        self._known[candidate.number] = candidate
        if trial is not None and candidate.state == "running" and trial.params == dict(candidate.parameters):
            for name, violation in self._violations(candidate).items():
                trial.set_constraint(name, violation)
            self._numbers[candidate.number] = trial.number
            return
        if trial is not None:
            self.discard(trial)
        self._add(candidate)

    def _build(self) -> None:
        self._model = SAMPLERS[self._sampler](self._seed + len(self._known))
        self._refused: list[FrozenTrial] = []
        if isinstance(self._model, TPE | GP):
            self._model.refused = self._refused
        elif isinstance(self._model, Grid):
            self._model.begin(self._space, self._known.values())
        self._storage = _Revisable()
        self._study = optuna.create_study(storage=self._storage, directions=self._directions, sampler=self._model)
        self._numbers: dict[int, int] = {}  # candidate -> the number of its trial here
        self._built_for, self._next = self.budget, 0
        for candidate in self._known.values():
            self._add(candidate)

    def _add(self, candidate: Candidate) -> None:
        values = _values(candidate, self.budget)
        trial = create_trial(
            state=TrialState.COMPLETE if values is not None else _STATES[candidate.state],
            values=None if values is None else self._scaled(values),
            params=dict(candidate.parameters),
            distributions=self._space.distributions(candidate.parameters),
            system_attrs=dict(candidate.sampler_attributes),
            constraints=self._violations(candidate),
        )
        if candidate.state == "refused":
            trial.number = self._next
            self._refused.append(trial)
            return
        self._study.add_trial(trial)
        self._numbers[candidate.number] = self._next
        self._next += 1

    def _violations(self, candidate: Candidate) -> dict[str, float]:
        """Of the same limits for every trained candidate, and in one order: Optuna reads them as columns."""
        return {name: candidate.violations[name] for name in self._limits if name in candidate.violations}


class _Revisable(InMemoryStorage):
    """Optuna closes a trial with its first values; here a measurement takes the place of its prediction."""

    def replace(self, trial_id: int, values: Sequence[float]) -> None:
        with self._lock:
            trial = copy(self.get_trial(trial_id))
            trial.values = values
            self._set_trial(trial_id, trial)


_STATES = {
    "running": TrialState.RUNNING,
    "complete": TrialState.PRUNED,
    "refused": TrialState.PRUNED,
    "stopped": TrialState.PRUNED,
    "failed": TrialState.FAIL,
}


def _values(candidate: Candidate, steps: int) -> tuple[float, ...] | None:
    """The results at a budget; until a measurement comes, what stands in for them."""
    result = next((result for result in candidate.levels if result.steps == steps), None)
    return None if result is None else result.values or result.stand_in
