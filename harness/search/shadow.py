"""What the sampler learns from: a study in memory that holds the values of one budget.

Optuna's samplers compare all values of a study, and values of different budgets do not compare. So the sampler never
sees the stored study, but one that holds, of every candidate, its values at the highest budget that has enough results.
When a higher budget has enough, and when a driver begins, it is built anew from the candidates. What is asked does not
depend on the storage, then, nor is a storage of thousands of trials read to ask.

Values are held on the scale of `scales`. Of a candidate that awaits a measurement it holds what is predicted meanwhile,
and the measured value from the moment it comes. Refused candidates are no trials here: see `samplers`.
"""

from collections.abc import Callable, Iterable, Sequence
from copy import copy
from typing import Any, TypeAlias

import optuna
from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from harness.search.candidates import Candidate
from harness.search.samplers import GP, SAMPLERS, TPE
from harness.search.space import Space
from harness.search.storage import Direction

ENOUGH = 10
"""Results at a budget before the sampler learns from them: as many as TPE wants before it stops asking at random."""

Scaled: TypeAlias = Callable[[tuple[float, ...]], tuple[float, ...]]
"""The objectives' values -> what the sampler is told."""


class Shadow:
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
        self._known: list[Candidate] = list(candidates)
        trained = [each for each in self._known if each.state != "refused"]
        self._limits = [name for name in sorted(limits) if all(name in each.violations for each in trained)]
        self._results = {
            steps: {each.number for each in self._known if _values(each, steps) is not None} for steps in self._budgets
        }
        self._build()

    @property
    def budget(self) -> int:
        """The highest budget with enough results: the sampler learns from this one."""
        enough = [steps for steps, found in self._results.items() if len(found) >= ENOUGH]
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
            for name, violation in self._violations(candidate).items():
                asked.set_constraint(name, violation)
            self._numbers[candidate.number] = asked.number
            return
        if asked is not None:
            self.give_up(asked)
        self._add(candidate)

    def learn(self, candidate: Candidate) -> None:
        """Values of this candidate at the last of its rungs: its result, or what stands in for it, or the one for the
        other."""
        steps = candidate.rungs[-1].steps
        self._results[steps].add(candidate.number)
        if self.budget != self._built_for:
            self._build()
        elif steps == self.budget and (values := _values(candidate, steps)) is not None:
            number, told = self._numbers[candidate.number], self._scaled(values)
            if self._is_told(candidate):
                self._storage.replace(number, told)
            else:
                self._study.tell(number, told)

    def end(self, candidate: Candidate) -> None:
        """The candidate was stopped or failed: without values at this budget it is no example of a good one.

        Where a prediction had made it one, all is built anew: a genetic sampler may hold it for a parent.
        """
        for steps in self._budgets:
            if _values(candidate, steps) is None:
                self._results[steps].discard(candidate.number)
        withdrawn = _values(candidate, self.budget) is None
        if self.budget != self._built_for or (withdrawn and self._is_told(candidate)):
            self._build()
        elif withdrawn:
            state = TrialState.FAIL if candidate.state == "failed" else TrialState.PRUNED
            self._study.tell(self._numbers[candidate.number], state=state)

    def _is_told(self, candidate: Candidate) -> bool:
        number = self._numbers[candidate.number]  # in memory, a trial's number is its id
        return self._storage.get_trial(number).state == TrialState.COMPLETE

    def _build(self) -> None:
        self._model = SAMPLERS[self._sampler](self._seed + len(self._known))
        self._refused: list[FrozenTrial] = []
        if isinstance(self._model, TPE | GP):
            self._model.refused = self._refused
        self._storage = _Revisable()
        self._study = optuna.create_study(storage=self._storage, directions=self._directions, sampler=self._model)
        self._numbers: dict[int, int] = {}  # candidate -> the number of its trial here
        self._built_for, self._next = self.budget, 0
        for candidate in self._known:
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
    rung = next((rung for rung in candidate.rungs if rung.steps == steps), None)
    return None if rung is None else rung.values or rung.stand_in
