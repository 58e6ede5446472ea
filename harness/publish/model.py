"""A trained network to sample from in Python: of a published folder, of a trial, or of a file of weights.

Its pictures are those of `harness sample`, bit for bit: the same function makes them, of the same noise, prompts and
settings.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from harness.architecture.config import ArchitectureConfig
from harness.data.config import TextConfig
from harness.data.prompts import PromptTable, read_prompts
from harness.device.picture import PROMPTS
from harness.diffusion.config import SamplingConfig
from harness.diffusion.sampling import sample
from harness.models.autoencoder import Autoencoder, check_matching, describe, load_matching
from harness.models.autoencoder_config import (
    AutoencoderConfig,
    KlAutoencoder,
    PixelsAutoencoder,
    Tiles,
    TrainedAutoencoder,
)
from harness.models.pixels import NotFiniteError
from harness.models.weights import Weights, read_weights
from harness.publish.folder import AUTOENCODER, MODEL, Manifest, check_files, read_manifest
from harness.records.errors import UserError
from harness.records.plain import from_plain, to_plain
from harness.training.device import resolve_device
from harness.trials.asked import asked_prompts
from harness.trials.sampling_run import class_names, denoised_channels, prompts_of
from harness.trials.settings import settings_of
from harness.trials.spec import cache_folder
from harness.trials.trained import names_network, sampling_of, trained_network

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True, kw_only=True)
class Model:
    title: str
    """What sentences call it."""
    architecture: ArchitectureConfig
    network: nn.Module
    """In evaluation mode, on the device it was loaded to."""
    prompts: PromptTable
    """Those it was trained with."""
    class_names: Sequence[str]
    text: TextConfig | None
    """What reads other texts; None: nothing here."""
    shape: tuple[int, int, int]
    """(C, H, W) of what the network denoises."""
    autoencoder: Autoencoder | None
    """What makes pictures of it; None where it is pictures."""
    sampling: SamplingConfig
    """The settings that `sample` takes where it is given no others."""

    def sample(
        self, texts: Sequence[str], *, steps: int | None = None, guidance: float | None = None, **settings: Any
    ) -> "list[Image.Image]":
        """A picture for each text: a prompt that the network was trained with, the name of a class, or another text
        where its text encoder is here. Greyscale where it was trained on one channel.

        `steps`, `guidance` (1 is none) and the other `settings` are those of `harness settings sampling`: seed, solver,
        guidance_interval, rounding, ...; by default the published ones, or the trial's. UserError for settings, and
        for texts, that cannot be.
        """
        from PIL import Image

        arrays = self.images(texts, steps=steps, guidance=guidance, **settings).permute(0, 2, 3, 1).numpy()
        return [Image.fromarray(each[..., 0] if each.shape[2] == 1 else np.ascontiguousarray(each)) for each in arrays]

    def images(
        self, texts: Sequence[str], *, steps: int | None = None, guidance: float | None = None, **settings: Any
    ) -> Tensor:
        """The same as uint8 (N, C, H, W) on the CPU."""
        config = self._sampling(steps, guidance, settings)
        config.check_channels(self.shape[0])
        texts = [texts] if isinstance(texts, str) else list(texts)
        prompts = asked_prompts(texts, self.title, self.prompts, self.class_names, self.text)
        decode = None if self.autoencoder is None else partial(self.autoencoder.decode, rounding=config.rounding)
        try:
            return sample(self.network, prompts, torch.arange(len(texts)), config, shape=self.shape, decode=decode)
        except NotFiniteError as error:
            raise UserError(f"{self.title} cannot be sampled from: {error}") from error

    def _sampling(self, steps: int | None, guidance: float | None, settings: dict[str, Any]) -> SamplingConfig:
        """The model's own with the given ones; without what means nothing where guidance is to be none."""
        plain: Any = to_plain(self.sampling if guidance != 1 else self.sampling.with_guidance(1))
        given = {"steps": steps, "guidance_scale": guidance}
        given = settings | {name: value for name, value in given.items() if value is not None}
        return from_plain(SamplingConfig, plain | given, where="sampling")


