"""What the sampler learns from: a study in memory that holds the values of one budget.

Optuna's samplers compare all values of a study, and values of different budgets do not compare. So the sampler never
sees the stored study, but one that holds, of every candidate, its values at the highest budget that has enough results.
When a higher budget has enough, and when a driver begins, it is built anew from the candidates. What is asked does not
depend on the storage, then, nor is a storage of thousands of trials read to ask.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import optuna
from optuna.samplers import BaseSampler, NSGAIISampler, QMCSampler, RandomSampler, TPESampler
from optuna.storages import InMemoryStorage
from optuna.trial import TrialState, create_trial

from harness.search.candidates import Candidate
from harness.search.space import Space
from harness.search.storage import Direction

ENOUGH = 10
"""Results at a budget before the sampler learns from them: as many as TPE wants before it stops asking at random."""

SAMPLERS: Mapping[str, Callable[[int], BaseSampler]] = {
    "tpe": lambda seed: TPESampler(seed=seed),
    "nsga2": lambda seed: NSGAIISampler(seed=seed),
    "random": lambda seed: RandomSampler(seed=seed),
    "qmc": lambda seed: QMCSampler(seed=seed, scramble=True),
}
"""A sampler that begins again with the same seed would ask for the same again: callers add the number of candidates."""


class Shadow:
    def __init__(
        self,
        sampler: str,
        seed: int,
        directions: Sequence[Direction],
        space: Space,
        budgets: Sequence[int],
        candidates: Iterable[Candidate],
    ) -> None:
        self._sampler, self._seed, self._directions, self._space = sampler, seed, list(directions), space
        self._budgets = tuple(budgets)
        self._known: list[Candidate] = list(candidates)
        self._results = [sum(_values(each, steps) is not None for each in self._known) for steps in self._budgets]
        self._build()

    @property
    def budget(self) -> int:
        """The highest budget with enough results: the sampler learns from this one."""
        enough = [steps for steps, n in zip(self._budgets, self._results, strict=True) if n >= ENOUGH]
        return max(enough, default=self._budgets[0])

    def ask(self) -> optuna.Trial:
        """The sampler's choice, asked knob by knob: `params`, `distributions` and `system_attrs` have it."""
        trial = self._study.ask()
        self._next = trial.number + 1
        self._space.suggest(trial)
        return trial

    def noted(self, asked: optuna.Trial) -> dict[str, Any]:
        """What the sampler wrote down about its choice: NSGA-II's generation."""
        return dict(self._storage.get_trial(asked._trial_id).system_attrs)

    def give_up(self, asked: optuna.Trial) -> None:
        """Nothing comes of it."""
        self._study.tell(asked, state=TrialState.FAIL)  # samplers do not see failed ones

    def follow(self, candidate: Candidate, asked: optuna.Trial | None) -> None:
        """A new candidate; `asked` is the trial that proposed it, or something near that was met before."""
        self._known.append(candidate)
        if asked is not None and candidate.state == "running" and asked.params == dict(candidate.parameters):
            self._numbers[candidate.number] = asked.number
            return
        if asked is not None:
            self.give_up(asked)
        self._add(candidate)

    def learn(self, candidate: Candidate) -> None:
        """A result of this candidate at the last of its rungs."""
        self._results[self._budgets.index(candidate.rungs[-1].steps)] += 1
        if self.budget != self._built_for:
            self._build()
        elif candidate.rungs[-1].steps == self.budget:
            self._study.tell(self._numbers[candidate.number], list(candidate.rungs[-1].values or ()))

    def end(self, candidate: Candidate) -> None:
        """The candidate was stopped or failed: without values at this budget it is no example of a good one."""
        if _values(candidate, self.budget) is None:
            state = TrialState.FAIL if candidate.state == "failed" else TrialState.PRUNED
            self._study.tell(self._numbers[candidate.number], state=state)

    def _build(self) -> None:
        sampler = SAMPLERS[self._sampler](self._seed + len(self._known))
        self._storage = InMemoryStorage()
        self._study = optuna.create_study(storage=self._storage, directions=self._directions, sampler=sampler)
        self._numbers: dict[int, int] = {}  # candidate -> the number of its trial here
        self._built_for, self._next = self.budget, 0
        for candidate in self._known:
            self._add(candidate)

    def _add(self, candidate: Candidate) -> None:
        values = _values(candidate, self.budget)
        state = TrialState.COMPLETE if values is not None else _STATES[candidate.state]
        trial = create_trial(
            state=state,
            values=values,
            params=dict(candidate.parameters),
            distributions=self._space.distributions(candidate.parameters),
            system_attrs=dict(candidate.sampler_attributes),
            constraints=dict(candidate.violations),
        )
        self._study.add_trial(trial)
        self._numbers[candidate.number] = self._next
        self._next += 1


_STATES = {
    "running": TrialState.RUNNING,
    "complete": TrialState.PRUNED,
    "refused": TrialState.PRUNED,
    "stopped": TrialState.PRUNED,
    "failed": TrialState.FAIL,
}


def _values(candidate: Candidate, steps: int) -> tuple[float, ...] | None:
    return next((rung.values for rung in candidate.rungs if rung.steps == steps), None)
