"""What is in a folder of class folders: every image file's class, content hash, whether it can be read.

Each file is read and decoded once, by threads. The findings are kept in a cache under the folder's path and trusted
for a file only while its size and both its times are what they were, so the next start only lists the folder.
"""

import hashlib
import json
import os
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from harness.data.cache import reading
from harness.data.decode import UnreadableError, decode
from harness.records.errors import UserError
from harness.records.plain import fingerprint
from harness.records.store import write_atomic

SCHEMA = "folder-index-1"
SPLIT_NAMES = {"train", "training", "val", "valid", "validation", "test", "testing"}
Stamp = tuple[int, int, int]  # size in bytes, mtime_ns, ctime_ns


@dataclass(frozen=True, slots=True)
class Entry:
    """One image file."""

    name: str  # relative to the root, with forward slashes: "cat/1.png"
    digest: str  # of its bytes
    grayscale: bool
    problem: str  # why it cannot be read; empty if it can

    @property
    def class_folder(self) -> str:
        return self.name.split("/", 1)[0]


def index_folder(root: Path, folders: Sequence[str], cache: Path | None) -> list[Entry]:
    """All image files under the class folders of `root`, folder by folder, sorted by name."""
    names = [f"{folder}/{name}" for folder in folders for name in _image_files(root / folder)]
    known = _read_cache(root, cache)
    stamps = [_stamp(root / name) for name in names]
    fresh = [name for name, stamp in zip(names, stamps, strict=True) if known.get(name, (None,))[0] != stamp]
    with warnings.catch_warnings(), ThreadPoolExecutor(os.cpu_count()) as pool:
        warnings.simplefilter("ignore")  # Pillow's remarks about odd but readable files
        found = dict(zip(fresh, pool.map(lambda name: _inspect(root, name), fresh), strict=True))
    entries = [found[name] if name in found else known[name][1] for name in names]
    if cache is not None and (fresh or len(known) != len(names)):
        _write_cache(root, cache, stamps, entries)
    return entries


def class_folders(root: Path) -> list[str]:
    """The names of the folders in `root`, sorted; a folder that cannot be a data set is a UserError."""
    try:
        folders = sorted(item.name for item in root.iterdir() if item.is_dir() and not item.name.startswith("."))
    except OSError as error:
        raise UserError(f"data.path must be a folder of class folders; {root}: {error.strerror}") from error
    if not folders:
        raise UserError(f"{root} has no class folders; put each class's images into a folder named after the class")
    if len(folders) > 1 and {name.lower() for name in folders} <= SPLIT_NAMES:
        raise UserError(
            f"{root} holds splits ({', '.join(folders)}), not classes; "
            f"give one of them, e.g. data.path={root / folders[0]}: the held-out part is cut from it"
        )
    return folders


def _image_files(folder: Path) -> list[str]:
    """Relative names of the files with an image's extension, at any depth; hidden ones are not images."""
    extensions = set(Image.registered_extensions())
    found = []
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths = (Path(place, name) for name in files if not name.startswith("."))
        found += [path.relative_to(folder).as_posix() for path in paths if path.suffix.lower() in extensions]
    return sorted(found)


def _stamp(path: Path) -> Stamp:
    try:
        status = path.stat()
    except OSError:  # a dangling link: `_inspect` says so
        return (-1, -1, -1)
    return (status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _inspect(root: Path, name: str) -> Entry:
    try:
        content = (root / name).read_bytes()
    except OSError as error:
        return Entry(name, "", False, error.strerror or str(error))
    digest = hashlib.sha256(content).hexdigest()[:32]
    try:
        return Entry(name, digest, decode(content).mode == "L", "")
    except UnreadableError as error:
        return Entry(name, digest, False, str(error))


def _cache_file(root: Path, cache: Path) -> Path:
    return cache / "folders" / f"{fingerprint(str(root.resolve()), schema=SCHEMA)}.json"


def _read_cache(root: Path, cache: Path | None) -> dict[str, tuple[Stamp, Entry]]:
    if cache is None or not _cache_file(root, cache).exists():
        return {}
    with reading(_cache_file(root, cache)):
        rows = json.loads(_cache_file(root, cache).read_text())
        return {row[0]: ((row[1], row[2], row[3]), Entry(row[0], row[4], row[5], row[6])) for row in rows}


def _write_cache(root: Path, cache: Path, stamps: Sequence[Stamp], entries: Sequence[Entry]) -> None:
    rows = [
        [entry.name, *stamp, entry.digest, entry.grayscale, entry.problem]
        for stamp, entry in zip(stamps, entries, strict=True)
    ]
    write_atomic(_cache_file(root, cache), json.dumps(rows, separators=(",", ":")).encode())
