"""Samples of one trained network: which classes they show, and how they are made, as its trial did unless told else.

The classes and their prompts come with the weights: the data is read only where its class frequencies are asked for.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from harness.architecture.config import ArchitectureConfig, Denoiser
from harness.data.config import TextConfig
from harness.data.dataset import load_dataset
from harness.data.prompts import PromptTable, names_in, prompts_like
from harness.diffusion.config import SamplingConfig
from harness.diffusion.labels import sample_labels
from harness.diffusion.sampling import Decode, sample_batches
from harness.models.autoencoder import Autoencoder, load_matching
from harness.models.pixels import NotFiniteError
from harness.models.weights import Training, Weights, read_weights
from harness.records.errors import UserError
from harness.records.plain import canonical_json, from_plain, identity
from harness.records.store import file_sha256
from harness.training.device import resolve_device
from harness.trials.asked import asked_prompts
from harness.trials.settings import Settings
from harness.trials.spec import cache_folder
from harness.trials.task_config import DEFAULT
from harness.trials.trained import TrainedNetwork


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplingRun:
    """A network with all that its samples are functions of."""

    network: nn.Module  # on the device that it runs on
    prompts: PromptTable
    labels: Tensor  # (N,) class numbers, or of texts
    class_names: Sequence[str]  # or the texts
    shape: tuple[int, int, int]  # (C, H, W) of what the network denoises
    autoencoder: Autoencoder | None  # what makes pictures of it; None where it is pictures
    config: SamplingConfig
    identity: Mapping[str, Any]
    """What makes the samples what they are, plain: the same identity is the same sample i, whatever N."""

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def decode(self) -> Decode | None:
        return None if self.autoencoder is None else partial(self.autoencoder.decode, rounding=self.config.rounding)

    def with_sampling(self, config: SamplingConfig) -> "SamplingRun":
        """The same classes, sampled otherwise: with another solver, steps or guidance."""
        return replace(self, config=config, identity={**self.identity, "sampling": identity(config)})

    def batches(self, indices: range | None = None) -> Iterator[tuple[range, Tensor]]:
        """The samples `indices`, or all, a micro-batch at a time: which they are, and uint8 (n, C, H, W).

        NotFiniteError where the network's images are no numbers.
        """
        return sample_batches(
            self.network, self.prompts, self.labels, self.config, shape=self.shape, indices=indices, decode=self.decode
        )  # fmt: skip

    def images(self, indices: range | None = None) -> Iterator[tuple[int, Tensor]]:
        """(i, uint8 (C, H, W)) of the samples `indices`, or of all, in order; computed a micro-batch at a time.

        UserError where the network's images are no numbers.
        """
        try:
            for part, images in self.batches(indices):
                yield from zip(part, images, strict=True)
        except NotFiniteError as error:
            raise UserError(f"trial {self.identity['trial']} cannot be sampled from: {error}") from error


def sampling_run(
    trained: TrainedNetwork,
    settings: Settings,
    count: int,
    classes: Sequence[str] | None = None,
    texts: Sequence[str] = (),
) -> SamplingRun:
    """`count` samples by `settings.sampling`, which the caller composes (`trained.sampling_of`).

    Of `classes` (names or numbers) in turn, or of `texts`, whatever they say; or of all classes by the rule
    `sampling.labels`. UserError for a class that there is not, another text encoder than the one trained with, a text
    of which nothing is read, and class frequencies of other data.
    """
    weights = read_weights(trained.weights, _architecture(trained))
    training, channels = weights.training, denoised_channels(weights)
    assert training is not None  # `trained_network` refuses such files
    settings.sampling.check_channels(channels)
    names, device = class_names(training), resolve_device(settings.recipe.device)
    prompts = prompts_of(trained.weights, training, settings.text, cache_folder(settings.out))
    numbers = None if classes is None else class_numbers(classes, names)
    if texts:
        prompts = asked_prompts(texts, trained.title, prompts, names, settings.text)
        names, numbers = tuple(texts), tuple(range(len(texts)))
    autoencoder = _autoencoder(trained.weights, training, settings, device)
    return SamplingRun(
        labels=_labels(trained, settings, count, names, numbers),
        prompts=prompts,
        network=weights.network().to(device),
        class_names=names,
        shape=(channels, training.latent, training.latent),
        autoencoder=autoencoder,
        config=settings.sampling,
        identity={
            "trial": trained.key,
            "weights_sha256": file_sha256(trained.weights),
            "sampling": identity(settings.sampling),
            "classes": "all" if numbers is None else [names[number] for number in numbers],
            **({} if autoencoder is None else autoencoder.description.decoded_by),
        },
    )


def _architecture(trained: TrainedNetwork) -> ArchitectureConfig | None:
    """What the weights are to be of, where that is known."""
    return from_plain(ArchitectureConfig, trained.record.architecture) if trained.record else None


def denoised_channels(weights: Weights) -> int:
    """UserError for weights of a network that denoises nothing."""
    if weights.training is not None and weights.training.task != DEFAULT.name:
        task = weights.training.task
        raise UserError(f"{weights.path} is of task={task}, and no pictures are sampled from such networks")
    if not isinstance(weights.architecture, Denoiser):
        kind = type(weights.architecture).__name__
        raise UserError(f"{weights.path} holds a {kind}, which makes no samples of its own")
    return weights.architecture.latent_channels


def class_names(training: Training) -> tuple[str, ...]:
    """The classes that a network was trained on, as they stand in its prompts, by their numbers."""
    return names_in(training.text)


def class_numbers(classes: Sequence[str], names: Sequence[str]) -> tuple[int, ...]:
    """By name, else by number from 0."""
    return tuple(_number(text, names) for text in classes)


def _number(text: str, names: Sequence[str]) -> int:
    if text in names:
        return names.index(text)
    if text.isdecimal() and int(text) < len(names):
        return int(text)
    shown = get_close_matches(text, names, n=5, cutoff=0.4) or names[:5]
    more = ", ..." if len(shown) < len(names) else ""
    raise UserError(
        f"there is no class '{text}'; give a number from 0 to {len(names) - 1}, or a name: {', '.join(shown)}{more}"
    )


def prompts_of(file: Path, training: Training, given: TextConfig, cache: Path) -> PromptTable:
    """The prompts that the network was trained with, embedded anew by the `given` encoder, if it is theirs."""
    return prompts_like(training.text, given, class_names(training), cache, what=str(file), setting="text")


def _autoencoder(file: Path, training: Training, settings: Settings, device: torch.device) -> Autoencoder | None:
    """What made the latents that the network was trained on."""
    if training.autoencoder is not None:
        return load_matching(settings.autoencoder, device, training.autoencoder)
    if settings.autoencoder.kind != "pixels":
        raise UserError(f"{file} was trained on pixels; leave out autoencoder={settings.autoencoder.kind}")
    return None


def _labels(
    trained: TrainedNetwork, settings: Settings, count: int, names: Sequence[str], numbers: Sequence[int] | None
) -> Tensor:
    """(count,) classes: `numbers` in turn, or all by the rule."""
    if numbers is not None:
        return torch.tensor(numbers)[torch.arange(count) % len(numbers)]
    if settings.sampling.labels == "balanced":
        return sample_labels(count, (1,) * len(names), settings.sampling)
    data = load_dataset(settings.data, cache=cache_folder(settings.out))
    if trained.by_others and data.class_names != names:
        raise UserError(
            f"sampling.labels={settings.sampling.labels} asks for the class frequencies of data={settings.data.kind}, "
            f"whose classes are not those of {trained.weights}, which others trained; give sampling.labels=balanced "
            "(all classes alike), --classes to `harness sample`, or data=... with its classes"
        )
    recorded = trained.record.protocol["data"] if trained.record else data.identity
    if data.class_names != names or canonical_json(recorded) != canonical_json(data.identity):
        raise UserError(
            f"sampling.labels={settings.sampling.labels} asks for the class frequencies of the data that trial "
            f"{trained.key} was trained on, and that is not data={settings.data.kind} as it is; give its settings, "
            "data=..., or sampling.labels=balanced, or --classes"
        )
    return sample_labels(count, data.class_sizes, settings.sampling, heldout=data.heldout_sizes)
