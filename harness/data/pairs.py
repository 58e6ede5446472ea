"""Pairs of a latent and its picture: what a decoder learns from.

    EncodedPictures    a data set's pictures; a batch, or its patches, is encoded when it is asked for
    PicturePairs       a data set's pictures alone, for a network that makes latents of them itself
    PreparedPairs      prepared data's latents beside the pictures that were kept of them; patches are cut out of both,
                       at the corners of the latent's cells

A patch that is encoded by itself and one that is cut out of a whole picture's latent differ near its edges, where the
encoder of the second saw what is beyond them.

B batch, L latent channels, H W a picture's height and width, h w a latent's.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.data.images import ImageData, Images, stack
from harness.data.rows import Latents, Rows
from harness.models.autoencoder import Autoencoder, load_codec
from harness.models.autoencoder_config import AutoencoderConfig
from harness.models.codec import Description, Scale
from harness.models.pixels import to_model_range
from harness.records.errors import UserError
from harness.records.plain import fingerprint

Normal = Callable[[Sequence[int]], Tensor]
"""N(0, 1), (B, *row) for the shape of a row."""


class Pairs(Protocol):
    """`harness.training.batches.TrainingData` of which every row is a pair."""

    @property
    def train(self) -> Images: ...

    @property
    def heldout(self) -> Images: ...

    @property
    def fingerprint(self) -> str: ...

    def network_inputs(self, rows: Tensor, normal: Normal, /) -> Tensor: ...

    @property
    def side(self) -> int:
        """Of a picture."""
        ...

    @property
    def channels(self) -> int:
        """Of a picture."""
        ...

    @property
    def grid(self) -> int:
        """Corners of patches are at multiples of so many pixels."""
        ...

    @property
    def made_by(self) -> Mapping[str, Any]:
        """The identity of the autoencoder, with the scale of these latents."""
        ...

    def on(self, device: torch.device, /) -> "Pairs":
        """The same, with what it computes there loaded."""
        ...

    def pairs(self, rows: Tensor, normal: Normal | None, /, patch: "Patch | None" = None) -> tuple[Tensor, Tensor]:
        """Of rows as they are stored, on the device: scaled latents (B, L, h, w) float32 and pictures (B, C, H, W) in
        -1..1, whole or of one patch each. Where the encoder is a distribution latents are drawn by `normal`; None: its
        means."""
        ...


@dataclass(frozen=True, slots=True)
class Patch:
    corners: Tensor
    """(B, 2) the pixel of its upper left corner, row and column."""
    side: int

    def of(self, maps: Tensor, cell: int = 1) -> Tensor:
        """(B, C, side / cell, side / cell) of maps (B, C, H, W) whose values are of `cell` pixels each."""
        own = torch.arange(self.side // cell, device=maps.device)
        y, x = ((self.corners[:, axis, None] // cell + own) for axis in (0, 1))  # (B, side / cell)
        number = torch.arange(len(maps), device=maps.device)[:, None, None]
        return maps[number, :, y[:, :, None], x[:, None, :]].permute(0, 3, 1, 2)


@dataclass(frozen=True, kw_only=True, slots=True)
class OfPictures:
    """What pairs have of the pictures that they are of."""

    images: ImageData

    @property
    def train(self) -> Images:
        return self.images.train

    @property
    def heldout(self) -> Images:
        return self.images.heldout

    @property
    def side(self) -> int:
        return self.images.size

    @property
    def channels(self) -> int:
        return self.images.channels


@dataclass(frozen=True, kw_only=True, slots=True)
class EncodedPictures(OfPictures):
    """Where the autoencoder's files name no scale, latents are as its encoder makes them."""

    config: AutoencoderConfig
    description: Description
    loaded: Autoencoder | None = None

    @property
    def fingerprint(self) -> str:
        return fingerprint([self.images.fingerprint, dict(self.made_by)], schema="pairs-1")

    @property
    def grid(self) -> int:
        return 1

    @property
    def _scale(self) -> Scale | None:
        return None if self.description.scale is not None else (1.0,) * (self.description.channels or 1)

    @property
    def made_by(self) -> dict[str, Any]:
        return self.description.identity(self._scale)

    def on(self, device: torch.device) -> "EncodedPictures":
        loaded = Autoencoder(self.description, load_codec(self.config, device), self._scale, device)
        return replace(self, loaded=loaded)

    def pairs(self, rows: Tensor, normal: Normal | None, patch: Patch | None = None) -> tuple[Tensor, Tensor]:
        assert self.loaded is not None  # `on` makes it so
        pictures = rows if patch is None else patch.of(rows)
        encoded = self.loaded.encode(pictures)
        latents = encoded.mean
        if encoded.std is not None and normal is not None:
            latents = latents + encoded.std * normal(latents.shape[1:]).to(latents.device)
        return latents, to_model_range(pictures)

    def network_inputs(self, rows: Tensor, normal: Normal) -> Tensor:
        return self.pairs(rows, normal)[0]


