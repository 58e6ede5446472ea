"""What may go from the disk, how large it is, and how it goes: at once, under any name that anybody reads.

A folder is renamed before its files are removed, so that nobody finds half of one; what a kill leaves of it is found by
its new name. Temporary files are those that atomic writes, checkpoints, exports and code copies rename into place: one
that was not touched for an hour has no writer any more.
"""

import os
import re
import shutil
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

STALE_S = 3600.0  # a rename follows the last write by milliseconds; the file system's clock may be minutes off

TEMPORARY = re.compile(
    r"\..+\.[0-9a-f]{32}"  # write_atomic
    r"|\.checkpoint-\d{8}"
    r"|\.code-[a-z0-9_]{8}"  # copies of the package
    r"|\..+\.\d+\.mlpackage"
    r"|\..+\.safetensors\.\d+"
)
REMOVED = re.compile(r"\.removed-.+\.[0-9a-f]{32}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Removable:
    path: Path
    what: str  # for people: "checkpoints", "temporary files", ...
    size_bytes: int


def removable(path: Path, what: str) -> Removable:
    return Removable(path=path, what=what, size_bytes=sum(status.st_size for status in _statuses(path)))


def remove(path: Path) -> None:
    """Take it away; links are not followed. What has gone already is no error."""
    try:
        if path.is_symlink() or not path.is_dir():
            path.unlink(missing_ok=True)
            return
        gone = path
        if not REMOVED.fullmatch(path.name):
            gone = path.with_name(f".removed-{path.name}.{uuid.uuid4().hex}")
            path.rename(gone)
        shutil.rmtree(gone)
    except FileNotFoundError:
        return


def temporaries(root: Path, now: float) -> Iterator[Removable]:
    """Below `root`: what a kill left half written, and half removed. `now` is Unix seconds."""
    for folder, names, files in os.walk(root):
        for name in [*names, *files]:
            path = Path(folder, name)
            half_removed = REMOVED.fullmatch(name) is not None
            if half_removed or (TEMPORARY.fullmatch(name) and now - last_change(path) > STALE_S):
                yield removable(path, "temporary files")
        names[:] = [name for name in names if not REMOVED.fullmatch(name) and not TEMPORARY.fullmatch(name)]


def outermost(items: Iterable[Removable]) -> list[Removable]:
    """Each path once, without those that lie in another one, sorted."""
    roots: list[Removable] = []
    for item in sorted(items, key=lambda each: each.path.parts):
        if not roots or not item.path.is_relative_to(roots[-1].path):
            roots.append(item)
    return roots


def _statuses(path: Path) -> Iterator[os.stat_result]:
    yield path.lstat()
    if path.is_dir() and not path.is_symlink():
        for folder, names, files in os.walk(path):
            yield from (Path(folder, name).lstat() for name in files)
            yield from (Path(folder, name).lstat() for name in names if Path(folder, name).is_symlink())


def last_change(path: Path) -> float:
    """Unix seconds, of the path or anything below it."""
    return max(status.st_mtime for status in _statuses(path))
