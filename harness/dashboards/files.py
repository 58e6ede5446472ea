"""The files that belong to a study, as a dashboard lists them: of each trial what lies in its artifact folder, and the
published folders and a chain's Core ML packages of its network or of one that was promoted from it.

Artifact folders are listed, no record is read: a look at thousands of trials would read them all, again and again.
An artifact's id has hexadecimal digits alone, as optuna-dashboard's addresses demand.
"""

import hashlib
import mimetypes
import shlex
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from harness.publish.folder import CONFIG, read_manifest
from harness.records.errors import UserError
from harness.records.lines import whole_lines
from harness.records.record import KEY, TrialRecord
from harness.records.store import Store

PLACES = ("*", "*/*", "chains/*/*")
"""Where published folders are looked for, below the output folder; those elsewhere are named."""
CHAIN_LOGS = "chains/*/log.jsonl"
IN_MEMORY = 16 << 20
"""Bytes of a zipped folder that are kept in memory; more go to a temporary file."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ShownFile:
    id: str
    filename: str  # as a browser saves it
    path: Path  # a folder is handed out zipped

    @property
    def mimetype(self) -> str:
        return mimetypes.guess_type(self.filename)[0] or "application/octet-stream"


def file_id(*names: str) -> str:
    return hashlib.sha256("\0".join(names).encode()).hexdigest()[:32]


def files_of(store: Store, key: str, suffix: str) -> list[ShownFile]:
    """What lies in the trial's artifact folder, by name; `suffix` is of its training: `300-steps`."""
    folder = store.root / "artifacts" / key
    if not folder.is_dir():
        return []
    return [
        ShownFile(id=file_id(key, path.name), filename=f"{path.stem}-{suffix}{path.suffix}", path=path)
        for path in sorted(folder.iterdir())
        if path.is_file() and not path.name.startswith(".")  # a dot: it is being written
    ]


def packages(out: Path, folders: Iterable[Path] = ()) -> dict[str, list[ShownFile]]:
    """Key of a trial -> the folders that `harness publish` wrote of it: below `out`, and those that are named, of which
    one that is none is a UserError; and the packages that chains exported."""
    named = {folder.resolve(): read_manifest(folder).trial for folder in folders}
    unnamed = {path.parent.resolve() for place in PLACES for path in out.glob(f"{place}/{CONFIG}")}
    for folder in unnamed - named.keys():
        try:
            named[folder] = read_manifest(folder).trial
        except UserError:  # a file of that name may be anybody's
            continue
    for log in out.glob(CHAIN_LOGS):
        named |= dict(_exported(log))
    by_trial: dict[str, list[ShownFile]] = {}
    for folder, trial in sorted(named.items()):
        shown = ShownFile(id=file_id("package", str(folder)), filename=f"{folder.name}.zip", path=folder)
        by_trial.setdefault(trial, []).append(shown)
    return by_trial


def _exported(log: Path) -> Iterator[tuple[Path, str]]:
    """The packages in a chain's folder, by the commands that it logged: `harness export WEIGHTS ... --to PACKAGE`."""
    for line in whole_lines(log):
        try:
            words = shlex.split(line["command"])
            package, weights = log.parent / Path(words[words.index("--to") + 1]).name, Path(words[2]).parent
        except (ValueError, KeyError, IndexError):  # another command
            continue
        if words[1] == "export" and package.is_dir() and KEY.fullmatch(weights.name):
            yield package.resolve(), weights.name


def with_ancestors(store: Store, by_trial: Mapping[str, list[ShownFile]]) -> dict[str, list[ShownFile]]:
    """The same, each also under the trials that its network was promoted from."""
    every: dict[str, list[ShownFile]] = {}
    for trial, shown in by_trial.items():
        for key in (trial, *ancestors(store, trial)):
            every.setdefault(key, []).extend(shown)
    return every


def ancestors(store: Store, key: str) -> Iterator[str]:
    """The trial's parent, that one's, and so on, as far as the store knows."""
    seen, record = {key}, store.trial(key)
    while record is not None and record.parent is not None and record.parent not in seen:
        seen.add(record.parent)
        yield record.parent
        record = store.trial(record.parent)


def children_of(store: Store, keys: Iterable[str]) -> list[TrialRecord]:
    """The trials that were promoted from one of these, or from one of those: all records are read."""
    wanted, children = set(keys), list[TrialRecord]()
    waiting = [record for record in store.trials() if record.parent is not None and record.key not in wanted]
    while new := [record for record in waiting if record.parent in wanted]:
        children += new
        wanted |= {record.key for record in new}
        waiting = [record for record in waiting if record.key not in wanted]
    return children


def opened(shown: ShownFile) -> BinaryIO:
    """Its content from the beginning; OSError where it is gone."""
    if not shown.path.is_dir():
        return shown.path.open("rb")
    content = tempfile.SpooledTemporaryFile(IN_MEMORY)  # noqa: SIM115 - whoever asked closes it
    with zipfile.ZipFile(content, "w") as archive:
        for path in sorted(shown.path.rglob("*")):
            archive.write(path, Path(shown.path.name, path.relative_to(shown.path)))
    content.seek(0)
    return content  # type: ignore[return-value]