@dataclass(frozen=True, slots=True, eq=False)
class PackedRows:
    """A row is a latent's bytes and then its picture's, uint8: data loaders have one tensor a picture."""

    latents: Rows
    pictures: Rows
    numbers: NDArray[np.int64]  # (N,) of the pictures, among the latents

    @property
    def labels(self) -> NDArray[np.int64]:
        return self.pictures.labels

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        rows, labels = self.rows([index])
        return rows[0], int(labels[0])

    def rows(self, numbers: Sequence[int]) -> tuple[Tensor, Tensor]:
        latents, _ = self.latents.rows(self.numbers[np.asarray(numbers, np.int64)].tolist())
        pictures, labels = self.pictures.rows(numbers)
        return torch.cat([latents.contiguous().view(torch.uint8).flatten(1), pictures.flatten(1)], dim=1), labels


@dataclass(frozen=True, kw_only=True, slots=True)
class PreparedPairs(OfPictures):
    latents: Latents
    latent_shape: tuple[int, int, int]
    """(L, h, w)"""

    @property
    def train(self) -> PackedRows:
        assert isinstance(self.images.train, Rows)
        return PackedRows(self.latents.train, self.images.train, self.latents.pictures)

    @property
    def heldout(self) -> PackedRows:
        assert isinstance(self.images.heldout, Rows)
        return PackedRows(self.latents.heldout, self.images.heldout, np.arange(len(self.images.heldout)))

    @property
    def fingerprint(self) -> str:
        return fingerprint([self.latents.fingerprint, self.latents.pictures.tolist()], schema="pairs-1")

    @property
    def grid(self) -> int:
        return self.images.size // self.latent_shape[-1]

    @property
    def made_by(self) -> Mapping[str, Any]:
        return self.latents.autoencoder

    def on(self, _device: torch.device) -> "PreparedPairs":
        return self

    def pairs(self, rows: Tensor, normal: Normal | None, patch: Patch | None = None) -> tuple[Tensor, Tensor]:
        values, height, width = self.latent_shape
        stored = (values * (2 if self.latents.is_sampled else 1), height, width)
        size = 2 * int(np.prod(stored))  # of float16
        latents = rows[:, :size].contiguous().view(torch.float16).view(-1, *stored)
        pictures = rows[:, size:].view(-1, self.channels, self.side, self.side)
        if patch is not None:
            latents, pictures = patch.of(latents, self.grid), patch.of(pictures)
        if normal is None and self.latents.is_sampled:
            latents = latents[:, :values]
            return latents.float(), to_model_range(pictures)
        drawn = self.latents.network_inputs(latents, normal or _none)
        return drawn, to_model_range(pictures)

    def network_inputs(self, rows: Tensor, normal: Normal) -> Tensor:
        return self.pairs(rows, normal)[0]


def _none(_row: Sequence[int]) -> Tensor:
    raise AssertionError("latents that are points are not drawn")


@dataclass(frozen=True, kw_only=True, slots=True)
class PicturePairs(OfPictures):
    """Pictures that stand for their own latents: what a network sees that makes them itself."""

    grid: int = 1

    @property
    def fingerprint(self) -> str:
        return self.images.fingerprint

    @property
    def made_by(self) -> Mapping[str, Any]:
        return {"kind": "pixels", "downsampling": 1}

    def on(self, _device: torch.device) -> "PicturePairs":
        return self

    def pairs(self, rows: Tensor, _normal: Normal | None, patch: Patch | None = None) -> tuple[Tensor, Tensor]:
        pictures = to_model_range(rows if patch is None else patch.of(rows))
        return pictures, pictures

    def network_inputs(self, rows: Tensor, _normal: Normal) -> Tensor:
        return to_model_range(rows)


def pairs_of(images: ImageData, config: AutoencoderConfig, description: Description) -> Pairs:
    """Of prepared data its own latents, which the autoencoder has to have made; of pictures what it makes of them.
    UserError where there are none."""
    if images.latents is None:
        description.latent_shape(images.channels, images.size)
        return EncodedPictures(images=images, config=config, description=description)
    if len(images.train) == 0:
        raise UserError("the prepared data keeps no training pictures to decode to; prepare it anew with pictures=null")
    shape = description.latent_shape(images.channels, images.size)
    return PreparedPairs(images=images, latents=images.latents, latent_shape=shape)


def stacked_rows(images: Images, numbers: Sequence[int]) -> Tensor:
    """The rows of these numbers, as they are stored."""
    return images.rows(numbers)[0] if isinstance(images, PackedRows) else stack(images, numbers)
