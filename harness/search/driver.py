"""`harness sweep NAME`: the sweep's files, its study and its queue put together.

OUT/NAME/sweep.json      the folder's id, and where the study lies
OUT/NAME/study.db        the Optuna study (storage: sqlite); any Optuna tool opens it
OUT/NAME/attempts/       the jobs, and the lock that keeps a second driver out
OUT/NAME/checkpoints/    of candidates that may be trained longer: here, or after a promotion (see `halving`)

`--dry-run` says what the sweep would do next. The driver itself says so, over a copy of the study in a scratch folder,
before a queue that trains nothing; what it writes goes with the folder.
"""

import io
import shutil
import sqlite3
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial

from harness.architecture.catalogue import architecture
from harness.launch.config import LauncherConfig
from harness.launch.events import Progress, read_events
from harness.launch.executors import submission_of
from harness.launch.pool import Pool
from harness.launch.stopping import DriverStopped
from harness.records.errors import UserError, of_file
from harness.records.judging import Floor
from harness.records.manifest import study_folder
from harness.records.plain import identity, to_plain
from harness.records.quantities import floor_text, more_is_better, title_of
from harness.records.quantity import Known, Quantity
from harness.records.record import TrialRecord
from harness.records.terminal import console
from harness.search.candidates import Candidates, candidate_of
from harness.search.definition import SweepStudy, check_epochs, check_finalists, definition_of
from harness.search.estimate import sweep_estimate
from harness.search.finalists import rescore_finalists
from harness.search.knob import Parameters
from harness.search.knob_checks import check_carries_over, check_recipes, check_types_of_values, check_values_possible
from harness.search.problem import Placed, Problem, rungs_of
from harness.search.space import SPACES, Space, read_space
from harness.search.study import (
    DEFINITION,
    FLOOR,
    KINDS,
    SWEEP_FILE,
    check_same_storage,
    check_unchanged,
    mend_journal,
    note_sampler,
    open_storage,
    open_study,
    place,
    reading,
    storage_in,
    writing,
)
from harness.search.sweep import Ending, Sweep
from harness.trials.controls import control_key, submit_controls
from harness.trials.costs import latency_backends, twin_latency_backends
from harness.trials.estimates import training_of
from harness.trials.outcomes import finished, measurements_to_queue, queued_backends
from harness.trials.prepared import prepare
from harness.trials.progress import Show
from harness.trials.queue import POLL_S, TrialQueue
from harness.trials.settings import Settings
from harness.trials.spec import TrialSpec, scratch_copy, store_of
from harness.trials.studies import find_study
from harness.trials.twins import PREFIX


@dataclass(frozen=True, kw_only=True, slots=True)
class Swept:
    study: optuna.Study
    settings: Settings
    place: str  # of the study: a path, or a URL without its password
    ending: str
    failed: bool  # all that was trained


def sweep(name: str, overrides: Sequence[str], show: Show) -> Swept:
    """Run the sweep, or go on with it, to its end."""
    definition, settings = definition_of(name, overrides)
    name, folder = Path(name).stem, study_folder(settings.out, Path(name).stem)
    problem, enqueued, remarks = problem_of(name, definition, settings, folder)
    for remark in remarks:
        show.note(remark)
    with Pool(folder / "attempts", settings.launcher) as pool:
        mend_journal(folder)
        storage = open_storage(folder, definition.storage)
        study = open_study(folder, name, definition.storage, storage, definition.objectives)
        where = place(folder, definition.storage)
        with writing(where):
            if "began" not in study.user_attrs and read_events(pool.folder):
                show.note(
                    f"{where} holds nothing of what this search has asked so far, so it begins anew; what was trained "
                    "is taken from the store"
                )
            check_unchanged(study, began(problem, definition))
            note_sampler(study, definition.sampler)
            study.set_user_attr(DEFINITION, to_plain(definition))
        queue = TrialQueue(pool, on_loss=show.lost)
        try:
            floor = floor_of(problem, queue, show)
            with writing(where):
                study.set_user_attr(FLOOR, floor)
                candidates = Candidates(study, storage, problem.space, where, time.time)
            running = Sweep(problem, definition, candidates, queue, time.time, show, floor=floor, enqueued=enqueued)
            ending = running.run()
            if definition.finalists is not None and not ending.halts:
                ending = rescore_finalists(running, definition.finalists, ending)
        except DriverStopped as stopped:
            ending = Ending(f"{stopped}; the same command continues", halts=True)
    return Swept(study=study, settings=settings, place=where, ending=ending.reason, failed=ending.failed)


