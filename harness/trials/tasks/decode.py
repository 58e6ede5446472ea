"""Decoding: a decoder learns to make the picture of a frozen encoder's latent, and is scored by how close it comes.

train -> reconstruct -> score: held-out pictures, whole, from the means of their latents, against themselves. Beside the
record lie some of them for people: originals, reconstructions, and eight times their difference.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.architecture.config import ArchitectureConfig
from harness.architecture.decoder import DecoderConfig
from harness.architecture.edits import with_edits
from harness.architecture.kinds import builder_of
from harness.data.dataset import load_dataset
from harness.data.images import ImageData, Images
from harness.data.pairs import Pairs, pairs_of, stacked_rows
from harness.launch.events import report_progress
from harness.measure.reconstruction import ReconstructionScorer
from harness.measure.reconstruction_controls import LinearDecoder, NearestPicture, PairsOfTensors
from harness.models.autoencoder import Description, check_matching, describe, load_matching
from harness.models.extractor_config import extractor_identity
from harness.models.feature_extractor import check_extractor
from harness.models.perceptual import check_perceptual
from harness.models.perceptual_config import perceptual_identity
from harness.models.pixels import to_uint8
from harness.models.weights import Training
from harness.records.errors import UserError
from harness.records.quantity import Quantity
from harness.training.device import resolve_device
from harness.training.objective import Objective
from harness.training.objectives.reconstruction import Reconstructed, check_objective, check_patch, judged_by
from harness.training.outcomes import Trained
from harness.training.reconstruction_config import ReconstructionConfig
from harness.trials.samples import write_grid
from harness.trials.settings import Settings
from harness.trials.spec import cache_folder
from harness.trials.task import Work
from harness.trials.task_config import DecodeConfig
from harness.trials.watching import Hear, Keep

LAST = "conv_out"
"""A decoder's last convolution."""
AT_ONCE, VALUES_AT_ONCE = 64, 2**22
"""Pictures that are made together, and values of pixels in them, at most."""
FITTED_VALUES = 2**26
"""Values of pixels of the training pictures that controls are of, at most."""
FITTED = 2048
SHOWN = 12
MAGNIFIED = 8
ROUNDING = "nearest"

Make = Callable[[Tensor], Tensor]
"""Latents (B, L, h, w) on the device -> pictures (B, C, H, W) in -1..1."""


def load(settings: Settings) -> "Decode":
    """With the pictures and what encodes them; refuses what would fail after hours of training."""
    task, objective = settings.task, settings.objective
    assert isinstance(task, DecodeConfig)
    assert isinstance(objective, ReconstructionConfig)
    check_extractor(task.extractor)
    if task.perceptual is not None:
        check_perceptual(task.perceptual)
    description = describe(settings.autoencoder)
    if description.is_pixels:
        raise UserError(
            "task=decode learns to decode an autoencoder's latents, and autoencoder=pixels makes none; give "
            "autoencoder=tiny or autoencoder=kl with its files"
        )
    images = load_dataset(settings.data, cache=cache_folder(settings.out))
    if images.latents is not None:
        check_matching(description, images.latents.autoencoder)
    pairs = pairs_of(images, settings.autoencoder, description)
    check_objective(objective, settings.recipe, pairs)
    return Decode(settings=settings, images=images, pairs=pairs, autoencoder=description)


