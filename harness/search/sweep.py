"""A sweep: ask Optuna, refuse in milliseconds what a rule or a limit forbids, train the rest, tell as results come.

No batch waits for its slowest trial. An Optuna trial is one architecture:

    COMPLETE  trained; the objectives are its values
    PRUNED    refused before training; the reason is in its attributes, a limit's violation is its constraint
    FAIL      trained without a result, or a repeat of a candidate (which is replaced by its nearest new neighbour)
    RUNNING   submitted; after a stop the same command finds it again
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.trial import TrialState

from harness.architecture.config import ArchitectureConfig
from harness.records.errors import UserError
from harness.records.record import TrialRecord
from harness.search.gate import gate
from harness.search.space import Parameters, Space, distance
from harness.search.study import SweepStudy, candidate_name
from harness.trials.outcomes import why
from harness.trials.prepared import Prepared
from harness.trials.progress import Show, value_of
from harness.trials.queue import POLL_S, Trials
from harness.trials.spec import TrialSpec


@dataclass(frozen=True, slots=True)
class Ending:
    """Why a sweep ended."""

    reason: str
    exhausted: bool = False


class Sweep:
    def __init__(
        self,
        name: str,
        definition: SweepStudy,
        space: Space,
        prepared: Prepared,
        study: optuna.Study,
        queue: Trials,
        show: Show,
    ) -> None:
        self.name, self.definition, self.space, self.prepared = name, definition, space, prepared
        self.study, self.queue, self.show = study, queue, show
        self.seed = prepared.settings.seeds[0]
        self._running: dict[str, int] = {}  # trial key -> Optuna's number
        self._seen: set[str] = set()  # fingerprints of every candidate met, trained or refused
        self._combinations: list[dict[str, Any]] | None = None
        self._refused_in_a_row = 0

    def run(self) -> Ending:
        """Until `trials` candidates were trained, or there are no more."""
        with self.show.board(total=self.definition.trials):
            self.recover()
            return self._drive()

    def _drive(self) -> Ending:
        ending = None
        while True:
            while ending is None and self.queue.free > 0:
                ending = self.propose()
            if self.queue.in_flight == 0 and ending is not None:
                return ending
            for spec, record in self.queue.poll(POLL_S):
                self.tell(spec, record)
            self.show.running(self.queue.progress())

    def recover(self) -> None:
        """What an earlier driver left: candidates it submitted are submitted again (finished ones come at once)."""
        for trial in self.study.get_trials(deepcopy=False):
            if "fingerprint" in trial.user_attrs:
                self._seen.add(trial.user_attrs["fingerprint"])
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if "submitted" in trial.user_attrs:
                self._submit(trial.number, self.prepared.fit(self.space.architecture(trial.params)))
            else:
                self._drop(trial.number, "the driver stopped before it was submitted")

    def propose(self) -> Ending | None:
        """Ask for one candidate and submit or refuse it; an Ending when there is nothing more to ask for."""
        if self.submitted() >= self.definition.trials:
            return Ending(f"{self.definition.trials} candidates were trained")
        if self._refused_in_a_row >= self.definition.max_rejections:
            raise UserError(
                f"{self._refused_in_a_row} candidates in a row were refused, the last because {self._last_refusal()}; "
                "loosen the limits or change the space"
            )
        trial = self.study.ask()
        parameters = self.space.suggest(trial)
        try:
            architecture = self.prepared.fit(self.space.architecture(parameters))
        except UserError as error:
            self._refuse(trial, str(error), {})
            return None
        if architecture.fingerprint in self._seen:
            return self._repeat(trial, parameters)
        self._gate(trial, architecture)
        return None

    def submitted(self) -> int:
        """Candidates that were handed to training, over all runs of the command."""
        return sum("submitted" in trial.user_attrs for trial in self.study.get_trials(deepcopy=False))

    def tell(self, spec: TrialSpec, record: TrialRecord) -> None:
        """Report a trial's end to Optuna."""
        number = self._running.pop(spec.key)
        self._told(number, spec, record)

    def _gate(self, trial: optuna.Trial, architecture: ArchitectureConfig) -> None:
        """Count, hold the limits, and submit what meets them."""
        self._seen.add(architecture.fingerprint)
        trial.set_user_attr("fingerprint", architecture.fingerprint)
        gated = gate(self.prepared, architecture)
        for name, violation in gated.violations.items():
            trial.set_constraint(name, violation)
        if gated.refusal is not None:
            self._refuse(trial, gated.refusal, gated.values)
            return
        self._refused_in_a_row = 0
        trial.set_user_attr("submitted", self._spec(trial.number, architecture).key)
        self._submit(trial.number, architecture)

    def _submit(self, number: int, architecture: ArchitectureConfig) -> None:
        spec = self._spec(number, architecture)
        record = self.queue.submit(spec)
        if record is not None:  # measured before, by this sweep or another study
            self._told(number, spec, record)
        else:
            self._running[spec.key] = number
            self.show.add(spec)

    def _spec(self, number: int, architecture: ArchitectureConfig) -> TrialSpec:
        return self.prepared.spec(candidate_name(number), architecture, self.seed, group=self.name)

    def _told(self, number: int, spec: TrialSpec, record: TrialRecord) -> None:
        values = [value_of(record.quantities.get(name)) for name in self.definition.objectives]
        if record.state == "complete" and None not in values:
            self.study.tell(number, [value for value in values if value is not None])
        else:
            missing = [name for name, value in zip(self.definition.objectives, values, strict=True) if value is None]
            reason = why(record) if record.state != "complete" else f"no value for {', '.join(missing)}"
            self._drop(number, reason)
        self.show.ended(spec, record)

    def _refuse(self, trial: optuna.Trial, reason: str, quantities: Mapping[str, float]) -> None:
        self._refused_in_a_row += 1
        trial.set_user_attr("refused", reason)
        for name, value in quantities.items():
            trial.set_user_attr(name, value)
        self.study.tell(trial, state=TrialState.PRUNED)

    def _drop(self, number: int, reason: str) -> None:
        trial_id = self.study.get_trials(deepcopy=False)[number]._trial_id
        optuna.Trial(self.study, trial_id).set_user_attr("failed", reason)
        self.study.tell(number, state=TrialState.FAIL)

    def _last_refusal(self) -> str:
        reasons = [trial.user_attrs.get("refused") for trial in self.study.get_trials(deepcopy=False)]
        return next((str(reason) for reason in reversed(reasons) if reason), "(none)")

    def _repeat(self, trial: optuna.Trial, parameters: Parameters) -> Ending | None:
        """A candidate met before: enqueue the nearest new one in its place."""
        trial.set_user_attr("repeat", True)
        self.study.tell(trial, state=TrialState.FAIL)
        self._refused_in_a_row += 1  # a continuum may be asked in vain too
        if self.space.size() is None:
            return None
        neighbour = self._nearest_unseen(parameters)
        if neighbour is None:
            return Ending("every candidate of the space was met: it is exhausted", exhausted=True)
        self.study.enqueue_trial(neighbour)
        return None

    def _nearest_unseen(self, parameters: Parameters) -> dict[str, Any] | None:
        if self._combinations is None:
            self._combinations = list(self.space.combinations())
        for _, group in itertools.groupby(
            sorted(self._combinations, key=lambda other: distance(parameters, other)),
            key=lambda other: distance(parameters, other),
        ):
            for candidate in group:
                if self._is_new(candidate):
                    return candidate
        return None

    def _is_new(self, parameters: dict[str, Any]) -> bool:
        try:
            return self.prepared.fit(self.space.architecture(parameters)).fingerprint not in self._seen
        except UserError:
            return False  # a rule refuses it: no candidate
