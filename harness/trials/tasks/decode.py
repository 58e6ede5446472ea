"""Decoding: a decoder learns to make the picture of a frozen encoder's latent, and is scored by how close it comes
(`harness.trials.tasks.reconstructing`), from the means of held-out pictures' latents."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.architecture.config import ArchitectureConfig
from harness.architecture.decoder import DecoderConfig
from harness.architecture.edits import with_edits
from harness.data.config import CocoConfig
from harness.data.dataset import load_dataset
from harness.data.images import ImageData, Images
from harness.data.pairs import Pairs, pairs_of, stacked_rows
from harness.data.sources.coco import CocoPictures, coco_pictures
from harness.measure.reconstruction import tiled_psnr
from harness.measure.reconstruction_controls import LinearDecoder, NearestPicture, PairsOfTensors
from harness.models.autoencoder import check_matching, describe, load_matching
from harness.models.codec import Description
from harness.models.pixels import to_model_range, to_uint8
from harness.models.tiling import decode_in_tiles
from harness.models.weights import Training, read_head
from harness.records.errors import UserError
from harness.records.quantity import Measured, Quantity
from harness.training.device import resolve_device
from harness.training.objectives.reconstruction import check_objective
from harness.training.outcomes import Trained
from harness.training.reconstruction_config import ReconstructionConfig
from harness.trials.initial import all_initial_weights
from harness.trials.settings import Settings
from harness.trials.spec import cache_folder
from harness.trials.task import Work
from harness.trials.task_config import IN_TILES, DecodeConfig, TiledConfig
from harness.trials.tasks.reconstructing import ROUNDING, Make, Reconstructing, check_judges

LAST = "conv_out"
"""A decoder's last convolution."""


def load(settings: Settings) -> "Decode":
    """With the pictures and what encodes them; refuses what would fail after hours of training."""
    task, objective = settings.task, settings.objective
    assert isinstance(task, DecodeConfig)
    assert isinstance(objective, ReconstructionConfig)
    check_judges(task)
    description = describe(settings.autoencoder)
    if description.is_pixels:
        raise UserError(
            "task=decode learns to decode an autoencoder's latents, and autoencoder=pixels makes none; give "
            "autoencoder=tiny or autoencoder=kl with its files, or autoencoder=trained with its record"
        )
    images = load_dataset(settings.data, cache=cache_folder(settings.out))
    if images.latents is not None:
        check_matching(description, images.latents.autoencoder)
    pairs = pairs_of(images, settings.autoencoder, description)
    check_objective(objective, settings.recipe, pairs)
    _check_initial(settings, pairs)
    if task.tiled is not None:
        _check_tiled(task.tiled, description)
    coco = _coco(task, images, settings)
    return Decode(settings=settings, images=images, pairs=pairs, last=LAST, autoencoder=description, coco=coco)


def _coco(task: DecodeConfig, images: ImageData, settings: Settings) -> CocoPictures | None:
    """COCO's pictures, squares as the data's are; UserError where these have no colour."""
    if task.scored_on is None:
        return None
    if images.channels != 3:
        raise UserError(
            f"task.scored_on scores on COCO's pictures, which have 3 channels, and the data's have {images.channels}; "
            "prepare it with data.color=rgb, or leave task.scored_on out"
        )
    return coco_pictures(task.scored_on, size=images.size, crop=images.crop, cache=cache_folder(settings.out))


def _check_initial(settings: Settings, pairs: Pairs) -> None:
    """UserError for a decoder to begin with that was trained on another autoencoder's latents."""
    for initial in all_initial_weights(settings):
        training = read_head(initial.path)[1]
        theirs, own = (training and training.autoencoder) or {}, pairs.made_by
        if differing := [name for name in own if theirs.get(name) != own[name]]:
            name = differing[0]
            raise UserError(
                f"initial={initial.name} decodes latents of another autoencoder than this data's: its {name} is "
                f"{theirs.get(name)}, theirs {own[name]}; name a decoder of the same one, or leave it out"
            )


def _check_tiled(tiled: TiledConfig, autoencoder: Description) -> None:
    """UserError for a picture that is not encoded, or is no more than a tile."""
    if tiled.side % autoencoder.downsampling:
        raise UserError(
            f"task.tiled.side must be a multiple of {autoencoder.downsampling}, as this autoencoder's pictures are, "
            f"not {tiled.side}"
        )
    cells = tiled.side // autoencoder.downsampling
    if cells <= tiled.tiles.side:
        raise UserError(
            f"a picture of task.tiled.side={tiled.side} has a latent of {cells} x {cells} cells, and tiles of "
            f"task.tiled.tiles.side={tiled.tiles.side} hold all of it; give a larger picture or smaller tiles"
        )


