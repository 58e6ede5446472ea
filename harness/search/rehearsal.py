"""`harness sweep NAME --dry-run`: what the sweep would do next. The driver itself says so, over a copy of the study, in
a scratch folder, before a queue that trains nothing; what it writes goes with the folder.
"""

import io
import shutil
import sqlite3
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import optuna

from harness.launch.config import LauncherConfig
from harness.launch.events import Progress
from harness.launch.executors import submission_of
from harness.records.manifest import study_folder
from harness.records.quantity import Known
from harness.records.record import TrialRecord
from harness.records.terminal import console
from harness.search.candidates import Candidates, candidate_name
from harness.search.definition import check_unchanged, definition_of
from harness.search.driver import began, problem_of
from harness.search.knobs import Parameters
from harness.search.problem import Problem
from harness.search.study import SWEEP_FILE, open_storage, open_study, place, reading, storage_in
from harness.search.sweep import Sweep
from harness.trials.controls import control_key
from harness.trials.outcomes import finished, measurements_to_queue, queued_backends
from harness.trials.progress import Show
from harness.trials.spec import TrialSpec, scratch_copy, store_of

SHOWN = ("params", "macs", "twin.params", "twin.macs")
"""Beside the objectives, as far as they are known before training."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Proposed:
    """A candidate that the driver would make."""

    name: str
    enqueued: str  # its name, if the sampler does not choose it
    parameters: Parameters
    counted: Mapping[str, float]
    refused: str  # why it would not be trained
    known: bool  # the store has its result


@dataclass(frozen=True, kw_only=True, slots=True)
class Rehearsal:
    budgets: tuple[int, ...]
    goes_on: int  # candidates that the study has
    in_flight: int  # of those, submitted again at once
    promoted: tuple[str, ...]  # of those, submitted to their next budget
    proposed: tuple[Proposed, ...]
    floor: str
    measurements: Mapping[str, int]  # quantity -> how many a queue would be asked for, or has been; one an architecture
    ending: str  # why it would end then; empty where it would go on
    remarks: tuple[str, ...]
    submission: str


class _EnoughError(Exception):
    """All that was to be known is known."""


class Rehearsing:
    """A queue that takes trials and runs none: `Trials`."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.again: int | None = None  # submitted before there was a question what is free: by an earlier driver too
        self.submitted: list[TrialSpec] = []
        self.known: set[str] = set()
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
        self.to_measure |= {(name, key) for name, key in measurements_to_queue(spec).items()}
        if (record := finished(spec)) is not None:
            self.known.add(spec.key)
            return record
        self.submitted.append(spec)
        return None

    def progress(self) -> Mapping[str, Progress]:
        return {}

    def poll(self, timeout_s: float) -> list[tuple[TrialSpec, TrialRecord]]:
        if timeout_s > 0:  # the driver has nothing else to do
            raise _EnoughError
        return []


def rehearse(name: str, overrides: Sequence[str], most: int) -> Rehearsal:
    """The next `most` trainings that the sweep would submit, and all that it would refuse on the way."""
    definition, settings = definition_of(name, overrides)
    name = Path(name).stem
    with scratch_copy(settings.out) as place_for_it:
        folder, kept = study_folder(place_for_it, name), study_folder(settings.out, name)
        copied = replace(definition, storage=_copy(kept, folder, name))
        moved = replace(settings, out=place_for_it)
        problem, enqueued, remarks = problem_of(name, copied, moved, folder)
        storage = open_storage(folder, copied.storage)
        study = open_study(folder, name, copied.storage, storage, copied.objectives)
        check_unchanged(study, began(problem, copied))
        candidates = Candidates(study, storage, problem.space, place(folder, copied.storage), time.time)
        before, queue = len(candidates), Rehearsing(most)
        floor, said = _floor(problem)
        show = Show(console(file=io.StringIO()))
        driver = Sweep(problem, copied, candidates, queue, time.time, show, floor=floor, enqueued=enqueued)
        ending = ""
        with suppress(_EnoughError):
            ending = driver.run().reason
        new = [trial for trial in study.get_trials(deepcopy=False) if trial.number >= before]
        again = queue.again or 0
        return Rehearsal(
            budgets=problem.steps,
            goes_on=before,
            in_flight=again,
            promoted=tuple(
                f"{spec.name} to {spec.settings.recipe.steps:,} steps"
                for spec in queue.submitted[again:]
                if spec.settings.recipe.steps > problem.steps[0]
            ),
            proposed=tuple(_proposed(trial, queue.known, problem.objectives) for trial in new),
            floor=said,
            measurements=_measurements(problem, queue),
            ending=ending,
            remarks=tuple(remarks),
            submission=_submission(settings.launcher, folder, kept, queue, most),
        )


def _copy(kept: Path, folder: Path, name: str) -> str:
    """Copy the study into the scratch folder; the storage that it lies in there."""
    storage = storage_in(kept)
    folder.mkdir(parents=True)
    if storage is None:
        return "sqlite"
    if storage == "sqlite" and (kept / "study.db").exists():
        with reading(kept / "study.db") as source, closing(sqlite3.connect(folder / "study.db")) as target:
            source.backup(target)
    elif storage == "journal" and (kept / "study.journal").exists():
        shutil.copy(kept / "study.journal", folder / "study.journal")
    elif storage not in ("sqlite", "journal"):
        optuna.copy_study(
            from_study_name=name,
            from_storage=open_storage(kept, storage),
            to_storage=open_storage(folder, "sqlite"),
            to_study_name=name,
        )
        return "sqlite"
    shutil.copy(kept / SWEEP_FILE, folder / SWEEP_FILE)
    return storage


def _measurements(problem: Problem, queue: Rehearsing) -> dict[str, int]:
    counted = Counter(name for name, _ in queue.to_measure)
    return {name: counted[name] for name in queued_backends(problem.levels[0].settings)}


def _floor(problem: Problem) -> tuple[float | None, str]:
    """The floor, and where it comes from."""
    if problem.top == 0:
        return None, "none: there is one budget"
    prepared = problem.levels[-1]
    store = store_of(prepared.settings.out)
    found = store.measurement(control_key("pixel_gaussian", prepared, prepared.adapt_to_data(problem.base)))
    quantity = None if found is None else found.quantities.get("kid")
    if not isinstance(quantity, Known):
        return float("inf"), "not known yet: the KID of a Gaussian fitted to the pixels is computed first"
    return float(quantity.value), f"a KID of {quantity.value:.4g}, a pixel Gaussian's, from the store"


def _proposed(trial: optuna.trial.FrozenTrial, known: set[str], objectives: Iterable[str]) -> Proposed:
    said = trial.user_attrs
    keys = {result["key"] for result in said.get("levels", ())}
    return Proposed(
        name=candidate_name(trial.number),
        enqueued=str(said.get("enqueued", "")),
        parameters=trial.params,
        counted={name: said[name] for name in dict.fromkeys((*SHOWN, *objectives)) if name in said},
        refused=str(said.get("refused", "")),
        known=bool(keys & known),
    )


def _submission(launcher: LauncherConfig, folder: Path, kept: Path, queue: Rehearsing, most: int) -> str:
    keys = [spec.key for spec in queue.submitted[:most]] or ["KEY"]
    return submission_of(launcher, folder / "attempts", keys).replace(str(folder), str(kept.absolute()))
