"""What is in image files: every one's content hash, whether it can be read, and what to know of it.

Each file is read and decoded once, by threads. The findings are kept in a cache under the folder's path and trusted
for a file only while its size and both its times are what they were, so the next start only lists the folder.
"""

import hashlib
import json
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import TypeVar

from harness.data.decode import UnreadableError, decode
from harness.records.eta import with_eta
from harness.records.plain import fingerprint
from harness.records.store import reading_cache, write_atomic

SCHEMA = "folder-index-2"
Stamp = tuple[int, int, int]  # size in bytes, mtime_ns, ctime_ns
Part = TypeVar("Part")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Entry:
    """One image file."""

    name: str  # relative to the root, with forward slashes: "cat/1.png"
    digest: str  # of its bytes
    grayscale: bool = False
    peak: int = 0  # the largest value of a file of 16 bits a value, else 0
    frames: int = 1
    problem: str = ""  # why it cannot be read; empty if it can


def index_images(root: Path, names: Sequence[str], bits: int | None, cache: Path | None) -> list[Entry]:
    """An entry for each name, in their order; `bits` as `decode` takes them."""
    cached = _read_cache(root, bits, cache)
    stamps = [_stamp(root / name) for name in names]
    fresh = [name for name, stamp in zip(names, stamps, strict=True) if cached.get(name, (None,))[0] != stamp]
    with by_threads(lambda name: _inspect(root, name, bits), fresh, f"reading the images in {root}") as inspected:
        new = dict(zip(fresh, inspected, strict=True))
    entries = [new[name] if name in new else cached[name][1] for name in names]
    if cache is not None and (fresh or len(cached) != len(names)):
        _write_cache(_cache_file(root, bits, cache), stamps, entries)
    return entries


@contextmanager
def by_threads(work: Callable[[Part], Result], parts: Sequence[Part], what: str) -> Iterator[Iterator[Result]]:
    """The results of `work` in the parts' order, with an estimate of the end; Pillow's remarks about odd but readable
    files are left out."""
    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield with_eta(pool.map(work, parts), what, len(parts))
    finally:
        pool.shutdown(cancel_futures=True)  # Ctrl-C does not wait for what is left


def _stamp(path: Path) -> Stamp:
    try:
        status = path.stat()
    except OSError:  # a dangling link: `_inspect` says so
        return (-1, -1, -1)
    return (status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _inspect(root: Path, name: str, bits: int | None) -> Entry:
    try:
        content = (root / name).read_bytes()
    except OSError as error:
        return Entry(name, "", problem=error.strerror or str(error))
    digest = hashlib.sha256(content).hexdigest()[:32]
    try:
        decoded = decode(content, bits)
    except UnreadableError as error:
        return Entry(name, digest, problem=str(error))
    return Entry(name, digest, decoded.image.mode == "L", decoded.peak, decoded.frames)


def _cache_file(root: Path, bits: int | None, cache: Path) -> Path:
    place = os.fsencode(root.resolve()).decode(errors="backslashreplace")
    return cache / "folders" / f"{fingerprint([place, bits], schema=SCHEMA)}.json"


def _read_cache(root: Path, bits: int | None, cache: Path | None) -> dict[str, tuple[Stamp, Entry]]:
    if cache is None or not _cache_file(root, bits, cache).exists():
        return {}
    with reading_cache(_cache_file(root, bits, cache)):
        rows = json.loads(_cache_file(root, bits, cache).read_text())
        return {row[3]: ((row[0], row[1], row[2]), Entry(*row[3:])) for row in rows}


def _write_cache(path: Path, stamps: Sequence[Stamp], entries: Sequence[Entry]) -> None:
    rows = [[*stamp, *astuple(entry)] for stamp, entry in zip(stamps, entries, strict=True)]
    write_atomic(path, json.dumps(rows, separators=(",", ":")).encode())
