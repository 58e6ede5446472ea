"""What a chain came to, as its page shows it: its stages, what each took, and what was said of the last network."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.records.judging import GENERATED_PICTURES, Judging
from harness.records.sweep_summary import SweepSummary


@dataclass(frozen=True, kw_only=True, slots=True)
class StageRun:
    """What was run of a stage."""

    name: str  # `few_steps`
    commands: tuple[str, ...]  # all that it consists of, as one types them
    done: bool
    tries: int = 0  # commands that were begun and ended
    failures: int = 0  # of those, with another status than 0
    seconds: float = 0.0  # of all of them


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """Of trainings, each from its step 0, whichever stage made the first of its steps."""

    trainings: int = 0
    steps: int = 0  # of each; 0 where they differ
    train_seconds: float = 0.0
    cpu_seconds: float = 0.0
    gpu_seconds: float = 0.0
    flops: float | None = None  # None where one of them does not tell


@dataclass(frozen=True, kw_only=True, slots=True)
class StageNetwork:
    """A network of the chain: the promoted candidate as the search left it, or what a stage trained."""

    name: str  # `search`, `train`
    title: str  # "Promoted candidate", "Trained"
    trials: Mapping[int, str]  # seed -> the key of its trial record
    before: str | None  # whose score it is held against
    cost: Cost
    passes: int = 0  # of the network for a picture, as its trial samples it; 0 where that is not known
    sampling: str = ""  # the same for people: `10 steps of euler, guidance 1.25`
    chosen_among: int = 0  # candidates that it is the best of, by the very score that the page shows


@dataclass(frozen=True, kw_only=True, slots=True)
class StagePicture:
    """Samples of one network."""

    title: str
    name: str  # the stage
    content: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class ChainSummary:
    name: str
    command: str  # what to type to repeat it or to go on with it
    summary: str
    networks: tuple[StageNetwork, ...]
    runs: tuple[StageRun, ...]
    seeds: tuple[int, ...]
    protocol: Mapping[str, Any]  # of `train`
    protocol_fingerprint: str
    judging: Judging = GENERATED_PICTURES
    varied: tuple[str, ...] = ()  # paths of the protocol in which the stages differ by what they are
    few_steps: Mapping[str, Any] = field(default_factory=dict)  # how its networks sample: solver, steps, ...
    decoder: Mapping[str, float] = field(default_factory=dict)  # of one that was trained: score -> value
    search: SweepSummary | None = None
    search_cost: Cost | None = None  # of all candidates and finalists
    pictures: tuple[StagePicture, ...] = ()
    exports: tuple[Mapping[str, Any], ...] = ()  # what `harness export --json` said
    totals: tuple[Mapping[str, Any], ...] = ()  # what `harness latency total --json` said, one a chip
    report: str | None = None  # the page that the chain names: reports/NAME.yaml
