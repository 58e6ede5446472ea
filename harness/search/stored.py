"""What a sweep's study says now, read from outside while its driver may be writing.

It only reads, and quickly: of SQLite a few columns in one transaction of milliseconds, so that the driver, which waits
five seconds for the file, never notices; of a journal or a server what Optuna gives. `candidates` says what a trial of
the study means.
"""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, json_to_distribution
from optuna.trial import TrialState

from harness.records.errors import UserError
from harness.search.candidates import RungResult, State, rungs_in, state_of
from harness.search.space import Parameters
from harness.search.storage import begun_in, place, stored_study

REASONS = ("refused", "stopped", "failed")


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredCandidate:
    number: int
    state: State
    rungs: tuple[RungResult, ...]
    reason: str  # why it was refused, stopped or failed
    enqueued: str  # its name, if the sampler did not choose it
    parameters: Parameters


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredStudy:
    place: str
    attributes: Mapping[str, Any]  # the study's user attributes
    candidates: tuple[StoredCandidate, ...]


def read_stored(folder: Path, name: str) -> StoredStudy | None:
    """The study of this folder; None if no sweep began here. Errors: UserError where it cannot be read."""
    storage = begun_in(folder)
    if storage is None:
        return None
    where = place(folder, storage)
    if storage != "sqlite":
        if storage == "journal" and not Path(where).exists():
            return None  # Optuna would make the file
        study = stored_study(folder, name)
        return None if study is None else _from_optuna(study, where)
    path = folder / "study.db"
    if not path.exists():
        return None
    with reading(path) as file:
        file.execute("BEGIN")
        return _from_sqlite(file, name, where)


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """The file, which cannot be written so. Errors: UserError where it, or what is read from it, is damaged."""
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)) as file:
            yield file
    except (sqlite3.Error, ValueError, KeyError, TypeError) as error:
        raise _unreadable(path, error) from error


def _from_optuna(study: optuna.Study, where: str) -> StoredStudy:
    found = (
        _candidate(trial.number, trial.state, trial.user_attrs, trial.params)
        for trial in study.get_trials(deepcopy=False)
    )
    return StoredStudy(place=where, attributes=study.user_attrs, candidates=_known(found))


def _from_sqlite(file: sqlite3.Connection, name: str, where: str) -> StoredStudy | None:
    """By Optuna's tables; that this is what Optuna reads of them is tested."""
    row = file.execute("SELECT study_id FROM studies WHERE study_name = ?", (name,)).fetchone()
    if row is None:
        return None
    said = file.execute("SELECT key, value_json FROM study_user_attributes WHERE study_id = ?", row)
    attributes = {key: json.loads(value) for key, value in said}
    trials = file.execute(
        "SELECT trial_id, number, state FROM trials WHERE study_id = ? ORDER BY number", row
    ).fetchall()
    by_trial: dict[int, dict[str, Any]] = {trial_id: {} for trial_id, _, _ in trials}
    ours = "FROM {} AS a JOIN trials AS t ON a.trial_id = t.trial_id WHERE t.study_id = ?"
    wanted = ", ".join(f"'{key}'" for key in ("rungs", "enqueued", *REASONS))
    table = ours.format("trial_user_attributes")
    for trial_id, key, value in file.execute(f"SELECT a.trial_id, key, value_json {table} AND key IN ({wanted})", row):
        by_trial[trial_id][key] = json.loads(value)
    knobs: dict[int, dict[str, Any]] = {trial_id: {} for trial_id, _, _ in trials}
    table = ours.format("trial_params")
    for trial_id, knob, value, distribution in file.execute(
        f"SELECT a.trial_id, param_name, param_value, distribution_json {table} ORDER BY a.param_id", row
    ):
        knobs[trial_id][knob] = _distribution(distribution).to_external_repr(value)
    found = (
        _candidate(number, TrialState[state], by_trial[trial_id], knobs[trial_id]) for trial_id, number, state in trials
    )
    return StoredStudy(place=where, attributes=attributes, candidates=_known(found))


@cache
def _distribution(text: str) -> BaseDistribution:
    return json_to_distribution(text)


def _candidate(
    number: int, state: TrialState, attributes: Mapping[str, Any], parameters: Parameters
) -> StoredCandidate:
    return StoredCandidate(
        number=number,
        state=state_of(state, attributes),
        rungs=tuple(rungs_in(attributes)),
        reason=next((str(attributes[key]) for key in REASONS if key in attributes), ""),
        enqueued=str(attributes.get("enqueued", "")),
        parameters=parameters,
    )


def _known(found: Iterable[StoredCandidate]) -> tuple[StoredCandidate, ...]:
    """Trials that another tool enqueued are no candidates yet."""
    return tuple(each for each in found if each.rungs or each.state == "refused")


def _unreadable(path: Path, error: Exception) -> UserError:
    if path.with_name(f"{path.name}-journal").exists():
        return UserError(
            f"{path} was left in the middle of a write ({error}); the same `harness sweep` mends that when it goes on"
        )
    return UserError(f"cannot read the study {path}: {error}; move a damaged file away, or put back a copy")
