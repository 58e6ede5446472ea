"""A trained network to score: its samples at settings of sampling, against the data that it was trained on."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from harness.data.images import ImageData
from harness.diffusion.config import SamplingConfig
from harness.measure.quality import samples_for
from harness.models.autoencoder import describe
from harness.records.errors import UserError
from harness.trials.samples import sampling_conditions
from harness.trials.sampling_run import SamplingRun, sampling_run
from harness.trials.scores.source import Source, sampled_title
from harness.trials.settings import Settings
from harness.trials.trained import TrainedNetwork


def network_sources(
    trained: TrainedNetwork, settings: Settings, grid: Sequence[SamplingConfig], data: ImageData
) -> list[Source]:
    """One a setting of sampling, all of the same noise and classes. UserError where the data is not the one that the
    network was trained on."""
    run = sampling_run(trained, settings, samples_for(settings.quality, data))
    _check(trained, run, settings, data)
    return [_source(trained, run.with_sampling(config), data) for config in grid]


def _source(trained: TrainedNetwork, run: SamplingRun, data: ImageData) -> Source:
    def read(indices: range) -> Tensor:
        return torch.cat([images for _, images in run.batches(indices)])

    return Source(
        title=sampled_title(trained.title, run.config),
        identity=run.identity,
        read=read,
        count=len(run),
        shape=(data.channels, data.size, data.size),
        labels=run.labels,
        micro_batch=run.config.micro_batch,
        conditions=_conditions(trained, run.config),
    )


def _conditions(trained: TrainedNetwork, config: SamplingConfig) -> Mapping[str, Any]:
    """How the network was trained, and how it was sampled."""
    origin = {} if trained.record is None else trained.record.provenance
    made_on = {"training_device": origin.get("device"), "precision": origin.get("precision")}
    how = {"guidance_scale": config.guidance_scale, "steps": config.steps, "evaluations": config.evaluations}
    known = {name: value for name, value in made_on.items() if value is not None}
    return {**known, **sampling_conditions(config), "solver": config.solver, **how}


def _check(trained: TrainedNetwork, run: SamplingRun, settings: Settings, data: ImageData) -> None:
    if tuple(run.class_names) != data.class_names:
        raise UserError(
            f"{trained.title} knows other classes than data={settings.data.kind} has; give the data that it was "
            "trained on, data=..."
        )
    latent = describe(settings.autoencoder).latent_shape(data.channels, data.size)
    if run.shape != latent:
        raise UserError(
            f"{trained.title} makes {_size(run.shape)}, and data={settings.data.kind} with autoencoder="
            f"{settings.autoencoder.kind} is {_size(latent)}; give the data that it was trained on, data=..."
        )


def _size(shape: tuple[int, int, int]) -> str:
    channels, height, width = shape
    return f"{height} x {width} with {channels} channels"
