"""What a pool's folder does not need any more: see `attempt` for what each file is for.

Kept are all results, the logs and tracebacks of what failed, locks, counters, and attempts.log, the proof. What may yet
run keeps everything: a job may wait in a cluster's queue while no driver runs.

    of a finished attempt       its pickled call and its logs
    of one that failed          the pickles
    of one that was superseded  all, once another attempt at its key is finished; until then the pickles
    of a key that is over       what its attempts shared: checkpoints
    code-HASH                   a copy of the code that no attempt refers to
    arrays/NAME                 submitit's folder of an array whose attempts are all finished
"""

from collections.abc import Callable, Iterator
from pathlib import Path

from harness.launch.attempt import Attempt, attempts_of, current_attempt
from harness.processes.locks import is_held
from harness.records.removal import Removable, removable

JOBS, COPIES = "finished jobs' files", "copies of the code"


def keys_of(folder: Path) -> list[str]:
    """The keys that were ever submitted to the pool in `folder`."""
    return sorted(path.parent.name for path in folder.glob("*/current"))


def removable_attempts(folder: Path, is_over: Callable[[str], bool]) -> Iterator[Removable]:
    """What may go from the pool in `folder`, which no driver runs. `is_over(key)`: its result is kept elsewhere, and
    nobody will submit it again."""
    remaining: list[Attempt] = []
    for key in keys_of(folder):
        attempts = attempts_of(folder / key)
        finished = [attempt for attempt in attempts if _state(attempt) == "done"]
        for attempt in attempts:
            gone = list(_of_attempt(attempt, bool(finished)))
            yield from (removable(path, JOBS) for path in gone)
            if attempt.folder not in gone:
                remaining.append(attempt)
        shared = folder / key / "shared"
        if shared.is_dir() and not _runs(attempts) and (finished or is_over(key)):
            yield removable(shared, "checkpoints")
    yield from _copies(folder, remaining)
    yield from _arrays(folder, remaining)


def _of_attempt(attempt: Attempt, key_is_finished: bool) -> Iterator[Path]:
    state, superseded = _state(attempt), current_attempt(attempt.folder.parent) != attempt
    if is_held(attempt.lock) or (state is None and not superseded):
        return  # it runs, or may yet
    if key_is_finished and superseded and state not in ("done", "failed"):
        yield attempt.folder
        return
    if attempt.call.exists():
        yield attempt.call
    if state == "done" and (attempt.logs.exists() or attempt.logs.is_symlink()):
        yield attempt.logs
    elif attempt.logs.is_dir() and not attempt.logs.is_symlink():  # not an array's, which others share
        yield from sorted(attempt.logs.glob("*.pkl"))


def _runs(attempts: list[Attempt]) -> bool:
    return any(is_held(attempt.lock) or is_held(attempt.key_lock) for attempt in attempts)


def _state(attempt: Attempt) -> str | None:
    result = attempt.result()
    return None if result is None else result.state


def _copies(folder: Path, remaining: list[Attempt]) -> Iterator[Removable]:
    """An attempt that does not say which copy it runs may run any."""
    submissions = [attempt.submitted() for attempt in remaining]
    if all("code" in submitted for submitted in submissions):
        needed = {submitted["code"] for submitted in submissions}
        yield from (removable(copy, COPIES) for copy in sorted(folder.glob("code-*")) if copy.name not in needed)


def _arrays(folder: Path, remaining: list[Attempt]) -> Iterator[Removable]:
    needed = {
        attempt.logs.resolve() for attempt in remaining if attempt.logs.is_symlink() and _state(attempt) != "done"
    }
    for array in sorted((folder / "arrays").glob("[!.]*")):
        if array.resolve() not in needed:
            yield removable(array, JOBS)