def problem_of(
    name: str, definition: SweepStudy, settings: Settings, folder: Path
) -> tuple[Problem, list[Placed], list[str]]:
    """What is searched; the candidates that the sweep begins with; sentences on those that could not be placed."""
    space, twin = read_space(definition.space), settings.twin
    with of_file(find_study(SPACES, definition.space)):
        check_types_of_values(space)
        check_values_possible(space)
        if twin is not None:
            check_carries_over(space, twin)
        check_recipes(space, settings, several_budgets=len(definition.budgets or definition.epochs) > 1)
    check_epochs(definition, space)
    check_finalists(definition, space)
    prepared = prepare(settings)
    budgets = definition.budgets_for(prepared.training_pictures, settings.recipe.batch_size)
    problem = Problem(
        name=name,
        space=space,
        base=architecture(space.base),
        twin_base=None if twin is None else twin.read(),
        objectives=definition.objectives,
        levels=tuple(prepared.with_steps(steps) for steps in budgets) or (prepared,),
        folder=folder,
    )
    remarks = grid_remarks(space, definition) if definition.sampler == "grid" else []
    if definition.enqueue is None:
        return problem, [], remarks
    enqueued, unplaced = rungs_of(definition.enqueue, space, prepared.adapt_to_data, settings.recipe)
    return problem, enqueued, [*remarks, *unplaced]


def grid_remarks(space: Space, definition: SweepStudy) -> list[str]:
    """How many points the grid has. Errors: UserError where it has no end."""
    points = space.count()
    if points is None:
        name = next(name for name, knob in space.knobs.items() if knob.values() is None)
        raise UserError(f"a grid has an end, and knob '{name}' has too many values; give it choices, or a step")
    some = f"; trials={definition.trials:,} trains no more" if definition.trials < points else ""
    return [f"the grid has {points:,} points, those that a rule or a limit refuses among them{some}"]


def began(problem: Problem, definition: SweepStudy) -> dict[str, Any]:
    """What may not change while a study goes on."""
    settings, objectives = problem.levels[-1].settings, problem.objectives
    backends = {one.quantity: one for one in latency_backends(settings)}
    if settings.twin is not None:
        backends |= {f"{PREFIX}{one.quantity}": one for one in twin_latency_backends(settings)}
    of_twin = any(name.startswith(PREFIX) for name in objectives)
    return {
        "space": problem.space,
        "base": problem.base,  # its file may change while its name stays
        "objectives": problem.objectives,
        "budgets": problem.steps,
        "reduction": definition.reduction,
        "protocol": problem.levels[-1].protocol.sections,
        "latency": {name: identity(backends[name]) for name in objectives if name in backends},  # the chip among others
        "twin": {"latent": settings.twin.latent, "base": problem.twin_base} if settings.twin and of_twin else None,
        "seed": problem.seed,
    }


def floor_of(problem: Problem, queue: TrialQueue, show: Show) -> float | None:
    """What the task's floor scores, under the protocol of the top budget; computed now if it never was. None where
    nothing is held against it (`_without_floor`), and where it has no value and nothing is to be promoted.

    Budgets share all of the protocol that it depends on. Errors: UserError where it has no value, and there are
    several.
    """
    judging = problem.judging
    if judging.floor is None or (problem.top == 0 and _without_floor(problem)):
        return None
    if _stored_floor(problem, judging.floor) is None:
        show.note(f"computing the controls: what {judging.floor.what} scores is the floor for candidates")
        submit_controls(queue, problem.levels[-1], problem.levels[-1].adapt_to_data(problem.base))
        while queue.in_flight:
            queue.poll(POLL_S)
    score = _stored_floor(problem, judging.floor)
    if not isinstance(score, Known):
        why, what = "; ".join(queue.failures) or str(score), f"the {title_of(judging.first)} of {judging.floor.what}"
        if problem.top > 0:
            raise UserError(f"budgets need a floor, {what}, and it is not known: {why}; mend that, or give one budget")
        show.note(f"there is no floor: {what} is not known ({why}), so that no candidate is held against it")
        return None
    text, does = floor_text(judging.first, float(score.value)), "are promoted" if problem.top > 0 else "count"
    show.note(f"floor: candidates {does} {text}, which {judging.floor.what} reaches")
    return float(score.value)


