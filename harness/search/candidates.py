"""The candidates of a sweep, and how they stand in the Optuna study: one trial, one architecture.

    RUNNING   submitted; being trained at a budget, or waiting: for a measurement, or because it may still be promoted
    COMPLETE  trained to the top budget; the objectives there are its values
    PRUNED    refused by a rule or a limit (`refused`, under `limits`), or stopped at a lower budget (`stopped`); then
              the objectives there are its values, which no front of Optuna's has: that is of COMPLETE ones
    FAIL      a training ended without a result (`failed`)

A COMPLETE one whose first score is no better than the floor is beaten: it has the reason under `beaten`, and a
violation named `floor`, so that neither this code nor Optuna's counts it among the best.

User attributes: `fingerprint` of what is trained; `levels`, a list with what LevelResult has for each budget it was
submitted at, lowest first (`key` is the trial record's, `values` null while it runs; null also while a measurement is
awaited, which `awaits` names, and then `stand_in` has the objectives with a prediction in its place); the reason under
`refused`, `stopped`, `failed` or `beaten`; `enqueued`, the name of a candidate that the sampler did not choose; and the
counted quantities, one attribute each. System attributes: the violations of the limits, and what the sampler noted for
itself.

Violations are written twice, so that every tool that opens the study sees them. Optuna 5 writes one system attribute a
constraint, `constraints:NAME` (`Trial.set_constraint`); optuna-dashboard 0.21 reads one list, the system attribute
`constraints`, as Optuna before 5 wrote it. Optuna reads both: a list's entries under their places "0", "1", ... beside
the named ones, with the same values.

What a finalist scored with fresh seeds is one user attribute of the study, `rescored:trial-7`, and not of its trial:
Optuna closes a finished trial. Its content: `scores`, a list of what FreshScore has; `mean` and `standard_error`, one
number an objective, over the scores that have values.

The study is read once, when a driver begins; afterwards this process alone writes, one write an event, and keeps
what it wrote. No write's cost depends on how many candidates there are.
"""

import datetime
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Any, Literal, TypeVar

import optuna
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from harness.measure.statistics import standard_error
from harness.records.better import front_of
from harness.records.errors import UserError
from harness.records.plain import Plain, from_plain, to_plain
from harness.search.knob import Parameters
from harness.search.space import Space
from harness.search.study import directions_of, writing

Form = TypeVar("Form")


def constraint_attributes(violations: Mapping[str, float]) -> dict[str, Any]:
    """System attributes for `violations`: limit -> by how much it is exceeded; at most 0 within it."""
    if not violations:
        return {}
    return {"constraints": list(violations.values()), **{f"constraints:{name}": v for name, v in violations.items()}}


def violations_of(system_attributes: Mapping[str, Any]) -> dict[str, float]:
    """What `constraint_attributes` wrote."""
    prefix = "constraints:"
    named = {name: value for name, value in system_attributes.items() if name.startswith(prefix)}
    return {name.removeprefix(prefix): float(value) for name, value in named.items()}


PREFIX = "rescored:"


@dataclass(frozen=True, kw_only=True, slots=True)
class FreshScore:
    """A finalist trained with one fresh number."""

    seed: int  # of the training, and of its samples
    key: str  # of the trial record
    values: tuple[float, ...] | None = None  # the objectives; None while it runs, and where it failed
    score: float | None = None  # the task's first
    gpu_seconds: float = 0.0  # spent on it by this sweep
    failed: str = ""  # why it has no values

    @property
    def running(self) -> bool:
        """Submitted, and without a result so far."""
        return self.values is None and not self.failed


def columns(scores: Sequence[FreshScore]) -> list[dict[int, float]]:
    """Objective by objective, seed -> value, of the scores that have values, in the order of their seeds."""
    values = {
        score.seed: score.values for score in sorted(scores, key=lambda each: each.seed) if score.values is not None
    }
    return [dict(zip(values, column, strict=True)) for column in zip(*values.values(), strict=True)]


def attribute_of(name: str, scores: Sequence[FreshScore]) -> tuple[str, Plain]:
    """The study's user attribute for the candidate of this name: its key and content."""
    by_objective = [list(column.values()) for column in columns(scores)]
    content: dict[str, Any] = {
        "scores": to_plain(sorted(scores, key=lambda score: score.seed)),
        "mean": [fmean(column) for column in by_objective],
        "standard_error": [standard_error(column) for column in by_objective],
    }
    return f"{PREFIX}{name}", content


