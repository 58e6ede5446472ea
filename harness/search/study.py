"""Where a sweep's Optuna study lies, and that one folder drives it.

    OUT/NAME/sweep.json       `id` of this folder, and `storage` as it was given
    OUT/NAME/study.db         storage: sqlite (the default)
    OUT/NAME/study.journal    storage: journal, for file systems shared over a network, on which SQLite is not safe
    (elsewhere)               storage: any URL that Optuna's RDBStorage takes, e.g. postgresql://host/optuna
    OUT/FILE                  storage: sqlite:///FILE, unless FILE is an absolute path

Only one driver may write to a study. The folder's driver.lock sees to that among the drivers of one folder; and since
a study on a server can be named from many folders, it holds the id of the folder that began it, and others are refused.

`sweep.json` in a folder OUT/NAME says that a sweep began there, `manifest.json` that an ablation did.
"""

import json
import logging
import os
import re
import sqlite3
import uuid
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

import optuna
from optuna.distributions import BaseDistribution, json_to_distribution
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from harness.records.errors import UserError, first_line, unknown_name
from harness.records.manifest import MANIFEST_FILE, STUDY_FILES
from harness.records.plain import canonical_json, differences, to_plain
from harness.records.store import write_atomic
from harness.search.pareto import Direction

DEFINITION, FLOOR, SAMPLERS_USED = "definition", "floor", "samplers"
"""The study's user attributes that hold its last driver's SweepStudy and floor, and all samplers that chose
candidates."""
CHECKPOINTS = "checkpoints"
"""The folder of a sweep that keeps them."""


KINDS = ("sqlite", "journal")
SWEEP_FILE, JOURNAL = STUDY_FILES["sweep"], "study.journal"

OWNER = "folder"  # the study's user attribute: {id, path} of the folder that began it


def check_storage(storage: str) -> str:
    """`storage` if it is a kind or the URL of a database that can be asked from here; else UserError."""
    if storage in KINDS:
        return storage
    if "://" not in storage:
        raise unknown_name("storage", storage, (*KINDS, "postgresql://HOST/DATABASE"))
    shown = place(Path(), storage)
    try:
        url = make_url(storage)
        url.get_dialect().import_dbapi()
    except (ArgumentError, ValueError) as error:  # NoSuchModuleError is one
        raise UserError(
            f"storage={shown} is no database's URL ({error}); write it as DRIVER://HOST/DATABASE"
        ) from error
    except ImportError as error:
        raise UserError(
            f"storage={shown} needs the Python package {error.name}, which is not installed; install it, or choose "
            "storage=sqlite or journal"
        ) from error
    if url.get_backend_name() == "sqlite" and url.host:
        file = storage.partition("://")[2]
        raise UserError(
            f"storage={storage} has two slashes, after which a host would come; a file takes three slashes, "
            f"{url.drivername}:///{file}"
        )
    if url.get_backend_name() == "sqlite" and (url.database or ":memory:") == ":memory:":
        raise UserError(f"storage={storage} keeps nothing after the driver's end; name a file: sqlite:///FILE")
    return storage


def database_url(folder: Path, storage: str) -> str:
    """The URL that Optuna opens for the sweep in `folder`, whatever the folder is called.

    SQLite takes a file's name as a URI, in which `?` and `#` are escaped. Optuna fills in what stands in braces.
    """
    url = make_url("sqlite:///study.db" if storage == "sqlite" else storage)
    if url.get_backend_name() == "sqlite" and not str(url.database).startswith("file:"):
        path = Path(str(url.database)).expanduser()
        below = folder if storage == "sqlite" else folder.parent
        url = url.set(database=(below.absolute() / path).as_uri()).update_query_dict({"uri": "true"})
    return url.render_as_string(hide_password=False).replace("{", "{{").replace("}", "}}")


def open_storage(folder: Path, storage: str) -> BaseStorage:
    """Optuna's storage, made if it is not there. Errors: UserError where it cannot be opened, or where this folder's
    study lies in another."""
    check_same_storage(folder, storage)
    _quiet()
    try:
        file = Path(place(folder, storage))
        if storage.startswith("sqlite") and file.is_relative_to(folder.parent):  # sqlite:///SUB/FILE lies below out=
            file.parent.mkdir(parents=True, exist_ok=True)
        if storage == "journal":
            return JournalStorage(JournalFileBackend(str(folder / JOURNAL)))
        return RDBStorage(database_url(folder, storage))
    except Exception as error:  # whatever SQLAlchemy or a driver raises of what it cannot open, read or write
        raise _cannot_open(place(folder, storage), error) from error


def check_same_storage(folder: Path, storage: str) -> None:
    """Refuse another storage than the one that this folder's study lies in."""
    before = _read(folder).get("storage", storage)
    if before != storage:
        raise UserError(
            f"this sweep's study lies in storage={before}, not {storage}; go on with that, or begin a new sweep under "
            "another name or out=FOLDER"
        )


