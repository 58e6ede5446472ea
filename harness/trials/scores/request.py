"""What a command asks for: what is scored, at which settings of sampling, by how many workers."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

from harness.diffusion.config import SamplingConfig
from harness.launch.config import SlurmLauncher
from harness.measure.quality_config import METRICS, QualityConfig
from harness.models.extractor_config import InceptionV3Extractor
from harness.records.errors import UserError
from harness.trials.settings import Settings
from harness.trials.trained import TrainedNetwork

Scorable: TypeAlias = TrainedNetwork | Path
"""A network; the folder of a diffusers pipeline; a folder or an .npz of pictures."""

PIPELINE_INDEX = "model_index.json"
"""What makes a folder a diffusers pipeline's."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoreRequest:
    """All that a worker needs."""

    what: Scorable
    settings: Settings
    grid: tuple[SamplingConfig, ...]
    """The settings of sampling, in place of `settings.sampling`; pictures at hand take no notice of them."""
    averages: tuple[float | None, ...] = (None,)
    """Of a network: the spans of the averages of its weights that are scored, each at all of `grid`; None is the one
    that its training evaluated."""
    replaced: tuple[str, ...] = ()
    """Stored scores that are made again, since more is wanted of their pictures' features, which are not kept: each
    stays until the new one is stored. By `score.content_of`."""


def is_pipeline(what: Scorable) -> bool:
    return isinstance(what, Path) and (what / PIPELINE_INDEX).is_file()


def is_sampled(what: Scorable) -> bool:
    """Whether its pictures are made, at settings of sampling, rather than there already."""
    return isinstance(what, TrainedNetwork) or is_pipeline(what)


def sampling_grid(
    base: SamplingConfig, guidance: Sequence[float] | None, steps: Sequence[int] | None
) -> tuple[SamplingConfig, ...]:
    """Every guidance scale with every number of steps; None: the base's. UserError for what sampling refuses, and for
    a value given twice."""
    scales, numbers = guidance or (base.guidance_scale,), steps or (base.steps,)
    for name, values in (("--guidance", scales), ("--steps", numbers)):
        if len(set(values)) < len(values):
            raise UserError(f"{name} names a value twice: {', '.join(f'{value:g}' for value in values)}; give it once")
    return tuple(replace(base, steps=number).with_guidance(scale) for number in numbers for scale in scales)


def check_averages(what: Scorable, spans: Sequence[float] | None) -> tuple[float | None, ...]:
    """The spans, or the network's own average where none is asked for. UserError for spans that cannot be made."""
    from harness.training.post_hoc import check_span, snapshots_in

    if spans is None:
        return (None,)
    if len(set(spans)) < len(spans):
        raise UserError(f"--ema names a span twice: {', '.join(f'{span:g}' for span in spans)}; give it once")
    for span in spans:
        check_span(span)
    if not isinstance(what, TrainedNetwork):
        raise UserError(f"--ema makes averages of a trained network's weights, and {what} is none; leave it out")
    if what.package is not None:
        raise UserError(f"{what.package} has one average of the weights; leave out --ema")
    if not snapshots_in(what.weights.parent):
        raise UserError(
            f"{what.title} kept no averages to make others of; leave out --ema, or train with "
            "'recipe.ema_spans=[0.05,0.1]' and another seed, since this trial is not trained again"
        )
    return tuple(spans)


def check_workers(workers: int | None) -> None:
    if workers is not None and workers < 1:
        raise UserError(f"--workers is a whole number from 1, not {workers}")


def check_jobs(what: Scorable, settings: Settings, workers: int | None) -> None:
    """Refuse jobs for what is not sampled."""
    if is_sampled(what):
        return
    if workers is not None:
        raise UserError(f"--workers sample a trained network or a pipeline, and {what} is there already; leave it out")
    if isinstance(settings.launcher, SlurmLauncher):
        raise UserError(f"{what} is there already and scored in this process; leave out launcher=slurm")


def against(settings: Settings) -> str:
    """What scores are against, for people: the data set, or the file or folder that the reference is."""
    path = settings.quality.reference_path
    return settings.data.kind if path is None else str(path)


def ranked_by(config: QualityConfig) -> str:
    """The score that tells which point is best: FID in Inception's features, as published; elsewhere KID."""
    wanted = ("fd", "kid") if isinstance(config.extractor, InceptionV3Extractor) else ("kid", "fd")
    return next(name for name in (*wanted, *METRICS) if name in config.metrics)