@dataclass(frozen=True, kw_only=True)
class Decode(Reconstructing):
    """See `harness.trials.task.Task`."""

    autoencoder: Description
    coco: CocoPictures | None = None
    """What scores are of instead of held-out pictures."""

    @property
    def originals(self) -> Images:
        return super().originals if self.coco is None else self.coco.images

    def scored_parts(self, numbers: list[int], device: torch.device) -> PairsOfTensors:
        if self.coco is None:
            yield from super().scored_parts(numbers, device)
            return
        autoencoder = load_matching(self.settings.autoencoder, device, self.pairs.made_by)
        for some in self.together(numbers):
            rows = stacked_rows(self.coco.images, some).to(device)
            yield autoencoder.encode(rows).mean, to_model_range(rows)

    @property
    def judged(self) -> dict[str, Any]:
        """With the pictures, where they are not the data's own."""
        return super().judged | ({} if self.coco is None else {"scored_on": self.coco.fingerprint})

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of a patch's latent, where patches are trained on."""
        return self.autoencoder.latent_shape(self.images.channels, self.side)

    @property
    def trained_on(self) -> dict[str, Any]:
        return {
            "data": self.images.identity, "autoencoder": dict(self.pairs.made_by), "reconstruction": self.judged,
        }  # fmt: skip

    @property
    def conditions(self) -> dict[str, Any]:
        scored_on = {} if self.coco is None else {"data": f"COCO {self._scored_on.split}"}
        return {**super().conditions, **scored_on, "latents": "the encoder's means"}

    @property
    def _scored_on(self) -> CocoConfig:
        assert isinstance(self.config, DecodeConfig)
        assert self.config.scored_on is not None
        return self.config.scored_on

    def fitted(self, architecture: ArchitectureConfig) -> ArchitectureConfig:
        """With the latent's and the picture's channels."""
        assert isinstance(architecture, DecoderConfig)
        upsampling = architecture.upsampling
        if upsampling != self.autoencoder.downsampling:
            raise UserError(
                f"a decoder of {len(architecture.stages)} stages makes pictures of {upsampling} times the latent's "
                f"side, and this autoencoder's latents are {self.autoencoder.downsampling} times smaller than their "
                f"pictures; give one of {self.autoencoder.downsampling.bit_length()} stages"
            )
        channels = {"latent_channels": self.shape[0], "image_channels": self.images.channels}
        return with_edits(architecture, channels)

    def told(self, trial: str) -> Training:
        made_by = dict(self.pairs.made_by)
        return Training(trial=trial, latent=self.shape[-1], text={}, autoencoder=made_by, task=self.config.name)

    # scores

    def score(self, trained: Trained, work: Work) -> dict[str, Quantity]:
        quantities = super().score(trained, work)
        assert isinstance(self.config, DecodeConfig)
        if (tiled := self.config.tiled) is None:
            return quantities
        with work.phase("tiles"):
            return {**quantities, IN_TILES: self._in_tiles(trained.model, tiled)}

    def _in_tiles(self, network: nn.Module, tiled: TiledConfig) -> Measured:
        device, values = next(network.parameters()).device, []
        autoencoder = load_matching(self.settings.autoencoder, device, self.pairs.made_by)
        for picture in self._enlarged(tiled, device):
            latents = autoencoder.encode(picture).mean
            with torch.no_grad(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
                values.append(tiled_psnr(decode_in_tiles(network, tiled.tiles, latents), network(latents)))
        count, side = len(values), tiled.side
        of = "held-out pictures" if self.coco is None else f"pictures of COCO {self._scored_on.split}"
        label = f"{side} px in tiles against the whole, a mean over {count} {of}, enlarged"
        return Measured(
            value=sum(values) / count,
            unit="dB",
            low=min(values),
            high=max(values),
            spread=f"the lowest and the highest of {count} pictures",
            conditions={"label": label, "samples": count, **asdict(tiled)},
        )

    def _enlarged(self, tiled: TiledConfig, device: torch.device) -> Iterator[Tensor]:
        """uint8 (1, C, side, side)"""
        numbers = self.heldout[:: -(-len(self.heldout) // tiled.pictures)]
        for _, pictures in self.scored_parts(numbers, device):
            for each in torch.split(pictures, 1):
                yield to_uint8(F.interpolate(each, size=(tiled.side, tiled.side), mode="bicubic"), ROUNDING)

    # controls

    def control_identity(self, name: str, _base: ArchitectureConfig) -> dict[str, Any]:
        return dict(self.autoencoder.decoded_by) if name == "own_decoder" else {}

    def control(self, name: str, _base: ArchitectureConfig) -> Mapping[str, Quantity]:
        fitted = {} if name == "own_decoder" else {"training_pictures": len(self.fitted_to)}
        return self.scored(self._simple(name, resolve_device(self.settings.recipe.device)), **fitted)

    def own_decoder(self, device: torch.device) -> Make:
        """The autoencoder's."""
        return load_matching(self.settings.autoencoder, device, self.pairs.made_by).pictures

    def _simple(self, name: str, device: torch.device) -> Make:
        if name == "own_decoder":
            return self.own_decoder(device)
        training = self.training_pairs(device)
        return LinearDecoder(training) if name == "linear" else NearestPicture(training)
