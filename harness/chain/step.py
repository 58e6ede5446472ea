"""A stage's commands, and how it stands."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from harness.trials.settings import Settings

DIGITS = 6
"""Of a fingerprint in a file's name."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One command of a stage."""

    words: tuple[str, ...]  # behind `harness`
    done: bool = False
    files: Mapping[Path, str] = field(default_factory=dict)  # that it reads: written before it begins
    study: str = ""  # whose driver it is: OUT/STUDY
    output: Path | None = None  # what it prints goes there
    old: Path | None = None  # a file that is in its way: kept beside, under another name
    edited: tuple[str, ...] = ()  # what is otherwise than in the file that it is written over

    @property
    def command(self) -> str:
        into = f" > {shlex.quote(str(self.output))}" if self.output is not None else ""
        return shlex.join(("harness", *self.words)) + into


@dataclass(frozen=True, kw_only=True, slots=True)
class Looked:
    """A stage as it stands."""

    steps: tuple[Step, ...]
    keys: Mapping[int, str] = field(default_factory=dict)  # of a training: seed -> its trial's
    settings: Settings | None = None  # of a training

    @property
    def done(self) -> bool:
        return all(step.done for step in self.steps)