def _without_floor(problem: Problem) -> str:
    """Why no candidate of one budget is held against a floor; empty where each is."""
    settings, judging = problem.levels[0].settings, problem.judging
    if judging.floor is None:
        return f"task={settings.task.name} has none"
    if settings.count_only:
        return "nothing is trained"
    scored = judging.first in settings.task.scoring(settings).scores
    return "" if scored else f"no {title_of(judging.first)} is scored"


def _stored_floor(problem: Problem, floor: Floor) -> Quantity | None:
    """What the store has; None where it was never computed."""
    prepared = problem.levels[-1]
    key = control_key(floor.control, prepared, prepared.adapt_to_data(problem.base))
    control = store_of(prepared.settings.out).measurement(key)
    return None if control is None else control.quantities.get(problem.judging.first)


COUNTED_FIRST = ("params", "macs", "twin.params", "twin.macs")
"""Shown of a candidate beside the objectives, as far as they are known before training."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Proposed:
    """A candidate that the driver would make."""

    name: str
    enqueued: str  # its name, if the sampler does not choose it
    parameters: Parameters
    counted: Mapping[str, float]
    refused: str  # why it would not be trained
    in_store: bool  # the store has its result


@dataclass(frozen=True, kw_only=True, slots=True)
class DryRun:
    budgets: tuple[int, ...]
    candidates: int  # candidates that the study has
    in_flight: int  # of those, submitted again at once
    promoted: tuple[str, ...]  # of those, submitted to their next budget
    proposed: tuple[Proposed, ...]
    floor: str
    measurements: Mapping[str, int]  # quantity -> how many a queue would be asked for, or has been; one an architecture
    ending: str  # why it would end then; empty where it would go on
    remarks: tuple[str, ...]
    estimate: tuple[str, ...]  # what the whole sweep takes
    submission: str


class _EnoughError(Exception):
    """All that was to be known is known."""


class DryQueue:
    """A queue that takes trials and runs none: `Trials`."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.again: int | None = None  # submitted before there was a question what is free: by an earlier driver too
        self.submitted: list[TrialSpec] = []
        self.in_store: set[str] = set()
        self.expected: set[str] = set()
        self.to_measure: set[tuple[str, str]] = set()  # quantity, and the key of its measurement

    @property
    def free(self) -> int:
        if self.again is None:
            self.again = len(self.submitted)
        return max(0, self.most - (len(self.submitted) - self.again))

    @property
    def in_flight(self) -> int:
        return len(self.submitted)

    @property
    def awaiting(self) -> int:
        return len(self.expected)

    def expect(self, spec: TrialSpec) -> None:
        self.expected.add(spec.key)

    def submit(self, spec: TrialSpec) -> TrialRecord | None:
        self.to_measure |= set(measurements_to_queue(spec).items())
        if (record := finished(spec)) is not None:
            self.in_store.add(spec.key)
            return record
        self.submitted.append(spec)
        return None

    def progress(self) -> Mapping[str, Progress]:
        return {}

    def poll(self, timeout_s: float) -> list[tuple[TrialSpec, TrialRecord]]:
        if timeout_s > 0:  # the driver has nothing else to do
            raise _EnoughError
        return []


