"""A sweep's study as optuna-dashboard shows it: a storage that cannot be written, and says more than the study does.

Added to each trial are user attributes, which are columns there:

    steps              of the highest budget whose values are known
    last NAME          an objective there: of a stopped candidate too, and of one that may still be promoted
    rescored NAME      its mean over the fresh seeds, `... standard error`, and `rescored seeds`, how many have values

and its files, as artifacts. Values and constraints are the study's own. Neither the study nor a file is copied into
another place or written: the sweep's driver alone writes, and may be doing so.
"""

import json
import math
import sqlite3
import tempfile
import threading
import time
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from optuna.artifacts.exceptions import ArtifactNotFound
from optuna.storages import BaseStorage, RDBStorage
from optuna.study import StudyDirection
from optuna.study._frozen import FrozenStudy
from optuna.trial import FrozenTrial, TrialState

from harness.dashboards.files import ShownFile, file_id, files_of, opened, packages, with_ancestors
from harness.records.errors import UserError
from harness.records.store import Store
from harness.search.candidates import PREFIX, REASONS, Candidate, FreshScore, candidate_name, candidate_of, rescored_in
from harness.search.study import database_url, open_storage, place, reading, storage_in

EVERY_S, REST = 2.0, 5
"""The study is read again after two seconds at the earliest, and five times as long as reading took."""
METRIC_NAMES = "study:metric_names"  # Optuna's system attribute
ARTIFACT = "artifacts:"  # likewise; a trial's or a study's
REFUSED = "this view only reads: the sweep's driver alone writes its study"


class OnlyReadError(RuntimeError):
    """Somebody asked the view to write."""


@contextmanager
def stored(folder: Path) -> Iterator[BaseStorage]:
    """The storage of the sweep in this folder, to read. Of SQLite a copy, taken in one look of milliseconds, so that
    the driver never waits. UserError where no sweep began here, or it cannot be read."""
    kind = storage_in(folder)
    if kind is None or (kind in ("sqlite", "journal") and not Path(place(folder, kind)).exists()):
        raise UserError(f"the sweep in {folder} has no study yet; `harness sweep {folder.name}` begins it")
    if kind != "sqlite":
        yield open_storage(folder, kind)
        return
    with tempfile.TemporaryDirectory(prefix="dashboard-") as own:
        copy = Path(own) / "study.db"
        with reading(Path(place(folder, kind))) as source, closing(sqlite3.connect(copy)) as target:
            source.backup(target)
        storage = RDBStorage(database_url(Path(own), "sqlite"))
        try:
            yield storage
        finally:
            storage.engine.dispose()


@dataclass(frozen=True, kw_only=True, slots=True)
class View:
    """The study at one moment."""

    study: FrozenStudy
    trials: tuple[FrozenTrial, ...] = ()
    files: Mapping[str, ShownFile] = field(default_factory=dict)  # by id


def view_of(folder: Path, name: str, published: Sequence[Path] = ()) -> View:
    """Of the sweep in this folder, now; `published` are folders that lie elsewhere than below the output folder."""
    store = Store(folder.parent / "store")
    of_trial = with_ancestors(store, packages(folder.parent, published))
    with stored(folder) as storage:
        study = next((each for each in storage.get_all_studies() if each.study_name == name), None)
        if study is None:
            raise UserError(f"{folder} has no study '{name}'; `harness sweep {name}` begins it")
        trials = storage.get_all_trials(study._study_id, deepcopy=False)
    objectives = study.system_attrs.get(METRIC_NAMES) or [f"value {at}" for at in range(len(study.directions))]
    rescored, files, shown = rescored_in(study.user_attrs), dict[str, ShownFile](), list[FrozenTrial]()
    for trial in trials:
        attributes, mine = dict[str, Any](), list[ShownFile]()
        if "fingerprint" in trial.user_attrs or "refused" in trial.user_attrs:
            candidate, fresh = candidate_of(trial), rescored.get(candidate_name(trial.number), ())
            attributes = _told(candidate, study.user_attrs.get(f"{PREFIX}{candidate.name}", {}), fresh, objectives)
            mine = _files(store, candidate, fresh, of_trial)
        files |= {each.id: each for each in mine}
        shown.append(_with(trial, attributes, mine))
    page = folder / "report.html"
    pages = [ShownFile(id=file_id("page", name), filename=page.name, path=page)] if page.is_file() else []
    study.system_attrs.update(_artifacts(pages))
    return View(study=study, trials=tuple(shown), files=files | {each.id: each for each in pages})


