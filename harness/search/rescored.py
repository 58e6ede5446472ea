"""What a candidate scored when it was trained again: the values that conclusions rest on.

A search shows the best of many noisy scores, and the best of them is partly the luckiest: E[min x_i] <= min E[x_i]
(the winner's curse). So finalists are trained again with fresh seeds and scored with fresh samples; the mean of those
scores chose nobody, and has no such bias. It stands beside the search's value, which stays as it was. Whoever takes the
best of those means chooses again, of a few and with a smaller spread; hence ties are told.

Fresh number n is the seed of a training and the seed of its samples' noise (`sampling.seed`); neither is the search's.
So k scores of one candidate are independent, and two candidates at one number share images' order and samples' noise.

In the study they are one user attribute a candidate, `rescored:trial-7`, of the study and not of its trial: Optuna
closes a finished trial. Its content: `scores`, a list of what FreshScore has; `mean` and `standard_error`, one number
an objective, over the scores that have values.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from harness.measure.statistics import standard_error
from harness.records.errors import UserError
from harness.records.plain import Plain, from_plain, to_plain

PREFIX = "rescored:"


@dataclass(frozen=True, kw_only=True, slots=True)
class Finalists:
    """Who is trained again when the search has ended, and how often."""

    most: int = 4
    """The front of the top budget; of more than so many, those an epsilon-net spreads over it."""
    each: str | None = None
    """A knob: of each of its values so many, by the front of the candidates with that value. The best learning rate of
    every rung is {each: rung, most: 1}."""
    seeds: int = 3
    """Trainings of each, with fresh seeds and fresh samples."""

    def __post_init__(self) -> None:
        if self.most < 1:
            raise UserError(f"finalists.most is at least 1, not {self.most}; leave out finalists for none")
        if self.seeds < 2:
            raise UserError(f"finalists.seeds is at least 2, not {self.seeds}: one training has no spread")


@dataclass(frozen=True, kw_only=True, slots=True)
class FreshScore:
    """A finalist trained with one fresh number."""

    seed: int  # of the training, and of its samples
    key: str  # of the trial record
    values: tuple[float, ...] | None = None  # the objectives; None while it runs, and where it failed
    kid: float | None = None
    gpu_seconds: float = 0.0  # spent on it by this sweep
    failed: str = ""  # why it has no values

    @property
    def running(self) -> bool:
        """Submitted, and without a result so far."""
        return self.values is None and not self.failed


def columns(scores: Sequence[FreshScore]) -> list[dict[int, float]]:
    """Objective by objective, seed -> value, of the scores that have values, in the order of their seeds."""
    known = {
        score.seed: score.values for score in sorted(scores, key=lambda each: each.seed) if score.values is not None
    }
    return [dict(zip(known, column, strict=True)) for column in zip(*known.values(), strict=True)]


def attribute_of(name: str, scores: Sequence[FreshScore]) -> tuple[str, Plain]:
    """The study's user attribute for the candidate of this name: its key and content."""
    found = [list(column.values()) for column in columns(scores)]
    content: dict[str, Any] = {
        "scores": to_plain(sorted(scores, key=lambda score: score.seed)),
        "mean": [fmean(column) for column in found],
        "standard_error": [standard_error(column) for column in found],
    }
    return f"{PREFIX}{name}", content


def rescored_in(study_attributes: Mapping[str, Any]) -> dict[str, tuple[FreshScore, ...]]:
    """What `attribute_of` wrote: the name of each candidate that was trained again -> its scores."""
    return {
        name.removeprefix(PREFIX): tuple(from_plain(FreshScore, score) for score in content["scores"])
        for name, content in study_attributes.items()
        if name.startswith(PREFIX)
    }