def dry_run(name: str, overrides: Sequence[str], most: int) -> DryRun:
    """The next `most` trainings that the sweep would submit, and all that it would refuse on the way."""
    definition, settings = definition_of(name, overrides)
    name, kept = Path(name).stem, study_folder(settings.out, Path(name).stem)
    check_same_storage(kept, definition.storage)
    with scratch_copy(settings.out) as out:
        folder = study_folder(out, name)
        definition = replace(definition, storage=_copy(kept, folder, name))
        problem, enqueued, remarks = problem_of(name, definition, replace(settings, out=out), folder)
        storage = open_storage(folder, definition.storage)
        study = open_study(folder, name, definition.storage, storage, definition.objectives)
        check_unchanged(study, began(problem, definition))
        candidates = Candidates(study, storage, problem.space, place(folder, definition.storage), time.time)
        before, queue, (floor, about_floor) = len(candidates), DryQueue(most), _floor_so_far(problem)
        show, ending = Show(console(file=io.StringIO())), ""
        driver = Sweep(problem, definition, candidates, queue, time.time, show, floor=floor, enqueued=enqueued)
        with suppress(_EnoughError):
            ending = driver.run().reason
        new = [trial for trial in study.get_trials(deepcopy=False) if trial.number >= before]
        again = queue.again or 0
        promoted = [spec for spec in queue.submitted[again:] if spec.settings.recipe.steps > problem.steps[0]]
        asked_for = Counter(name for name, _ in queue.to_measure)
        return DryRun(
            budgets=problem.steps,
            candidates=before,
            in_flight=again,
            promoted=tuple(f"{spec.name} to {spec.settings.recipe.steps:,} steps" for spec in promoted),
            proposed=tuple(_proposed(trial, queue.in_store, problem) for trial in new),
            floor=about_floor,
            measurements={name: asked_for[name] for name in queued_backends(problem.levels[0].settings)},
            ending=ending,
            remarks=tuple(remarks),
            estimate=_estimate(definition, problem, queue),
            submission=_submission(settings.launcher, folder, kept, queue, most),
        )


def _estimate(definition: SweepStudy, problem: Problem, queue: DryQueue) -> tuple[str, ...]:
    """Of networks like those that would be trained next, else like the space's base."""
    prepared = problem.levels[-1]
    if prepared.settings.count_only:
        return ()
    next_ones = [spec.architecture for spec in queue.submitted[queue.again or 0 :]]
    counted = next_ones or [prepared.adapt_to_data(problem.base)]
    latent = prepared.task.shape[-1]
    settings = replace(prepared.settings, recipe=replace(prepared.settings.recipe, steps=problem.steps[-1]))
    networks = [training_of(each, latent, settings, prepared.task.teacher) for each in counted]
    return tuple(sweep_estimate(definition, prepared.settings, problem.steps, networks))


def _copy(kept: Path, folder: Path, name: str) -> str:
    """Copy the study into the scratch folder; the storage that it lies in there."""
    storage = storage_in(kept)
    folder.mkdir(parents=True)
    if storage is None:
        return "sqlite"
    if storage not in KINDS:
        opened = open_storage(kept, storage), open_storage(folder, "sqlite")
        optuna.copy_study(from_study_name=name, from_storage=opened[0], to_storage=opened[1], to_study_name=name)
        return "sqlite"
    file = Path(place(kept, storage))
    if file.exists() and storage == "sqlite":
        with reading(file) as source, closing(sqlite3.connect(folder / file.name)) as target:
            source.backup(target)
    elif file.exists():
        shutil.copy(file, folder)
    shutil.copy(kept / SWEEP_FILE, folder)
    return storage


def _floor_so_far(problem: Problem) -> tuple[float | None, str]:
    """The floor, and where it comes from."""
    judging, worst = problem.judging, float("-inf" if more_is_better(problem.judging.first) else "inf")
    why_none = _without_floor(problem)
    if judging.floor is None or (problem.top == 0 and why_none):
        return None, f"none: {why_none}"
    score, title = _stored_floor(problem, judging.floor), title_of(judging.first)
    if not isinstance(score, Known):
        return worst, f"not known yet: the {title} of {judging.floor.what} is computed first"
    return float(score.value), f"a {title} of {score.value:.4g}, that of {judging.floor.what}, from the store"


def _proposed(trial: FrozenTrial, in_store: set[str], problem: Problem) -> Proposed:
    attributes, candidate = trial.user_attrs, candidate_of(trial)
    shown = dict.fromkeys((*COUNTED_FIRST, *problem.objectives))
    return Proposed(
        name=candidate.name,
        enqueued=candidate.enqueued,
        parameters=candidate.parameters,
        counted={name: attributes[name] for name in shown if name in attributes},
        refused=candidate.reason if candidate.state == "refused" else "",
        in_store=any(level.key in in_store for level in candidate.levels),
    )


def _submission(launcher: LauncherConfig, folder: Path, kept: Path, queue: DryQueue, most: int) -> str:
    keys = [spec.key for spec in queue.submitted[:most]] or ["KEY"]
    return submission_of(launcher, folder / "attempts", keys).replace(str(folder), str(kept.absolute()))