def open_study(
    folder: Path, name: str, storage: str, opened: BaseStorage, objectives: Mapping[str, Direction]
) -> optuna.Study:
    """The study of this folder, made if it is not there; call it under the folder's driver.lock."""
    _quiet()
    try:
        study = optuna.create_study(
            storage=opened,
            study_name=name,
            directions=list(objectives.values()),
            load_if_exists=True,
            sampler=_no_sampler(),
        )
        if study.metric_names is None:  # other names than it began with are `check_unchanged`'s to refuse
            study.set_metric_names(list(objectives))
        _own(study, folder, storage)
    except UserError:
        raise
    except Exception as error:  # as above
        raise _cannot_open(place(folder, storage), error) from error
    return study


def mend_journal(folder: Path) -> None:
    """Cut a journal's last line where its writer did not come to the end of it (a kill, a full disk): the next line
    would make one of the two, which nobody can read. Call it under the folder's driver.lock: no other driver writes."""
    path = folder / JOURNAL
    if path.exists():
        with writing(str(path)), path.open("rb+") as file:
            cut_incomplete_line(file)


def cut_incomplete_line(file: BinaryIO, block: int = 65_536) -> None:
    """Shorten a file of lines to the end of its last whole one."""
    start = end = file.seek(0, os.SEEK_END)
    newline = -1
    while start > 0 and newline < 0:
        start = max(0, start - block)
        file.seek(start)
        newline = file.read(block).rfind(b"\n")
    if (whole := start + newline + 1) < end:
        file.truncate(whole)


def storage_in(folder: Path) -> str | None:
    """The storage of the sweep that began in this folder; None if none did."""
    storage = _read(folder).get("storage")
    return None if storage is None else str(storage)


def stored_study(folder: Path, name: str) -> optuna.Study | None:
    """The study that a sweep keeps for this folder, to read; None if no sweep began here."""
    _quiet()
    storage = storage_in(folder)
    if storage is None:
        return None
    opened = open_storage(folder, storage)
    try:
        return optuna.load_study(study_name=name, storage=opened, sampler=_no_sampler())
    except KeyError:
        return None
    except Exception as error:  # as above
        raise _cannot_open(place(folder, storage), error) from error


def directions_of(study: optuna.Study) -> dict[str, Direction]:
    """Objective -> its direction, as the sweep named them."""
    named = zip(study.metric_names or (), study.directions, strict=True)
    return {name: "maximize" if direction == StudyDirection.MAXIMIZE else "minimize" for name, direction in named}


def check_unchanged(study: optuna.Study, now: Mapping[str, Any]) -> None:
    """Refuse to go on where the space, the objectives or the protocol are not those that the study began with."""
    began, plain = study.user_attrs.get("began"), to_plain(now)
    if began is None:
        study.set_user_attr("began", plain)
        return
    for part, before in began.items():
        after = plain[part] if isinstance(plain, dict) else None
        if canonical_json(before) != canonical_json(after):
            raise UserError(
                f"the {part} changed since this sweep began: {', '.join(map(str, differences(before, after)))}; "
                "put it back, or begin a new sweep under another name or out=FOLDER"
            )


def note_sampler(study: optuna.Study, sampler: str) -> None:
    """Another sampler may take over while a study goes on; how its candidates were chosen stays known."""
    if sampler not in samplers_used(study):
        study.set_user_attr(SAMPLERS_USED, [*samplers_used(study), sampler])


def samplers_used(study: optuna.Study) -> list[str]:
    return list(study.user_attrs.get(SAMPLERS_USED, ()))


@contextmanager
def writing(where: str) -> Iterator[None]:
    """Inside, a study that cannot be read or written any more (a full disk, a lost server) is a UserError."""
    try:
        yield
    except (optuna.exceptions.StorageInternalError, OSError) as error:
        raise UserError(f"cannot write {where}: {_why(error)}; mend that and run the same command again") from error


def place(folder: Path, storage: str) -> str:
    """Where the study lies, for people; a URL without its password."""
    if storage == "sqlite":
        return str(folder / "study.db")
    if storage == "journal":
        return str(folder / JOURNAL)
    if re.match(r"sqlite(\+\w+)?:///", storage):
        return str(folder.parent / Path(str(make_url(storage).database)).expanduser())  # `%20` is a blank in a URL
    head, _, tail = storage.rpartition("@")
    user = head.split("://")[-1].split(":")[0]
    return f"{storage.split('://')[0]}://{user}@{tail}" if head else storage


def _own(study: optuna.Study, folder: Path, storage: str) -> None:
    """Name this folder as the study's; refuse if another is."""
    mine = {"id": str(_read(folder).get("id", uuid.uuid4().hex)), "storage": storage}
    owner = study.user_attrs.get(OWNER)
    if owner is None:
        study.set_user_attr(OWNER, {"id": mine["id"], "path": str(folder.absolute())})
    elif (_read(folder) and owner["id"] != mine["id"]) or (not _read(folder) and storage not in KINDS):
        raise UserError(
            f"the study '{study.study_name}' in {place(folder, storage)} is driven from {owner['path']}; run it from "
            "there (out=FOLDER), or begin a new sweep under another name"
        )
    elif not _read(folder):
        mine["id"] = str(owner["id"])  # the study's file was there before sweep.json was written: a kill between them
    write_atomic(folder / SWEEP_FILE, json.dumps(mine).encode())