def rescored_in(study_attributes: Mapping[str, Any]) -> dict[str, tuple[FreshScore, ...]]:
    """What `attribute_of` wrote: the name of each candidate that was trained again -> its scores."""
    return {
        name.removeprefix(PREFIX): tuple(_read(FreshScore, score) for score in content["scores"])
        for name, content in study_attributes.items()
        if name.startswith(PREFIX)
    }


def _read(form: type[Form], plain: Any) -> Form:
    try:
        return from_plain(form, plain)
    except UserError as error:
        raise UserError(
            f"this study was written by another version ({error}); move its folder away and run the sweep again, which "
            "takes from the store what was trained"
        ) from error


HOURS = "hours"  # the study's user attribute
BEATEN = "beaten"  # a trial's user attribute
BELOW_FLOOR = {"floor": 1.0}
"""The violation of what is beaten: Optuna asks for a number above 0, and by how much it is beaten says its score."""

State = Literal["running", "complete", "refused", "stopped", "failed"]
REASONS = ("refused", "stopped", "failed")
"""States that have a reason, which is a user attribute of this name."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LevelResult:
    """A candidate at one budget."""

    steps: int
    key: str  # of the trial record
    values: tuple[float, ...] | None = None  # the objectives; None while it runs, or awaits a measurement
    stand_in: tuple[float, ...] | None = None
    """The objectives with predictions for those awaited, for the sampler alone; None where nothing is awaited, or one
    cannot be predicted."""
    awaits: tuple[str, ...] = ()  # the objectives whose measurements a queue has yet to bring
    score: float | None = None  # the task's first
    gpu_seconds: float = 0.0  # spent at this budget, not at lower ones


@dataclass(slots=True)
class Candidate:
    number: int  # Optuna's
    trial_id: int  # the storage's
    parameters: Parameters
    state: State
    levels: list[LevelResult] = field(default_factory=list)
    fingerprint: str | None = None  # None: a rule refused the combination
    violations: Mapping[str, float] = field(default_factory=dict)
    sampler_attributes: Mapping[str, Any] = field(default_factory=dict)
    limits: Plain = None  # those that refused it
    rescored: list[FreshScore] = field(default_factory=list)  # one a fresh seed that it was submitted with
    reason: str = ""  # why it was refused, stopped or failed
    beaten: str = ""  # complete, and why it does not count: it is no better than the floor
    enqueued: str = ""  # its name, if the sampler did not choose it

    @property
    def name(self) -> str:
        """What people call it."""
        return candidate_name(self.number)

    @property
    def may_win(self) -> bool:
        """Whether it can be on the front: complete, within the limits, better than the floor."""
        within = all(violation <= 0 for violation in self.violations.values())
        return self.state == "complete" and within and not self.beaten

    def fresh_score(self, seed: int) -> FreshScore | None:
        return next((score for score in self.rescored if score.seed == seed), None)

    @property
    def in_flight(self) -> LevelResult | None:
        """The budget at which it is being trained."""
        last = self.levels[-1] if self.state == "running" and self.levels else None
        return last if last is not None and last.values is None and not last.awaits else None

    @property
    def awaiting(self) -> LevelResult | None:
        """The budget that it was trained to, where a measurement is awaited."""
        last = self.levels[-1] if self.state == "running" and self.levels else None
        return last if last is not None and last.awaits else None

    def gpu_seconds_in(self, provenance: Mapping[str, Any]) -> float:
        """Spent at its last budget: a record counts from the first step, whatever budget that was at."""
        spent, earlier = float(provenance.get("gpu_seconds", 0.0)), self.levels[:-1]
        if set(provenance.get("continued_from", ())) & {result.steps for result in earlier}:
            spent -= sum(result.gpu_seconds for result in earlier)
        return max(0.0, spent)


@dataclass(frozen=True, kw_only=True, slots=True)
class Proposal:
    """A combination of knob values that is about to become a candidate, with what is known of it."""

    parameters: Parameters
    fingerprint: str | None = None
    violations: Mapping[str, float] = field(default_factory=dict)
    notes: Mapping[str, Plain] = field(default_factory=dict)  # further user attributes
    sampler_attributes: Mapping[str, Any] = field(default_factory=dict)

    def with_counts(self, fingerprint: str, violations: Mapping[str, float], counts: Mapping[str, float]) -> "Proposal":
        """With what the gate knows of it."""
        notes = {**self.notes, **counts}
        return replace(self, fingerprint=fingerprint, violations=violations, notes=notes)


def candidate_name(number: int) -> str:
    """What people call the candidate of Optuna's trial `number`."""
    return f"trial-{number}"


