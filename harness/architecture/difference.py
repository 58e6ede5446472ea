"""What differs between two architectures, knob by knob."""

from collections.abc import Iterator
from dataclasses import dataclass

from harness.architecture.config import ArchitectureConfig
from harness.architecture.rules import leaves
from harness.records.plain import Plain, to_plain

ABSENT = "(none)"
"""Stands for a knob that the architecture does not have: null, or the expansion of a regular convolution."""


@dataclass(frozen=True, slots=True)
class Change:
    path: str
    before: Plain
    after: Plain

    def __str__(self) -> str:
        return f"{self.path}: {self.before} -> {self.after}"


def difference(a: ArchitectureConfig, b: ArchitectureConfig) -> tuple[Change, ...]:
    """The leaves in which `b` differs from `a`, in the order of the configuration; empty if they are equal.

    A knob that is null and gets settings is shown by its settings: `position.kind: (none) -> rope_2d`.
    """
    before, after = _set_leaves(a), _set_leaves(b)
    paths = [*before, *(path for path in after if path not in before)]
    changes = (Change(path, before.get(path, ABSENT), after.get(path, ABSENT)) for path in paths)
    return tuple(change for change in changes if change.before != change.after)


def edits_between(a: ArchitectureConfig, b: ArchitectureConfig) -> tuple[Change, ...]:
    """The fewest edits that make `b` of `a`, each of one knob: `with_edits(a, {path: after for each})` equals `b`.

    A knob of another kind is one edit with all its settings: `convolution: {kind: regular, ...} -> {kind: separable,
    ...}`. Architectures of different families have no knob in common: the one edit is of the whole, at path ''.
    """
    return tuple(_edits("", to_plain(a), to_plain(b)))


def _edits(path: str, before: Plain, after: Plain) -> Iterator[Change]:
    if before == after:
        return
    if not _have_same_keys(before, after):
        yield Change(path, before, after)
        return
    items = before.items() if isinstance(before, dict) else enumerate(before)  # type: ignore[arg-type]
    for key, value in items:
        yield from _edits(f"{path}.{key}" if path else str(key), value, after[key])  # type: ignore[index]


def _have_same_keys(before: Plain, after: Plain) -> bool:
    """Whether both hold the same settings, so that their differences are inside."""
    if isinstance(before, dict) and isinstance(after, dict):
        return before.keys() == after.keys() and before.get("kind") == after.get("kind")
    return isinstance(before, list) and isinstance(after, list) and len(before) == len(after)


def _set_leaves(config: ArchitectureConfig) -> dict[str, Plain]:
    return {path: value for path, value in leaves(to_plain(config)) if value is not None}