def load_model(
    what: str | Path,
    *,
    out: str | Path = "runs",
    text: TextConfig | None = None,
    autoencoder: AutoencoderConfig | None = None,
    tiles: Mapping[str, int] | None = None,
    device: str = "cpu",
) -> Model:
    """See `harness.load`."""
    if Path(what).is_dir():
        return load_folder(Path(what), text=text, autoencoder=autoencoder, tiles=tiles, device=device)
    if not names_network(str(what)):
        raise UserError(f"{what} is no file of weights; give a folder that `harness publish` wrote, or a trial's key")
    trained = trained_network(str(what), Path(out), "a folder that `harness publish` wrote")
    recorded = None if trained.record is None else from_plain(ArchitectureConfig, trained.record.architecture)
    weights = read_weights(trained.weights, recorded)
    assert weights.training is not None  # `trained_network` refuses such files
    settings = settings_of([], sampling_of(trained))
    text = text or settings.text
    prompts = prompts_of(trained.weights, weights.training, text, cache_folder(Path(out)))
    return _model(weights, trained.title, prompts, text, settings.sampling, _tiled(autoencoder, tiles), device)


def load_folder(
    folder: Path,
    *,
    text: TextConfig | None = None,
    autoencoder: AutoencoderConfig | None = None,
    tiles: Mapping[str, int] | None = None,
    device: str = "cpu",
) -> Model:
    """Of a published folder. Every file is checked before anything is built."""
    manifest = read_manifest(folder)
    check_files(folder, manifest, (MODEL, PROMPTS, AUTOENCODER))
    autoencoder = _tiled(autoencoder or _published_autoencoder(folder, manifest), tiles)
    architecture = from_plain(ArchitectureConfig, manifest.architecture)
    if architecture.fingerprint != manifest.architecture_fingerprint:
        raise UserError(
            f"{folder} is of the architecture {manifest.architecture_fingerprint}, which this version of unet-harness "
            f"reads as {architecture.fingerprint}; install the version that wrote it, {manifest.harness['version']}"
        )
    weights = read_weights(folder / MODEL, architecture)
    prompts = read_prompts(folder / PROMPTS, manifest.text)
    sampling = from_plain(SamplingConfig, manifest.choices.sampling, where="sampling")
    return _model(weights, str(folder), prompts, text or manifest.text_encoder, sampling, autoencoder, device)


def _published_autoencoder(folder: Path, manifest: Manifest) -> AutoencoderConfig:
    config = manifest.autoencoder_config
    if manifest.autoencoder is None or isinstance(config, PixelsAutoencoder):
        return PixelsAutoencoder()
    if manifest.choices.embed and not isinstance(config, TrainedAutoencoder):
        if isinstance(config, KlAutoencoder):
            return replace(config, name=str(folder / AUTOENCODER), subfolder=None)
        return replace(config, name=str(folder / AUTOENCODER))
    if config.name is None:
        raise UserError(
            f"{folder} denoises the latents of an autoencoder that is not in it: kind {config.kind}, the hash of its "
            f"weights {manifest.autoencoder['weights']}; give its files to load as autoencoder=..."
        )
    return config


def _tiled(autoencoder: AutoencoderConfig | None, tiles: Mapping[str, int] | None) -> AutoencoderConfig | None:
    if tiles is None:
        return autoencoder
    if autoencoder is None or isinstance(autoencoder, PixelsAutoencoder):
        raise UserError("tiles are of latents, and this network sees pixels; leave them out")
    return replace(autoencoder, tiles=from_plain(Tiles, dict(tiles), where="tiles"))


def _model(
    weights: Weights,
    title: str,
    prompts: PromptTable,
    text: TextConfig | None,
    sampling: SamplingConfig,
    autoencoder: AutoencoderConfig | None,
    device: str,
) -> Model:
    """The autoencoder is compared with the one that made the latents before anything is built."""
    training, where, config = weights.training, resolve_device(device, "device"), autoencoder or PixelsAutoencoder()
    assert training is not None
    loaded = None
    if training.autoencoder is not None:
        check_matching(describe(config), training.autoencoder)
        loaded = load_matching(config, where, training.autoencoder)
    elif not isinstance(config, PixelsAutoencoder):
        raise UserError(f"{title} was trained on pixels; leave out autoencoder={config.kind}")
    return Model(
        title=title,
        architecture=weights.architecture,
        network=weights.network().to(where),
        prompts=prompts,
        class_names=class_names(training),
        text=text,
        shape=(denoised_channels(weights), training.latent, training.latent),
        autoencoder=loaded,
        sampling=sampling,
    )