def _read(folder: Path) -> dict[str, Any]:
    path = folder / SWEEP_FILE
    try:
        content: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {error}; put back the file as the sweep wrote it") from error
    return content


def _cannot_open(where: str, error: Exception) -> UserError:
    return UserError(
        f"cannot open the study {where}: {_why(error)}; let it be written, free space, move a damaged file away, or "
        "choose another place with out=FOLDER or storage=..."
    )


def _why(error: BaseException) -> str:
    """What the database said; Optuna's own words for a failed write are a guess ("exceeding max length")."""
    return first_line(error.__cause__ or error)


def _no_sampler() -> optuna.samplers.BaseSampler:
    """The study only stores: what to ask next is decided elsewhere."""
    return optuna.samplers.RandomSampler()


def _quiet() -> None:
    optuna.logging.set_verbosity(logging.ERROR)  # samplers warn of conditional knobs at every question
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)  # optuna is pinned


MARKS = (SWEEP_FILE, MANIFEST_FILE)


def studies_in(out: Path, marks: Sequence[str] = MARKS) -> list[str]:
    """The names of the folders in `out` that hold one of the `marks`, sorted."""
    if not out.is_dir():
        return []
    next(out.iterdir(), None)  # PermissionError, where `glob` would find nothing
    return sorted({path.parent.name for mark in marks for path in out.glob(f"*/{mark}")})


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredTrials:
    place: str
    attributes: Mapping[str, Any]  # the study's user attributes
    trials: tuple[FrozenTrial, ...]


def read_trials(folder: Path, name: str, attributes: Sequence[str]) -> StoredTrials | None:
    """The study of this folder, read from outside while its driver may be writing; of a trial, its state, its
    parameters and at least these user attributes. None if no sweep began here.

    Of SQLite a few columns in one transaction of milliseconds, so that the driver, which waits five seconds for the
    file, never notices; of a journal or a server what Optuna gives. Errors: UserError where it cannot be read.
    """
    storage = storage_in(folder)
    if storage is None:
        return None
    where = place(folder, storage)
    if storage in KINDS and not Path(where).exists():
        return None  # Optuna would make the file
    if storage != "sqlite":
        study = stored_study(folder, name)
        if study is None:
            return None
        return StoredTrials(place=where, attributes=study.user_attrs, trials=tuple(study.get_trials(deepcopy=False)))
    with reading(Path(where)) as file:
        file.execute("BEGIN")
        return _from_sqlite(file, name, where, attributes)


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """The file, which cannot be written so. Errors: UserError where it, or what is read from it, is damaged."""
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)) as file:
            yield file
    except (sqlite3.Error, ValueError, KeyError, TypeError) as error:
        raise _unreadable(path, error) from error


def _from_sqlite(file: sqlite3.Connection, name: str, where: str, names: Sequence[str]) -> StoredTrials | None:
    """By Optuna's tables; that this is what Optuna reads of them is tested."""
    row = file.execute("SELECT study_id FROM studies WHERE study_name = ?", (name,)).fetchone()
    if row is None:
        return None
    rows = file.execute("SELECT key, value_json FROM study_user_attributes WHERE study_id = ?", row)
    attributes = {key: json.loads(value) for key, value in rows}
    query = "SELECT trial_id, number, state FROM trials WHERE study_id = ? ORDER BY number"
    trials = {
        trial_id: FrozenTrial(
            number=number, trial_id=trial_id, state=TrialState[state], value=None, datetime_start=None,
            datetime_complete=None, params={}, distributions={}, user_attrs={}, system_attrs={}, intermediate_values={},
        )
        for trial_id, number, state in file.execute(query, row)
    }  # fmt: skip
    joined = "FROM {} AS a JOIN trials AS t ON a.trial_id = t.trial_id WHERE t.study_id = ?"
    table, keys = joined.format("trial_user_attributes"), ", ".join(f"'{key}'" for key in names)
    for trial_id, key, value in file.execute(f"SELECT a.trial_id, key, value_json {table} AND key IN ({keys})", row):
        trials[trial_id].user_attrs[key] = json.loads(value)
    query = f"SELECT a.trial_id, param_name, param_value, distribution_json {joined.format('trial_params')}"
    for trial_id, knob, value, distribution in file.execute(f"{query} ORDER BY a.param_id", row):
        trials[trial_id].params[knob] = _distribution(distribution).to_external_repr(value)
    return StoredTrials(place=where, attributes=attributes, trials=tuple(trials.values()))


@cache
def _distribution(text: str) -> BaseDistribution:
    return json_to_distribution(text)


def _unreadable(path: Path, error: Exception) -> UserError:
    if path.with_name(f"{path.name}-journal").exists():
        return UserError(
            f"{path} was left in the middle of a write ({error}); the same `harness sweep` mends that when it goes on"
        )
    return UserError(f"cannot read the study {path}: {error}; move a damaged file away, or put back a copy")