@dataclass(frozen=True, kw_only=True)
class Decode:
    """See `harness.trials.task.Task`."""

    settings: Settings
    images: ImageData
    pairs: Pairs
    autoencoder: Description

    teacher = None

    @property
    def data(self) -> Pairs:
        return self.pairs

    @property
    def pictures(self) -> int:
        return len(self.pairs.train)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of a patch's latent, where patches are trained on."""
        assert isinstance(self.settings.objective, ReconstructionConfig)
        side = check_patch(self.settings.objective, self.pairs)
        return self.autoencoder.latent_shape(self.images.channels, side)

    @property
    def samples(self) -> int:
        return len(self.heldout)

    @property
    def config(self) -> DecodeConfig:
        assert isinstance(self.settings.task, DecodeConfig)
        return self.settings.task

    @property
    def heldout(self) -> list[int]:
        """The numbers of the held-out pictures that scores are of, spread evenly."""
        there = len(self.pairs.heldout)
        count = min(self.config.pictures, there)
        return [number * there // count for number in range(count)]

    @property
    def warning(self) -> str | None:
        return self.images.warning

    @property
    def trained_on(self) -> dict[str, Any]:
        """What judges a picture stands there by its content: the loss and the scores."""
        assert isinstance(self.settings.objective, ReconstructionConfig)
        scores = {"extractor": extractor_identity(self.config.extractor)}
        if self.config.perceptual is not None:
            scores["perceptual"] = perceptual_identity(self.config.perceptual)
        judged = {"loss": judged_by(self.settings.objective), "scores": scores}
        return {"data": self.images.identity, "autoencoder": dict(self.pairs.made_by), "reconstruction": judged}

    @property
    def scored_by(self) -> dict[str, Any]:
        return {}

    def under(self, settings: Settings) -> "Decode":
        return replace(self, settings=settings)

    def fitted(self, architecture: ArchitectureConfig) -> ArchitectureConfig:
        """With the latent's and the picture's channels."""
        assert isinstance(architecture, DecoderConfig)
        upsampling = 2 ** (len(architecture.stages) - 1)
        if upsampling != self.autoencoder.downsampling:
            raise UserError(
                f"a decoder of {len(architecture.stages)} stages makes pictures of {upsampling} times the latent's "
                f"side, and this autoencoder's latents are {self.autoencoder.downsampling} times smaller than their "
                f"pictures; give one of {self.autoencoder.downsampling.bit_length()} stages"
            )
        channels = {"latent_channels": self.shape[0], "image_channels": self.images.channels}
        return with_edits(architecture, channels)

    def objective(self, _architecture: ArchitectureConfig, seed: int) -> Objective[Any]:
        config, recipe = self.settings.objective, self.settings.recipe
        given = Reconstructed(
            data=self.pairs, recipe=recipe, device=resolve_device(recipe.device), seed=seed, last=LAST
        )
        built: Objective[Any] = builder_of(config)(config, given)
        return built

    def watcher(self, _keep: Keep, _hear: Hear) -> None:
        return None

    def told(self, trial: str) -> Training:
        made_by = dict(self.pairs.made_by)
        return Training(trial=trial, latent=self.shape[-1], text={}, autoencoder=made_by, task=self.config.kind)

    # scores

    def score(self, trained: Trained, work: Work) -> dict[str, Quantity]:
        device = next(trained.model.parameters()).device
        under = {"training_device": trained.effort.device, "precision": trained.effort.precision}
        with work.phase("reconstruct"):
            scorer, shown = self.scorer(device), list[Tensor]()
            for done, made, originals in self.made(trained.model, device):
                scorer.add(made, originals)
                shown += [] if shown else [made[:SHOWN], originals[:SHOWN]]
                report_progress(work.folder, "reconstruct", done, self.samples)
        with work.phase("score"):
            quantities = scorer.quantities({**under, **self.settings.recipe.rounded_otherwise, **self.conditions})
        write_grid(side_by_side(*shown), work.artifact(self.config.judging.picture), columns=len(shown[0]))
        return quantities

    @property
    def conditions(self) -> dict[str, Any]:
        return {"rounding": ROUNDING, "latents": "the encoder's means", "data": self.images.kind}

    def scorer(self, device: torch.device) -> ReconstructionScorer:
        labels = torch.from_numpy(self.pairs.heldout.labels[np.array(self.heldout)])
        return ReconstructionScorer(labels, self.config.extractor, self.config.perceptual, device)

    def made(self, make: Make, device: torch.device) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Of the held-out pictures, part by part: how many are done, what is made of them, and they; uint8."""
        done = 0
        for latents, pictures in self._parts(self.pairs.heldout, self.heldout, device):
            with torch.no_grad(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
                made = to_uint8(make(latents), ROUNDING).cpu()
            done += len(made)
            yield done, made, to_uint8(pictures).cpu()

    def _parts(self, images: Images, numbers: list[int], device: torch.device) -> PairsOfTensors:
        """Their pairs, on the device; of latents the means."""
        loaded = self.pairs.on(device)
        values = self.pairs.channels * self.pairs.side**2
        size = max(1, min(AT_ONCE, VALUES_AT_ONCE // values))
        for start in range(0, len(numbers), size):
            yield loaded.pairs(stacked_rows(images, numbers[start : start + size]).to(device), None)

    # controls

    def control_identity(self, _name: str, _base: ArchitectureConfig) -> dict[str, Any]:
        return {}

    def control(self, name: str, _base: ArchitectureConfig) -> Mapping[str, Quantity]:
        device = resolve_device(self.settings.recipe.device)
        make, scorer = self._simple(name, device), self.scorer(device)
        for _, made, originals in self.made(make, device):
            scorer.add(made, originals)
        return scorer.quantities(self.conditions)

    def _simple(self, name: str, device: torch.device) -> Make:
        if name == "own_decoder":
            return load_matching(self.settings.autoencoder, device, self.pairs.made_by).pictures
        there = len(self.pairs.train)
        count = min(there, FITTED, max(1, FITTED_VALUES // (self.pairs.channels * self.pairs.side**2)))
        numbers = [number * there // count for number in range(count)]
        training = partial(self._parts, self.pairs.train, numbers, device)
        return LinearDecoder(training()) if name == "linear" else NearestPicture(training())


def side_by_side(made: Tensor, originals: Tensor) -> Tensor:
    """Three rows: originals, reconstructions, and eight times the difference about grey."""
    difference = 128 + MAGNIFIED * (made.to(torch.int16) - originals.to(torch.int16))
    return torch.cat([originals, made, difference.clamp(0, 255).to(torch.uint8)])