class Candidates:
    """All candidates, by Optuna's number; every change is in the study when a method returns."""

    def __init__(
        self, study: optuna.Study, storage: BaseStorage, space: Space, where: str, now: Callable[[], float]
    ) -> None:
        """Read the study. `where` it lies, for messages; `now()` is Unix seconds."""
        self._storage, self._space, self._where, self._now = storage, space, where, now
        self._study_id = storage.get_study_id_from_name(study.study_name)
        self._all: dict[int, Candidate] = {}
        self.submitted = 0  # candidates handed to training, over all runs of the command
        self.gpu_seconds = 0.0  # spent on them
        self.hours = float(study.user_attrs.get(HOURS, 0.0))  # for which drivers ran
        rescored = rescored_in(study.user_attrs)
        for trial in study.get_trials(deepcopy=False):
            if "fingerprint" in trial.user_attrs or "refused" in trial.user_attrs:
                scores = rescored.get(candidate_name(trial.number), ())
                self._keep(replace(candidate_of(trial), rescored=list(scores)))

    def __iter__(self) -> Iterator[Candidate]:
        return iter(self._all.values())

    def __len__(self) -> int:
        return len(self._all)

    def newest(self) -> Iterator[Candidate]:
        """All candidates, the newest first."""
        return reversed(self._all.values())

    def running(self) -> list[Candidate]:
        """Those that are trained, or may be promoted."""
        return [candidate for candidate in self._all.values() if candidate.state == "running"]

    def __getitem__(self, number: int) -> Candidate:
        return self._all[number]

    def submit(self, proposal: Proposal, result: LevelResult) -> Candidate:
        """A new candidate, about to be trained."""
        return self._create(proposal, TrialState.RUNNING, "running", [result])

    def refuse(self, proposal: Proposal, reason: str, limits: Plain = None) -> Candidate:
        """A new candidate that a rule, or one of these `limits`, refuses."""
        return self._create(proposal, TrialState.PRUNED, "refused", [], refused=reason, limits=limits)

    def update(self, candidate: Candidate, result: LevelResult) -> None:
        """Submit it to another budget, or note its result at the one where it runs."""
        before = [other for other in candidate.levels if other.steps == result.steps]
        levels = [*(other for other in candidate.levels if other.steps != result.steps), result]
        with writing(self._where):
            self._storage.set_trial_user_attr(candidate.trial_id, "levels", to_plain(levels))
        candidate.levels = levels
        self.gpu_seconds += result.gpu_seconds - sum(other.gpu_seconds for other in before)

    def rescore(self, candidate: Candidate, score: FreshScore) -> None:
        """Submit it with a fresh seed, or note what it scored with one."""
        before = [other for other in candidate.rescored if other.seed == score.seed]
        scores = [*(other for other in candidate.rescored if other.seed != score.seed), score]
        with writing(self._where):
            self._storage.set_study_user_attr(self._study_id, *attribute_of(candidate.name, scores))
        candidate.rescored = scores
        self.gpu_seconds += score.gpu_seconds - sum(other.gpu_seconds for other in before)

    def note_hours(self, hours: float) -> None:
        """How long drivers ran, all together."""
        with writing(self._where):
            self._storage.set_study_user_attr(self._study_id, HOURS, hours)
        self.hours = hours

    def complete(self, candidate: Candidate, beaten: str = "") -> None:
        """Its last result is the one at the top budget; `beaten` says why that does not count, where it does not."""
        if beaten:
            violations = {**candidate.violations, **BELOW_FLOOR}
            with writing(self._where):
                self._storage.set_trial_user_attr(candidate.trial_id, BEATEN, beaten)
                for name, value in constraint_attributes(violations).items():
                    self._storage.set_trial_system_attr(candidate.trial_id, name, value)
            candidate.beaten, candidate.violations = beaten, violations
        self._end(candidate, TrialState.COMPLETE, "complete", values=candidate.levels[-1].values)

    def stop(self, candidate: Candidate, reason: str) -> None:
        """With its values at the budget where it was stopped, as Optuna keeps a pruned trial's last ones."""
        self._end(candidate, TrialState.PRUNED, "stopped", reason, values=candidate.levels[-1].values)

    def fail(self, candidate: Candidate, reason: str) -> None:
        self._end(candidate, TrialState.FAIL, "failed", reason)

    def _create(
        self, proposal: Proposal, trial_state: TrialState, state: State, levels: list[LevelResult], **attributes: Plain
    ) -> Candidate:
        attributes |= {"fingerprint": proposal.fingerprint, **proposal.notes}
        attributes |= {"levels": to_plain(levels)} if levels else {}
        at = datetime.datetime.fromtimestamp(self._now())
        template = FrozenTrial(
            number=-1,  # the storage gives both numbers
            trial_id=-1,
            state=trial_state,
            value=None,
            datetime_start=at,
            datetime_complete=at if trial_state.is_finished() else None,
            params=dict(proposal.parameters),
            distributions=self._space.distributions(proposal.parameters),
            user_attrs={name: value for name, value in attributes.items() if value is not None},
            system_attrs={**proposal.sampler_attributes, **constraint_attributes(proposal.violations)},
            intermediate_values={},
        )
        with writing(self._where):
            trial_id = self._storage.create_new_trial(self._study_id, template_trial=template)
            number = self._storage.get_trial_number_from_id(trial_id)
        return self._keep(
            Candidate(
                number=number,
                trial_id=trial_id,
                parameters=proposal.parameters,
                state=state,
                levels=levels,
                fingerprint=proposal.fingerprint,
                violations=proposal.violations,
                sampler_attributes=proposal.sampler_attributes,
                limits=attributes.get("limits"),
                reason=str(attributes.get("refused", "")),
                enqueued=str(attributes.get("enqueued", "")),
            )
        )

    def _end(
        self,
        candidate: Candidate,
        trial_state: TrialState,
        state: State,
        reason: str | None = None,
        *,
        values: tuple[float, ...] | None = None,
    ) -> None:
        with writing(self._where):
            if reason is not None:
                self._storage.set_trial_user_attr(candidate.trial_id, state, reason)
            self._storage.set_trial_state_values(candidate.trial_id, trial_state, values)
        candidate.state, candidate.reason = state, reason or ""

    def _keep(self, candidate: Candidate) -> Candidate:
        self._all[candidate.number] = candidate
        self.submitted += bool(candidate.levels)
        self.gpu_seconds += sum(result.gpu_seconds for result in candidate.levels)
        self.gpu_seconds += sum(score.gpu_seconds for score in candidate.rescored)
        return candidate


