"""What one trial is: everything a worker needs, in one picklable value; and the output folder that it writes to."""

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.architecture.config import ArchitectureConfig
from harness.records.record import Fidelity, Protocol, trial_key
from harness.records.store import Store
from harness.trials.limits import Limits
from harness.trials.settings import Settings
from harness.trials.twins import Twin

SHOWN = {"cache": "", "store/trials": "", "store/measurements": "", "store/artifacts": ".safetensors"}
"""What a scratch folder shows of an output folder: the files that end so. Weights may be a teacher's."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialSpec:
    name: str  # the rung's or the candidate's, for people
    architecture: ArchitectureConfig  # already fitted to the data: its channels, the prompts' width and length
    settings: Settings
    latent: int  # height and width of the latent that costs, exports and latencies are for
    protocol: Protocol
    seed: int
    group: str = ""  # the study it belongs to: `fig3`
    limits: Limits = field(default_factory=dict)
    parent: str | None = None  # the key of the trial it was promoted from, or re-scores
    fidelity: Fidelity = "search"
    twin: Twin | None = None
    """What it would be where it is deployed: its costs stand in the record, and are no part of the trial's identity."""
    knobs: Mapping[str, Any] = field(default_factory=dict)
    """What the study varies, by its names: `{ffn: 3}`. Shown on dashboards, and no part of the identity."""
    checkpoints: Path | None = None
    """Where they lie, and outlive the trial for a longer training to go on from; None: with the job, until its end."""

    @property
    def key(self) -> str:
        return trial_key(self.architecture.fingerprint, self.protocol.fingerprint, self.seed)

    @property
    def store(self) -> Store:
        return store_of(self.settings.out)

    @property
    def label(self) -> str:
        return f"{self.name}, seed {self.seed}"


def store_of(out: Path) -> Store:
    """The store that all studies under one output folder share."""
    return Store(Path(out) / "store")


def cache_folder(out: Path) -> Path:
    """What can be computed again: embedded prompts, decoded pixels, reference statistics."""
    return Path(out) / "cache"


@contextmanager
def scratch_copy(out: Path) -> Iterator[Path]:
    """A folder to try things in: it shows the cache and the records of `out`, and takes what is written.

    They are links, file by file: whoever writes a file renames one into place, so its link goes and the file of `out`
    stays."""
    with tempfile.TemporaryDirectory(prefix="harness-dry-run-") as place:
        for part, ending in SHOWN.items():
            _link(out.absolute() / part, Path(place) / part, ending)
        yield Path(place)


def _link(source: Path, target: Path, ending: str) -> None:
    for folder, _, files in os.walk(source, followlinks=True):
        there = target / Path(folder).relative_to(source)
        there.mkdir(parents=True, exist_ok=True)
        for file in (file for file in files if file.endswith(ending)):
            (there / file).symlink_to(Path(folder) / file)
