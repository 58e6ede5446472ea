"""What one trial is: everything a worker needs, in one picklable value."""

from dataclasses import dataclass, field
from pathlib import Path

from harness.architecture.config import ArchitectureConfig
from harness.records.record import Protocol, trial_key
from harness.records.store import Store
from harness.trials.limits import Limits
from harness.trials.settings import Settings
from harness.trials.twins import Twin


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
    fidelity: str = "search"
    twin: Twin | None = None
    """What it would be where it is deployed: its costs stand in the record, and are no part of the trial's identity."""
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
