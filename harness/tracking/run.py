"""What every tracker is told, and what it must answer to."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from harness.records.quantity import Quantity
from harness.records.record import CurvePoint


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """What a tracker is told when a trial starts."""

    id: str  # the trial's key: the same trial continues the same run
    name: str  # for people: the rung or candidate, and the seed
    group: str  # the ablation or sweep
    job_type: str  # "trial", "full", "control", ...
    config: Mapping[str, Any] = field(default_factory=dict)  # plain: architecture, protocol, seed


class Tracker(Protocol):
    """The seam. `none`, `local` and `wandb` pass one contract suite."""

    def log(self, point: CurvePoint) -> None:
        """One point of a curve. Steps that were sent before (a trial continued from a checkpoint) are harmless."""

    def finish(self, quantities: Mapping[str, Quantity], images: Mapping[str, Path]) -> None:
        """The final quantities (those without a value as words, never as numbers), sample images, the end."""

    def abort(self) -> None:
        """The trial ended without a result."""


class TrackerWarning(UserWarning):
    """The tracker failed; the trial did not."""


def warn(sentence: str) -> None:
    warnings.warn(sentence, TrackerWarning, stacklevel=2)
