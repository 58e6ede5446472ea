"""A network as it ships: its module, the inputs on which its packages are tried, and what they say of themselves."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from harness.architecture.config import ArchitectureConfig
from harness.coreml.export import Converted
from harness.coreml.packaged import OnPhone
from harness.coreml.palette_measure import measured_layers
from harness.coreml.palette_plan import Layer
from harness.models.build import build, example_inputs
from harness.models.parameters import fill_weights
from harness.models.weights import read_identity, read_weights
from harness.trials.compose import compose_plain
from harness.trials.sampled_inputs import sampled_inputs
from harness.trials.settings import Settings
from harness.trials.spec import cache_folder
from harness.trials.trained import TRIAL, TrainedNetwork, network_and_settings

INPUTS = 4  # of a trained network's own sampling, on which packages are held against it


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """What is exported, and what it is tried on."""

    module: nn.Module
    inputs: Sequence[tuple[Tensor, ...]]  # one or more
    source: str  # of the inputs, for people
    about: Mapping[str, str]  # what its packages say of it
    cache: Path  # what is found out about it, and can be again


def untrained(architecture: ArchitectureConfig, latent: int, *, filled: bool) -> Subject:
    """With one input of random numbers; `filled`: with random weights too, where some begin at zero."""
    module = build(architecture)
    if filled:
        fill_weights(module)
    inputs = [example_inputs(architecture, latent=latent)]
    return Subject(
        module=module, inputs=inputs, source="random inputs", about=_about(architecture), cache=_default_cache()
    )


def of_weights(weights: Path, architecture: ArchitectureConfig, latent: int, *, tried: bool) -> Subject:
    """With the inputs that its own sampling shows it, where it is `tried` at the size that it was trained at; else with
    random ones. Errors: as `read_weights` and `network_and_settings`."""
    training = read_identity(weights)[1]
    denoises = training is not None and training.task == "denoise"
    if training is not None and denoises and tried and latent == training.latent:
        return of_trained(*network_and_settings(str(weights), ()), architecture)
    module: nn.Module = read_weights(weights, architecture).network()
    inputs, about = example_inputs(architecture, latent=latent), _about(architecture)
    if training is not None and denoises:
        about[TRIAL] = training.trial
        if training.text.get("mask_padding", False):
            module, inputs = OnPhone(module).eval(), (*inputs, torch.ones(inputs[2].shape[:2]))
    return Subject(module=module, inputs=[inputs], source="random inputs", about=about, cache=_default_cache())


def of_trained(trained: TrainedNetwork, settings: Settings, architecture: ArchitectureConfig | None = None) -> Subject:
    """With inputs of its own sampling, by `settings`: the mask as numbers, where the network is given one. UserError
    for weights of another architecture than is given."""
    read = read_weights(trained.weights, architecture)
    module: nn.Module = read.network()
    rows = sampled_inputs(trained, module, settings, INPUTS)
    inputs = [(*row[:3], *(mask.float() for mask in row[3:])) for row in rows]
    return Subject(
        module=OnPhone(module).eval() if len(inputs[0]) > 3 else module,
        inputs=inputs,
        source=f"{len(inputs)} inputs of its own sampling",
        about=_about(read.architecture) | {TRIAL: trained.key},
        cache=cache_folder(settings.out),
    )


def palette_errors(subject: Subject, converted: Converted, at_most_bytes: int | None = None) -> list[Layer]:
    """Of each large tensor, by number of bits; what was measured before of the same network is not measured again.
    UserError before anything is measured where no plan takes so few bytes."""
    return measured_layers(converted, subject.inputs, subject.cache / "palettes", at_most_bytes)


def _about(architecture: ArchitectureConfig) -> dict[str, str]:
    return {"harness.architecture": architecture.fingerprint}


def _default_cache() -> Path:
    return cache_folder(Path(str(compose_plain(())["out"])))
