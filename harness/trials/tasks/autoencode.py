"""Autoencoding: an encoder and its decoder learn to make a picture again through a small latent, for data that has no
autoencoder; scored by how close held-out pictures come (`harness.trials.tasks.reconstructing`)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.architecture.autoencoder import OwnAutoencoderConfig
from harness.architecture.config import ArchitectureConfig
from harness.architecture.edits import with_edits
from harness.data.dataset import load_dataset
from harness.data.pairs import PicturePairs
from harness.measure.reconstruction_controls import LinearAutoencoder
from harness.models.weights import Training
from harness.records.errors import UserError
from harness.records.quantity import Quantity
from harness.training.device import resolve_device
from harness.training.objectives.reconstruction import check_objective
from harness.training.reconstruction_config import ReconstructionConfig
from harness.trials.settings import Settings
from harness.trials.spec import cache_folder
from harness.trials.task_config import AutoencodeConfig
from harness.trials.tasks.reconstructing import Reconstructing, check_judges

LAST = "decoder.conv_out"


def load(settings: Settings) -> "Autoencode":
    """With the pictures; refuses what would fail after hours of training."""
    task, objective = settings.task, settings.objective
    assert isinstance(task, AutoencodeConfig)
    assert isinstance(objective, ReconstructionConfig)
    check_judges(task)
    images = load_dataset(settings.data, cache=cache_folder(settings.out))
    if images.latents is not None:
        raise UserError(
            "task=autoencode learns from pictures, and data=prepared holds latents of some; give the data set itself"
        )
    pairs = PicturePairs(images=images)
    check_objective(objective, settings.recipe, pairs)
    return Autoencode(settings=settings, images=images, pairs=pairs, last=LAST)


@dataclass(frozen=True, kw_only=True)
class Autoencode(Reconstructing):
    """See `harness.trials.task.Task`."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of a picture, or of a patch."""
        return self.images.channels, self.side, self.side

    @property
    def trained_on(self) -> dict[str, Any]:
        return {"data": self.images.identity, "reconstruction": self.judged}

    def fitted(self, architecture: ArchitectureConfig) -> ArchitectureConfig:
        """With the picture's channels."""
        assert isinstance(architecture, OwnAutoencoderConfig)
        if reason := architecture.why_not_latent(self.side):
            patch = self.minimised.patch
            side, other = ("data.size", "size") if patch is None else ("objective.patch", "patch")
            raise UserError(f"{side}={self.side} does not fit the autoencoder: {reason}; give another {other}")
        return with_edits(architecture, {"decoder.image_channels": self.images.channels})

    def told(self, trial: str) -> Training:
        return Training(trial=trial, latent=self.side, text={}, task=self.config.name)

    def control_identity(self, _name: str, base: ArchitectureConfig) -> dict[str, Any]:
        return {"block": base.downsampling, "kept": base.latent_channels}

    def control(self, _name: str, base: ArchitectureConfig) -> Mapping[str, Quantity]:
        pictures = (each for _, each in self.training_pairs(resolve_device(self.settings.recipe.device)))
        linear = LinearAutoencoder(pictures, base.downsampling, base.latent_channels)
        return self.scored(linear, training_pictures=len(self.fitted_to))