STATES: Mapping[TrialState, State] = {
    TrialState.RUNNING: "running",
    TrialState.COMPLETE: "complete",
    TrialState.FAIL: "failed",
}


def state_of(state: TrialState, attributes: Mapping[str, Any]) -> State:
    """What a trial of this state, with these user attributes, is as a candidate."""
    return STATES.get(state) or ("refused" if "refused" in attributes else "stopped")


def levels_in(attributes: Mapping[str, Any]) -> list[LevelResult]:
    """The budgets that a trial with these user attributes was submitted at."""
    return [_read(LevelResult, result) for result in attributes.get("levels", ())]


def candidate_of(trial: FrozenTrial) -> Candidate:
    """The candidate as a trial of the study has it."""
    attributes = trial.user_attrs
    of_sampler = {name: v for name, v in trial.system_attrs.items() if name.split(":")[0] != "constraints"}
    return Candidate(
        number=trial.number,
        trial_id=trial._trial_id,
        parameters=trial.params,
        state=state_of(trial.state, attributes),
        levels=levels_in(attributes),
        fingerprint=attributes.get("fingerprint"),
        limits=attributes.get("limits"),
        reason=next((str(attributes[key]) for key in REASONS if key in attributes), ""),
        beaten=str(attributes.get(BEATEN, "")),
        enqueued=str(attributes.get("enqueued", "")),
        violations=violations_of(trial.system_attrs),
        sampler_attributes=of_sampler,
    )


def checkpoints_key(candidate: Candidate) -> str:
    """What its folder of checkpoints is named by: the key of its trial at the lowest budget."""
    return candidate.levels[0].key


def front_trials(study: optuna.Study) -> list[FrozenTrial]:
    """The complete trials within their limits and better than the floor that no other beats, the best of the first
    objective first: `study.best_trials`, which copies every trial first."""
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    allowed = [trial for trial in complete if all(each <= 0 for each in violations_of(trial.system_attrs).values())]
    front = front_of([tuple(trial.values) for trial in allowed], tuple(directions_of(study).values()))
    return [allowed[at] for at in front]
