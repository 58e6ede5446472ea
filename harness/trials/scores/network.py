"""A trained network to score: its samples at settings of sampling, against the data that it was trained on; with the
weights that its training averaged, or with averages of other spans that are made of its snapshots."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from harness.coreml.export import metadata_of, package_bytes
from harness.coreml.interpreter import Mode
from harness.coreml.packaged import PackagedNetwork
from harness.data.images import ImageData
from harness.device.request import package_hash
from harness.diffusion.config import SamplingConfig
from harness.measure.quality import samples_for
from harness.models.autoencoder import describe
from harness.models.weights import read_identity
from harness.records.errors import UserError
from harness.training.post_hoc import reconstructed, snapshots_identity, snapshots_in
from harness.training.recipe import ROUNDED_OTHERWISE
from harness.trials.sampling_run import SamplingRun, sampling_run
from harness.trials.scores.source import Source, sampled_title
from harness.trials.settings import Settings
from harness.trials.tasks.denoise import sampling_conditions
from harness.trials.trained import BITS, TrainedNetwork

MODE: Mode = "float16"
"""How the program of a package is computed."""


def network_sources(
    trained: TrainedNetwork,
    settings: Settings,
    grid: Sequence[SamplingConfig],
    averages: Sequence[float | None],
    data: ImageData,
) -> list[Source]:
    """One a setting of sampling and an average, all of the same noise and classes. UserError where the data is not the
    one that the network was trained on, and for averages that it has no snapshots for."""
    run = sampling_run(trained, settings, samples_for(settings.quality, data))
    _check(trained, run, settings, data)
    if trained.package is not None:
        run = _packaged(run, trained.package)

    @lru_cache(maxsize=1)  # one after another: each takes the memory of a network
    def network_of(span: float | None) -> nn.Module:
        return run.network if span is None else averaged_network(trained, span, run.network)

    several = [(span, run.with_sampling(config)) for span in averages for config in grid]
    return [_source(trained, each, span, network_of, data) for span, each in several]


def _packaged(run: SamplingRun, package: Path) -> SamplingRun:
    """Its samples by the package's program, computed in fp16 where it says so, on the CPU."""
    program = {"package": package_hash(package), "computed": MODE}
    network = PackagedNetwork(package, MODE, like=run.network)
    return replace(run, network=network, identity={**run.identity, **program})


def averaged_network(trained: TrainedNetwork, span: float, network: nn.Module) -> nn.Module:
    """With the average of that span of the weights, beside the network's own."""
    other = copy.deepcopy(network)
    files, architecture = snapshots_in(trained.weights.parent), read_identity(trained.weights)[0].fingerprint
    other.load_state_dict(reconstructed(files, span, architecture))
    return other


def _source(
    trained: TrainedNetwork,
    run: SamplingRun,
    span: float | None,
    network_of: Callable[[float | None], nn.Module],
    data: ImageData,
) -> Source:
    def read(indices: range) -> Tensor:
        return torch.cat([images for _, images in replace(run, network=network_of(span)).batches(indices)])

    title, average, conditions = sampled_title(trained.title, run.config), {}, {}
    if span is not None:
        title = f"{title}, average of span {span:g}"
        average = {"average": {"span": span, "of": snapshots_identity(snapshots_in(trained.weights.parent))}}
        conditions = {"average_span": span}
    return Source(
        title=title,
        identity={**run.identity, **average},
        read=read,
        count=len(run),
        shape=(data.channels, data.size, data.size),
        labels=run.labels,
        micro_batch=run.config.micro_batch,
        conditions={**_conditions(trained, run.config), **conditions},
    )


def _conditions(trained: TrainedNetwork, config: SamplingConfig) -> Mapping[str, Any]:
    """How the network was trained, and how it was sampled."""
    origin = {} if trained.record is None else trained.record.provenance
    made_on = {"training_device": origin.get("device"), "precision": origin.get("precision")}
    how = {"guidance_scale": config.guidance_scale, "steps": config.steps, "evaluations": config.evaluations}
    known = {name: value for name, value in made_on.items() if value is not None}
    if trained.package is not None:
        known["weight_bits"] = metadata_of(trained.package).get(BITS, "unknown")
        known["package_bytes"] = package_bytes(trained.package)
    loss = None if trained.record is None else trained.record.quantities.get("validation_loss")
    rounding = {name: True for name in ROUNDED_OTHERWISE if name in getattr(loss, "conditions", {})}
    return {**known, **rounding, **sampling_conditions(config), "solver": config.solver, **how}


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
