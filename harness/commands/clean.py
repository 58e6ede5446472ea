"""`harness clean [NAME]`: remove what nobody would read or continue from, and say how much it was.

    OUT/NAME/checkpoints/KEY     of candidates that are none of those that `search.halving` keeps
    OUT/NAME/attempts/           see `launch.cleaning`
    OUT/store/artifacts/KEY      where the store has no record KEY, and no study a job that could bring it back
    OUT/scores/parts/KEY         of a score that is stored; and of one that nobody has gone on with for a week
    OUT/packages/KEY             Core ML packages where the store has no record KEY, a week old
    temporary files              anywhere below, an hour old
    OUT/cache/*                  if asked for: it is computed again

Records, studies, manifests, reports, logs and the artifacts of existing records stay.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from harness.commands.operands import ATTEMPTS, out_of
from harness.commands.verb import Verb
from harness.processes.locks import check_no_driver, is_held, lock_driver
from harness.records.errors import UserError, unknown_name
from harness.records.removal import (
    STALE_S,
    Removable,
    last_change,
    outermost,
    removable,
    remove,
    temporaries,
)
from harness.records.terminal import table

if TYPE_CHECKING:
    from harness.records.store import Store

ABANDONED_S = 7 * 24 * 3600.0
"""Since anybody sampled a part of a score, or wrote a package: a queue's jobs may begin that late."""


def flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dry-run", action="store_true", help="list what would go, and remove nothing")
    parser.add_argument("--cache", action="store_true", help="what can be computed again, too: OUT/cache")
    parser.add_argument("--json", action="store_true", help="print one JSON object with every path, and nothing else")


def check(arguments: argparse.Namespace) -> None:
    out_of(arguments.overrides, arguments.name)


def run(arguments: argparse.Namespace) -> int:
    out, name = out_of(arguments.overrides, arguments.name), arguments.name
    if arguments.cache and name is not None:
        raise UserError(f"--cache removes what all studies of {out} share; leave out NAME ('{name}')")
    studies = _studies(out, name)
    with _undriven(studies, dry_run=arguments.dry_run):
        items = plan(out, studies, whole=name is None, cache=arguments.cache)
        if not arguments.dry_run:
            _remove(items)
    print(_as_json(items, arguments.dry_run) if arguments.json else _as_table(items, out, arguments.dry_run))
    return 0


VERB = Verb(
    summary="remove what nobody would read or continue from: old checkpoints, finished jobs' files, leftovers",
    name="one study, by its name below out=; default: all of them, and what they share",
    operands="[NAME]",
    example="harness clean laptop --dry-run",
    flags=flags,
    check=check,
    run=run,
)


def _studies(out: Path, name: str | None) -> list[Path]:
    """The folders of all studies in `out`, or of the one called `name`. Errors: UserError where there is none."""
    from harness.search.study import MARKS, studies_in

    if not out.is_dir():
        raise UserError(f"there is no folder {out}; say where the studies wrote with out=FOLDER")
    names = studies_in(out, (*MARKS, ATTEMPTS))  # jobs of commands without a study, too
    if name is not None and name not in names:
        raise unknown_name(f"study in {out}:", name, names)
    return [out / each for each in names if name in (None, each)]


@contextmanager
def _undriven(studies: Sequence[Path], *, dry_run: bool) -> Iterator[None]:
    """Inside, no driver runs any of the studies, nor can one begin. A dry run looks, and locks nothing.

    Errors: UserError that names the driver that runs one.
    """
    with ExitStack() as locks:
        for folder in (study / ATTEMPTS for study in studies):
            if dry_run:
                check_no_driver(folder)
            elif folder.is_dir():
                locks.enter_context(lock_driver(folder))
        yield


