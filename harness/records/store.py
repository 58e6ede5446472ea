"""The store: a folder with one JSON file a record, written whole or not at all.

    STORE/trials/KEY.json         a TrialRecord
    STORE/measurements/KEY.json   a Measurement
    STORE/artifacts/KEY/NAME      what belongs to either: sample grids, checkpoints worth keeping

A file appears by rename after fsync, so a reader never sees half of one, at any moment of a kill -9, and two
writers of the same key cannot mix. It works on a laptop's disk and on a cluster's shared one.
"""

import contextlib
import errno
import functools
import hashlib
import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from harness.records.errors import UserError
from harness.records.plain import from_plain, to_plain
from harness.records.record import Measurement, TrialRecord

Record = TypeVar("Record", TrialRecord, Measurement)


class Store:
    def __init__(self, root: Path) -> None:
        self.root = Path(root)

    def put(self, record: TrialRecord | Measurement) -> None:
        """Write the record, replacing an older one of the same key."""
        path = self._folder(type(record)) / f"{record.key}.json"
        plain = {"key": record.key, **_mapping(to_plain(record))}
        write_atomic(path, json.dumps(plain, indent=1, allow_nan=False, ensure_ascii=False).encode())

    def trial(self, key: str) -> TrialRecord | None:
        return self._get(TrialRecord, key)

    def measurement(self, key: str) -> Measurement | None:
        return self._get(Measurement, key)

    def trials(self) -> Iterator[TrialRecord]:
        """All trial records, in the order of their keys."""
        return self._all(TrialRecord)

    def readable_trials(self) -> Iterator[TrialRecord]:
        """`trials`, without those that are damaged or of another version."""
        for key in self.keys(TrialRecord):
            with contextlib.suppress(UserError):
                record = self.trial(key)
                if record is not None:
                    yield record

    def measurements(self, subject: str | None = None) -> Iterator[Measurement]:
        """All measurements, or those of one subject, in the order of their keys."""
        return self._all(Measurement, subject)

    def keys(self, kind: type[TrialRecord] | type[Measurement]) -> list[str]:
        """The keys of all records of a kind, sorted, whether the records can be read or not."""
        return sorted(path.stem for path in self._folder(kind).glob("*.json"))

    def delete(self, record: TrialRecord | Measurement) -> None:
        (self._folder(type(record)) / f"{record.key}.json").unlink(missing_ok=True)

    def artifact(self, key: str, name: str) -> Path:
        """Where the artifact `name` of a record lies (or will: write it with `write_atomic`)."""
        return self.root / "artifacts" / key / name

    def _folder(self, kind: type) -> Path:
        return self.root / ("trials" if kind is TrialRecord else "measurements")

    def _get(self, kind: type[Record], key: str) -> Record | None:
        path = self._folder(kind) / f"{key}.json"
        return _read(kind, path) if path.exists() else None

    def _all(self, kind: type[Record], subject: str | None = None) -> Iterator[Record]:
        read = (_read(kind, self._folder(kind) / f"{key}.json", subject) for key in self.keys(kind))
        return (record for record in read if record is not None)


def write_atomic(path: Path, content: bytes, *, synced: bool = True) -> None:
    """Write a file so that it is there whole or not at all; a folder that cannot be written is a UserError.

    `synced` waits for the disk, so that a power failure too leaves it whole. What is checked whenever it is read, and
    can be made again, need not wait.
    """
    with appearing(path, synced=synced) as file:
        file.write(content)


def copy_atomic(source: Path, path: Path) -> None:
    """Copy a file, with its time of change, so that it is there whole or not at all; errors as `write_atomic`."""
    with source.open("rb") as read:
        with appearing(path) as file:
            shutil.copyfileobj(read, file)
        times = os.fstat(read.fileno())
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


@contextlib.contextmanager
def appearing(path: Path, *, synced: bool = True) -> Iterator[BinaryIO]:
    """A file to write, which appears at `path` when the block ends well."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.parent / f".{path.name}.{uuid.uuid4().hex}"  # not mkstemp: others may read a shared store
        try:
            with temporary.open("xb") as file:
                yield file
                if synced:
                    file.flush()
                    os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise unwritable(path, error) from error


@contextlib.contextmanager
def reading_cache(path: Path) -> Iterator[None]:
    """Inside, a cache file that cannot be read is a UserError that says what to do: it can be computed again.

    `write_atomic` made it whole, so it was damaged since.
    """
    try:
        yield
    except Exception as error:  # whatever json, NumPy, zip files and safetensors raise of damaged bytes
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:120]
        raise UserError(f"the cache {path} is damaged ({reason}); remove it and run the same command again") from error


def file_sha256(path: Path) -> str:
    """The sha256 of a file's content in hex. OSError where it cannot be read."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def known_sha256(path: Path) -> str:
    """`file_sha256`, computed once a process while the file's size and times stay: a study asks whenever its settings
    change, every trial asks what it scores with, and weights have gigabytes. UserError where it cannot be read."""
    try:
        status = path.stat()
        return _sha256_of(path, (status.st_size, status.st_mtime_ns, status.st_ctime_ns))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}; give the path of an existing file") from error


@functools.cache
def _sha256_of(path: Path, _stamp: tuple[int, ...]) -> str:
    return file_sha256(path)


def check_writable(path: Path) -> None:
    """UserError before the work whose result goes to `path`, and not after it. Makes the folder that it goes into."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as error:
        raise unwritable(path, error) from error


def check_file_writable(path: Path) -> None:
    """`check_writable`, and that no folder is where the file shall be."""
    if path.is_dir():
        raise unwritable(path, IsADirectoryError(errno.EISDIR, "it is a folder, and a file is to be written"))
    check_writable(path)


def unwritable(path: Path, error: OSError) -> UserError:
    """The sentence for a folder that cannot be written: no space, no permission, not a folder."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    remedy = "free some space" if full else "choose another place with out=FOLDER (or --to, where it is given)"
    return UserError(f"cannot write {path}: {error.strerror or error}; {remedy} and run the same command again")


def _read(kind: type[Record], path: Path, subject: str | None = None) -> Record | None:
    """None where it is a record of another subject than the one that is asked for."""
    try:
        data = json.loads(path.read_text())
        if subject is not None and data.get("subject", subject) != subject:
            return None
        return from_plain(kind, {name: item for name, item in data.items() if name != "key"})
    except (ValueError, UserError, AttributeError) as error:  # ValueError: neither JSON nor text
        raise UserError(f"{path} is not a record this version can read ({error}); move it away") from error


def _mapping(plain: Any) -> dict[str, Any]:
    assert isinstance(plain, dict)
    return plain
