"""What differs between two architectures, knob by knob."""

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
    before, after = _present(a), _present(b)
    paths = [*before, *(path for path in after if path not in before)]
    changes = (Change(path, before.get(path, ABSENT), after.get(path, ABSENT)) for path in paths)
    return tuple(change for change in changes if change.before != change.after)


def _present(config: ArchitectureConfig) -> dict[str, Plain]:
    return {path: value for path, value in leaves(to_plain(config)) if value is not None}
