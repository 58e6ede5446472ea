"""One checkpoint, many scores: guidance scales times solver steps, all from the same noise and for the same classes.

A score is a Measurement of (weights, sampling, quality), not a trial. Each is stored when it is there (`scoring`), so a
sweep that was killed goes on with what is missing, and a wider one computes only what is new.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from harness.diffusion.config import SamplingConfig
from harness.measure.quality_config import METRICS, QualityConfig
from harness.models.extractor_config import InceptionV3Extractor
from harness.records.errors import UserError
from harness.records.plain import to_plain
from harness.records.quantity import Quantity
from harness.trials.score_jobs import scores
from harness.trials.scoring import ScoreRequest
from harness.trials.settings import Settings
from harness.trials.trained import TrainedNetwork


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepPoint:
    sampling: SamplingConfig
    scores: Mapping[str, Quantity]
    own: Mapping[str, Any] | None = None
    """Of a pipeline: what it was sampled with, its own solver among it."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """Of sampling, for people and programs."""
        plain: Any = to_plain(self.sampling)
        return plain if self.own is None else self.own

    @property
    def evaluations(self) -> int | None:
        """Of the network for one sample (NFE); None where a pipeline's scheduler decides that."""
        return self.sampling.evaluations if self.own is None else None


def sampling_grid(
    base: SamplingConfig, guidance: Sequence[float] | None, steps: Sequence[int] | None
) -> list[SamplingConfig]:
    """Every guidance scale with every number of steps; None: the base's. UserError for what sampling refuses, and for
    a value given twice."""
    scales, numbers = guidance or (base.guidance_scale,), steps or (base.steps,)
    for name, values in (("--guidance", scales), ("--steps", numbers)):
        if len(set(values)) < len(values):
            raise UserError(f"{name} names a value twice: {', '.join(f'{value:g}' for value in values)}; give it once")
    return [replace(base, steps=number).with_guidance(scale) for number in numbers for scale in scales]


def ranked_by(config: QualityConfig) -> str:
    """The score that tells which point is best: FID in Inception's features, as published; elsewhere KID."""
    wanted = ("fd", "kid") if isinstance(config.extractor, InceptionV3Extractor) else ("kid", "fd")
    return next(name for name in (*wanted, *METRICS) if name in config.metrics)


def score_sweep(
    trained: TrainedNetwork, settings: Settings, grid: Sequence[SamplingConfig], workers: int | None = None
) -> list[SweepPoint]:
    """The scores at each point of the grid, from the store where it has them; `workers` and errors as `scores`."""
    request = ScoreRequest(trained=trained, settings=settings, grid=tuple(grid))
    return [
        SweepPoint(sampling=config, scores=quantities)
        for config, quantities in zip(grid, scores(request, workers), strict=True)
    ]
