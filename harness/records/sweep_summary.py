"""What a sweep came to, as a report shows it: its candidates, its front, its finalists, why some were refused."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from harness.records.conclusions import Conclusions
from harness.records.judging import GENERATED_PICTURES, Judging

CandidateState = Literal["running", "complete", "refused", "stopped", "failed"]


@dataclass(frozen=True, kw_only=True, slots=True)
class CandidateSummary:
    name: str  # `trial-7`
    state: CandidateState
    parameters: Mapping[str, Any]  # knob -> value
    steps: int = 0  # the training steps of its highest level; 0 where it was never submitted
    key: str = ""  # of its trial record at that level
    values: tuple[float, ...] | None = None  # the objectives there; None where they are not known
    reason: str = ""  # why it was refused, stopped or failed
    rung: str = ""  # the ladder's rung that it is, where the sampler did not choose it


@dataclass(frozen=True, kw_only=True, slots=True)
class ReasonCount:
    text: str  # with `...` where the sentences differ in a number
    times: int


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepSummary:
    name: str
    place: str  # of the study: a path, or a URL without its password
    command: str  # what to type to repeat or to go on with it
    driver_runs: bool
    objectives: Mapping[str, Literal["minimize", "maximize"]]
    levels: tuple[int, ...]  # training steps of each, lowest first
    samplers: tuple[str, ...]
    seed: int  # of every candidate's training
    trials: int | None  # candidates to be trained in all
    candidates: tuple[CandidateSummary, ...]  # in the order of their numbers
    front: tuple[str, ...]  # of the complete ones, by the search's own values; the best of the first objective first
    reasons: Mapping[str, tuple[ReasonCount, ...]]  # `refused`, `stopped`, `failed` -> why, the most frequent first
    conclusions: Conclusions | None  # of the finalists' fresh trainings
    protocol: Mapping[str, Any]
    protocol_fingerprint: str
    twin: Mapping[str, Any] | None = None  # {base, latent}: the deployment size that costs are counted at
    judging: Judging = GENERATED_PICTURES  # of its task
    floor: float | None = None  # the first score that a candidate has to beat to be promoted
    hours: float = 0.0  # of driving
    gpu_hours: float = 0.0
    report: str | None = None  # the page that the study names: reports/NAME.yaml