def _told(
    candidate: Candidate, rescored: Mapping[str, Any], fresh: Sequence[FreshScore], objectives: Sequence[str]
) -> dict[str, Any]:
    attributes: dict[str, Any] = {}
    if known := [level for level in candidate.levels if level.values is not None]:
        values = known[-1].values or ()
        attributes |= {
            "steps": known[-1].steps,
            **{f"last {name}": each for name, each in zip(objectives, values, strict=True)},
        }
    if scored := sum(score.values is not None for score in fresh):
        for name, mean, error in zip(objectives, rescored["mean"], rescored["standard_error"], strict=True):
            attributes[f"rescored {name}"] = mean
            if error is not None and math.isfinite(error):
                attributes[f"rescored {name} standard error"] = error
        attributes["rescored seeds"] = scored
    return attributes


def _files(
    store: Store, candidate: Candidate, fresh: Sequence[FreshScore], published: Mapping[str, Sequence[ShownFile]]
) -> list[ShownFile]:
    keys = {level.key: f"{level.steps}-steps" for level in candidate.levels}
    keys |= {score.key: f"seed-{score.seed}" for score in fresh}
    own = [each for key, suffix in keys.items() for each in files_of(store, key, suffix)]
    whole = {each.id: each for key in keys for each in published.get(key, ())}
    return [*own, *whole.values()]


def _artifacts(files: Sequence[ShownFile]) -> dict[str, str]:
    """System attributes, as `optuna.artifacts.upload_artifact` writes them."""
    return {
        f"{ARTIFACT}{each.id}": json.dumps(
            {"artifact_id": each.id, "filename": each.filename, "mimetype": each.mimetype, "encoding": None}
        )
        for each in files
    }


def _with(trial: FrozenTrial, attributes: Mapping[str, Any], files: Sequence[ShownFile]) -> FrozenTrial:
    reasons = {name: trial.user_attrs[name] for name in REASONS if name in trial.user_attrs}
    return FrozenTrial(
        number=trial.number,
        trial_id=trial._trial_id,
        state=trial.state,
        value=None,
        values=trial.values,
        datetime_start=trial.datetime_start,
        datetime_complete=trial.datetime_complete,
        params=trial.params,
        distributions=trial.distributions,
        user_attrs={**attributes, **reasons, **trial.user_attrs},  # in this order: a box shows the first few lines
        system_attrs={**trial.system_attrs, **_artifacts(files)},
        intermediate_values=trial.intermediate_values,
    )


class ShownStudy(BaseStorage):
    """The storage, and the store of artifacts (`open_reader`), that optuna-dashboard is given. One study, which is
    `view_of` the folder, not older than `EVERY_S` or `REST` times its own reading."""

    def __init__(self, folder: Path, name: str, published: Sequence[Path] = ()) -> None:
        self._asked, self._lock = (folder, name, published), threading.RLock()
        self._view, self._until = view_of(*self._asked), 0.0  # at once, so that what is wrong is said before it serves

    @property
    def view(self) -> View:
        with self._lock:
            if (began := time.monotonic()) >= self._until:
                self._view = view_of(*self._asked)
                now = time.monotonic()
                self._until = now + max(EVERY_S, REST * (now - began))
            return self._view

    def _study(self, study_id: int) -> FrozenStudy:
        if (study := self.view.study)._study_id != study_id:
            raise KeyError(f"there is no study {study_id}")
        return study

    def get_all_studies(self) -> list[FrozenStudy]:
        return [self.view.study]

    def get_study_id_from_name(self, study_name: str) -> int:
        if (study := self.view.study).study_name != study_name:
            raise KeyError(f"there is no study '{study_name}'")
        return study._study_id

    def get_study_name_from_id(self, study_id: int) -> str:
        return self._study(study_id).study_name

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        return list(self._study(study_id).directions)

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        return dict(self._study(study_id).user_attrs)

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        return dict(self._study(study_id).system_attrs)

    def get_all_trials(
        self,
        study_id: int,
        deepcopy: bool = True,  # noqa: ARG002 - Optuna's name; these are nobody else's
        states: Container[TrialState] | None = None,
    ) -> list[FrozenTrial]:
        self._study(study_id)
        return [trial for trial in self.view.trials if states is None or trial.state in states]

    def get_trial(self, trial_id: int) -> FrozenTrial:
        match = next((trial for trial in self.view.trials if trial._trial_id == trial_id), None)
        if match is None:
            raise KeyError(f"there is no trial {trial_id}")
        return match

    def open_reader(self, artifact_id: str) -> BinaryIO:
        try:
            return opened(self.view.files[artifact_id])
        except (KeyError, OSError) as error:
            raise ArtifactNotFound(f"no file {artifact_id} (any more)") from error

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise OnlyReadError(REFUSED)

    write = remove = _refuse
    create_new_study = delete_study = set_study_user_attr = set_study_system_attr = _refuse
    create_new_trial = set_trial_param = set_trial_state_values = set_trial_intermediate_value = _refuse
    set_trial_user_attr = set_trial_system_attr = _refuse
