"""Bringing two stores together: what another machine's has, into this one.

    only theirs has the record     added, its artifacts before it
    both have it, equal            left alone; an artifact that ours lost is copied
    same key, other content        a complete trial beats one that failed or was rejected; anything else is a conflict,
                                   which stays as it is here unless a rule says which to keep
    theirs is damaged              named and left out; the others are merged

Every file appears whole, nothing is deleted, and what was merged before is found equal: interrupted or repeated, it
ends in the same store. Of the other machine nothing but its store is needed.
"""

import filecmp
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal, TypeAlias

from harness.records.errors import UserError
from harness.records.plain import Difference, differences, to_plain
from harness.records.record import Measurement, TrialRecord
from harness.records.store import Store, copy_atomic

Rule: TypeAlias = Literal["ours", "theirs", "newer"]
Action: TypeAlias = Literal["added", "equal", "completed", "replaced", "kept", "conflict", "damaged"]
Kind: TypeAlias = type[TrialRecord] | type[Measurement]
Either: TypeAlias = TrialRecord | Measurement

KINDS: dict[Kind, str] = {Measurement: "measurement", TrialRecord: "trial"}
"""Measurements first: a driver that finds a merged trial finds the latencies that it asks for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Merged:
    """What became of one of their records, or would become."""

    key: str
    kind: str  # trial or measurement
    action: Action
    name: str = ""  # for people
    why: str = ""
    differing: tuple[Difference, ...] = ()
    copied_bytes: int = 0  # of artifacts

    @property
    def is_settled(self) -> bool:
        return self.action not in ("conflict", "damaged")


def stores_to_merge(source: Path, out: Path) -> tuple[Store, Store]:
    """Theirs and ours. `source` is an output folder or a store, `out` an output folder; UserError where that is no
    pair to merge."""
    ours = out / "store"
    theirs = source / "store" if (source / "store").is_dir() else source
    if not any((theirs / name).is_dir() for name in ("trials", "measurements")):
        raise UserError(f"there is no store in {source}; give a study's output folder, or the folder store/ in it")
    for one, other in ((source, out), (theirs, ours)):
        if _nested(one.resolve(), other.resolve()):
            raise UserError(f"{source} and {out} are one place, or one lies in the other; merge two separate folders")
    return Store(theirs), Store(ours)


def keys_of(theirs: Store) -> list[tuple[Kind, str]]:
    return [(kind, key) for kind in KINDS for key in theirs.keys(kind)]


def merge(theirs: Store, ours: Store, *, keep: Rule | None = None, dry_run: bool = False) -> Iterator[Merged]:
    """Merge record by record. `keep` settles conflicts; a `dry_run` says what would be done and writes nothing."""
    for kind, key in keys_of(theirs):
        yield _Pair(theirs, ours, kind, key).merged(keep, dry_run)


@dataclass(frozen=True, slots=True)
class _Pair:
    """One key in both stores."""

    theirs: Store
    ours: Store
    kind: Kind
    key: str

    def merged(self, keep: Rule | None, dry_run: bool) -> Merged:
        try:
            new = self._read_theirs()
            old = self._get(self.ours)
        except (UserError, OSError) as error:
            return self._outcome("damaged", None, str(error))
        if old is None:
            return self._copy_from_theirs(new, "added", "", dry_run)
        differing = [*differences(to_plain(old), to_plain(new)), *self._other_artifacts(new)]
        if not differing:
            lost = [name for name in new.artifacts.values() if not self.ours.artifact(self.key, name).is_file()]
            why = f"{', '.join(lost)} had gone here"
            return self._copy_from_theirs(new, "completed", why, dry_run) if lost else self._outcome("equal", new)
        choice, why = _choice(old, new, keep)
        if choice == "theirs":
            return self._copy_from_theirs(new, "replaced", why, dry_run, differing)
        return self._outcome("kept" if choice == "ours" else "conflict", old, why, differing)

    def _get(self, store: Store) -> Either | None:
        return store.trial(self.key) if self.kind is TrialRecord else store.measurement(self.key)

    def _read_theirs(self) -> Either:
        """Their record with all that it names. Errors: UserError where that is not whole."""
        record = self._get(self.theirs)
        if record is None:
            raise UserError(f"{self.key} went while it was read; run the same command again")
        if record.key != self.key:
            raise UserError(f"{self.key}.json holds the record {record.key}; give the file its own name")
        for name in record.artifacts.values():
            if Path(name).name != name:
                raise UserError(f"it names '{name}', which is no file of its own folder")
            if not self.theirs.artifact(self.key, name).is_file():
                raise UserError(f"its artifact {name} is not there; copy {self.theirs.root} again, with artifacts/")
        return record

    def _other_artifacts(self, record: Either) -> list[Difference]:
        """Files of one name and other content."""
        return [
            Difference(f"artifacts/{name}", "ours", "theirs")
            for name in record.artifacts.values()
            if self.ours.artifact(self.key, name).is_file() and not self._is_same_artifact(name)
        ]

    def _is_same_artifact(self, name: str) -> bool:
        """By size and time of change, else by content."""
        return filecmp.cmp(self.theirs.artifact(self.key, name), self.ours.artifact(self.key, name))

    def _copy_from_theirs(
        self, record: Either, action: Action, why: str, dry_run: bool, differing: list[Difference] | None = None
    ) -> Merged:
        """The artifacts that ours lacks, then the record that names them."""
        copied = 0
        for name in record.artifacts.values():
            source, target = self.theirs.artifact(self.key, name), self.ours.artifact(self.key, name)
            if target.is_file() and self._is_same_artifact(name):
                continue
            copied += source.stat().st_size
            if not dry_run:
                copy_atomic(source, target)
        if not dry_run and action != "completed":
            self.ours.put(record)
        return self._outcome(action, record, why, differing or [], copied)

    def _outcome(
        self, action: Action, record: Either | None, why: str = "", differing: list[Difference] | None = None,
        copied: int = 0,
    ) -> Merged:  # fmt: skip
        name = record.name if isinstance(record, TrialRecord) else record.subject if record is not None else ""
        return Merged(
            key=self.key,
            kind=KINDS[self.kind],
            action=action,
            name=name,
            why=why,
            differing=tuple(differing or ()),
            copied_bytes=copied,
        )


def _choice(ours: Either, theirs: Either, keep: Rule | None) -> tuple[Literal["ours", "theirs"] | None, str]:
    """Which of two to keep, and why; None: nothing says which."""
    if isinstance(ours, TrialRecord) and isinstance(theirs, TrialRecord):
        if ours.state != "complete" and theirs.state == "complete":
            return "theirs", f"complete there, {ours.state} here"
        if ours.state == "complete" and theirs.state != "complete":
            return "ours", f"complete here, {theirs.state} there"
    if keep != "newer":
        return keep, f"--keep {keep}" if keep else "no rule says which to keep"
    here, there = _finished(ours), _finished(theirs)
    if here is None or there is None or here == there:
        return None, "neither is newer" if here == there else "one has no date"
    return ("theirs" if there > here else "ours"), "newer"


def _finished(record: Either) -> datetime | None:
    """When its work ended, as its provenance says."""
    try:
        return datetime.fromisoformat(str(record.provenance.get("finished")))
    except ValueError:
        return None


def _nested(one: Path, other: Path) -> bool:
    return one.is_relative_to(other) or other.is_relative_to(one)
