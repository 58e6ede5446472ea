"""What may go from an output folder without losing anything that anybody would read or continue from.

    OUT/NAME/checkpoints/KEY     of candidates that are none of those that `halving` keeps
    OUT/NAME/attempts/           see `launch.cleaning`
    OUT/store/artifacts/KEY      where the store has no record KEY, and no study a job that could bring it back
    temporary files              anywhere below, an hour old
    OUT/cache/*                  if asked for: it is computed again

Records, studies, manifests, reports, logs and the artifacts of existing records stay.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from harness.launch.cleaning import keys_of, removable_attempts
from harness.processes.locks import check_no_driver, lock_driver
from harness.records.errors import UserError, unknown_name
from harness.records.record import Measurement, TrialRecord
from harness.records.removal import Removable, outermost, removable, temporaries
from harness.records.store import Store
from harness.search.candidates import candidate_of
from harness.search.halving import retained
from harness.search.study import CHECKPOINTS, MARKS, stored_study, studies_in
from harness.trials.outcomes import is_final
from harness.trials.prepared import cache_folder
from harness.trials.spec import store_of

ATTEMPTS = "attempts"


def studies_of(out: Path, name: str | None = None) -> list[Path]:
    """The folders of all studies in `out`, or of the one called `name`. Errors: UserError where there is none."""
    if not out.is_dir():
        raise UserError(f"there is no folder {out}; say where the studies wrote with out=FOLDER")
    found = studies_in(out, (*MARKS, ATTEMPTS))  # `harness train` leaves attempts, too
    if name is not None and name not in found:
        raise unknown_name(f"study in {out}:", name, found)
    return [out / each for each in found if name in (None, each)]


@contextmanager
def undriven(studies: Sequence[Path], *, dry_run: bool) -> Iterator[None]:
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
    store, now = store_of(out), time.time()
    found = [item for study in studies for item in (*_checkpoints(study), *_attempts(study, store))]
    found += [item for study in studies for item in temporaries(study, now)]
    if whole:
        found += [*_orphans(store, studies), *temporaries(out, now)]
    if cache and not cache_folder(out).is_symlink():
        found += [removable(path, "caches") for path in sorted(cache_folder(out).glob("*"))]
    return outermost(found)


def _checkpoints(study: Path) -> Iterator[Removable]:
    folders = sorted((study / CHECKPOINTS).glob("[!.]*"))
    found = stored_study(study, study.name) if folders else None
    if found is None:
        return
    trials = [trial for trial in found.get_trials(deepcopy=False) if "levels" in trial.user_attrs]
    kept = retained(map(candidate_of, trials), [direction.name.lower() for direction in found.directions])
    yield from (removable(folder, "checkpoints") for folder in folders if folder.name not in kept)


def _attempts(study: Path, store: Store) -> Iterator[Removable]:
    def is_over(key: str) -> bool:
        try:
            record = store.trial(key)
        except UserError:  # damaged: it may have to be made again
            return False
        return record is not None and is_final(record)

    return removable_attempts(study / ATTEMPTS, is_over)


def _orphans(store: Store, studies: Sequence[Path]) -> Iterator[Removable]:
    owners = {*store.keys(TrialRecord), *store.keys(Measurement)}
    owners |= {key for study in studies for key in keys_of(study / ATTEMPTS)}
    for folder in sorted((store.root / "artifacts").glob("[!.]*")):
        if folder.name not in owners:
            yield removable(folder, "artifacts without a record")