def plan(out: Path, studies: Sequence[Path], *, whole: bool, cache: bool) -> list[Removable]:
    """All that may go of the studies; with `whole` of what they share, too; with `cache` of the cache."""
    from harness.trials.spec import cache_folder, store_of

    store, now = store_of(out), time.time()
    items = [item for study in studies for item in (*_checkpoints(study), *_attempts(study, store))]
    items += [item for study in studies for item in temporaries(study, now)]
    if whole:
        items += [*_orphans(store, studies), *_parts(out, store, now), *_packages(out, store, now)]
        items += temporaries(out, now)
    if cache and not cache_folder(out).is_symlink():
        items += [removable(path, "caches") for path in sorted(cache_folder(out).glob("*"))]
    return outermost(items)


def _checkpoints(folder: Path) -> Iterator[Removable]:
    from harness.search.candidates import candidate_of
    from harness.search.halving import retained
    from harness.search.study import CHECKPOINTS, directions_of, stored_study

    checkpoints = sorted((folder / CHECKPOINTS).glob("[!.]*"))
    study = stored_study(folder, folder.name) if checkpoints else None
    if study is None:
        return
    trials = [trial for trial in study.get_trials(deepcopy=False) if "levels" in trial.user_attrs]
    kept = retained(map(candidate_of, trials), tuple(directions_of(study).values()))
    yield from (removable(each, "checkpoints") for each in checkpoints if each.name not in kept)


def _attempts(study: Path, store: Store) -> Iterator[Removable]:
    from harness.launch.cleaning import removable_attempts
    from harness.trials.outcomes import is_final

    def is_over(key: str) -> bool:
        try:
            record = store.trial(key)
        except UserError:  # damaged: it may have to be made again
            return False
        return record is not None and is_final(record)

    return removable_attempts(study / ATTEMPTS, is_over)


def _orphans(store: Store, studies: Sequence[Path]) -> Iterator[Removable]:
    from harness.launch.cleaning import keys_of
    from harness.records.record import Measurement, TrialRecord

    owners = {*store.keys(TrialRecord), *store.keys(Measurement)}
    owners |= {key for study in studies for key in keys_of(study / ATTEMPTS)}
    for folder in sorted((store.root / "artifacts").glob("[!.]*")):
        if folder.name not in owners:
            yield removable(folder, "artifacts without a record")


def _parts(out: Path, store: Store, now: float) -> Iterator[Removable]:
    """Of scores, which no process is at: between two of them nothing is locked, but something was just written."""
    from harness.records.record import Measurement

    stored = set(store.keys(Measurement))
    for folder in sorted((out / "scores" / "parts").glob("[!.]*")):
        least = STALE_S if folder.name in stored else ABANDONED_S
        if now - last_change(folder) > least and not any(map(is_held, folder.glob("*lock"))):
            yield removable(folder, "parts of scores")


def _packages(out: Path, store: Store, now: float) -> Iterator[Removable]:
    """Of no record: their trial was removed, or others' weights were packaged, which the same command does again."""
    from harness.records.record import TrialRecord

    stored = set(store.keys(TrialRecord))
    for folder in sorted((out / "packages").glob("[!.]*")):
        if folder.name not in stored and now - last_change(folder) > ABANDONED_S:
            yield removable(folder, "packages without a record")


def _remove(items: Sequence[Removable]) -> None:
    from harness.records.eta import with_eta

    for item in with_eta(items, "removing", len(items)):
        remove(item.path)


def _as_json(items: Sequence[Removable], dry_run: bool) -> str:
    listed = [{"path": str(item.path), "what": item.what, "bytes": item.size_bytes} for item in items]
    return json.dumps(
        {"dry_run": dry_run, "bytes": sum(item.size_bytes for item in items), "removed": listed}, indent=1
    )


def _as_table(items: Sequence[Removable], out: Path, dry_run: bool) -> str:
    groups: dict[tuple[str, str], list[Removable]] = defaultdict(list)
    for item in items:
        groups[item.path.relative_to(out).parts[0], item.what].append(item)
    rows = [(where, what, len(some), sum(one.size_bytes for one in some)) for (where, what), some in groups.items()]
    rows.append(("all", "", len(items), sum(item.size_bytes for item in items)))
    return table(("in", "what", "how many", "bytes"), rows, "would be removed" if dry_run else "removed")
