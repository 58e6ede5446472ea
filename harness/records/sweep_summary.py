"""What a sweep came to, as a report shows it: its candidates, its front, its finalists, why some were refused."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from harness.records.conclusions import Conclusions
from harness.records.judging import GENERATED_PICTURES, Judging

CandidateState = Literal["running", "complete", "refused", "stopped", "failed"]


@dataclass(frozen=True, kw_only=True, slots=True)
class KnobSummary:
    """What a knob may be: one of its choices, or a number of a range."""

    choices: tuple[Any, ...] = ()  # in the order of the space; none of a range
    low: float | None = None  # these of a range, both ends included
    high: float | None = None
    log: bool = False
    step: float | None = None
    whole: bool = False  # whether all its numbers are whole
    when: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    """Other knob -> the values with which this one exists."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LevelSummary:
    """A candidate at one budget."""

    steps: int
    values: (
        tuple[float, ...] | None
    )  # the objectives; None while it runs or a measurement is awaited, and where it failed
    gpu_seconds: float = 0.0  # spent at this budget, not at lower ones


@dataclass(frozen=True, kw_only=True, slots=True)
class CandidateSummary:
    name: str  # `trial-7`
    state: CandidateState
    parameters: Mapping[str, Any]  # knob -> value
    steps: int = 0  # the training steps of its highest level; 0 where it was never submitted
    key: str = ""  # of its trial record at that level
    values: tuple[float, ...] | None = None  # the objectives there; None where they are not known
    reason: str = ""  # why it was refused, stopped or failed; why it does not count, where it is beaten
    beaten: bool = False  # complete, and no better than the floor
    rung: str = ""  # the ladder's rung that it is, where the sampler did not choose it
    levels: tuple[LevelSummary, ...] = ()  # the budgets that it was submitted at, lowest first

    def values_at(self, steps: int) -> tuple[float, ...] | None:
        """The objectives after so many training steps; None where they are not known."""
        return next((level.values for level in self.levels if level.steps == steps), None)


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
    front: tuple[
        str, ...
    ]  # of the complete ones that are not beaten, by the search's own values; the best of the first objective first
    reasons: Mapping[str, tuple[ReasonCount, ...]]  # `refused`, `stopped`, `failed` -> why, the most frequent first
    conclusions: Conclusions | None  # of the finalists' fresh trainings
    protocol: Mapping[str, Any]
    protocol_fingerprint: str
    knobs: Mapping[str, KnobSummary] = field(default_factory=dict)  # of the space, in its order
    reduction: int = 3  # one in so many goes on from a budget to the next
    twin: Mapping[str, Any] | None = None  # {base, latent}: the deployment size that costs are counted at
    judging: Judging = GENERATED_PICTURES  # of its task
    floor: float | None = None  # the first score that a candidate has to beat, to be promoted and to count
    hours: float = 0.0  # of driving
    gpu_hours: float = 0.0
    report: str | None = None  # the page that the study names: reports/NAME.yaml
    redrawn_every_s: float | None = None  # while `harness report --watch` redraws its page
    chance: "SweepSummary | None" = None  # the same search, all of it at random


NUMBER = re.compile(r"(?<![\w.])-?\d+(?:,\d{3})*(?:\.\d+)?(?:e[+-]?\d+)?(?!\w)")


def grouped(sentences: Iterable[str]) -> tuple[ReasonCount, ...]:
    """The reasons, the most frequent first."""
    groups: dict[str, list[list[str]]] = defaultdict(list)
    for sentence in sentences:
        groups[NUMBER.sub("\0", sentence)].append(NUMBER.findall(sentence))
    reasons = [ReasonCount(text=_filled(form, numbers), times=len(numbers)) for form, numbers in groups.items()]
    return tuple(sorted(reasons, key=lambda reason: -reason.times))


def _filled(form: str, numbers: Sequence[Sequence[str]]) -> str:
    """The sentence with the numbers that all have in common."""
    common = iter(["..." if len(set(column)) > 1 else column[0] for column in zip(*numbers, strict=True)])
    return "".join(next(common) if character == "\0" else character for character in form)
