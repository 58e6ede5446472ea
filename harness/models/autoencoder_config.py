"""What a network's inputs are: the picture's own `pixels`, or an autoencoder's latents (`kl`, `tiny`, `trained`). No
torch."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

from harness.records.errors import UserError
from harness.records.plain import NOT_IDENTITY


@dataclass(frozen=True, kw_only=True, slots=True)
class Tiles:
    """Latents are decoded in parts, which are joined (`harness.models.tiling`)."""

    side: int = 96
    """Of a part, in cells of the latent; latents up to it are decoded whole."""
    overlap: int = 40
    """Cells that neighbours share, at least."""
    blend: int = 8
    """Of these, in the middle: those over which one part passes into the next."""

    def __post_init__(self) -> None:
        if not 0 <= self.blend <= self.overlap < self.side:
            raise UserError(
                "tiles share fewer cells than they have, and blend over at most those: 0 <= blend <= overlap < side, "
                f"not {self.blend}, {self.overlap} and {self.side}"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class PixelsAutoencoder:
    """None: a network sees the picture, its grey levels as -1..1."""

    kind: Literal["pixels"] = "pixels"


@dataclass(frozen=True, kw_only=True, slots=True)
class KlAutoencoder:
    """diffusers' AutoencoderKL: SD 1's and SDXL's with 4 channels, SD3's and Flux.1's with 16."""

    kind: Literal["kl"] = "kl"
    name: str | None = field(default=None, metadata=NOT_IDENTITY)
    """A folder with config.json and safetensors, or a name on the Hugging Face hub; known by its weights' hash."""
    subfolder: str | None = field(default=None, metadata=NOT_IDENTITY)
    """Where in it the autoencoder lies: `vae` in a pipeline's."""
    encoding: Literal["sampled", "mean"] = "sampled"
    """sampled: training draws from the encoder's distribution each time; mean: its mean, always the same."""
    tiles: Tiles | None = field(default=None, metadata=NOT_IDENTITY)
    """In which latents are decoded; null: whole."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TinyAutoencoder:
    """TAESD and its kin, which encode to a point: diffusers' AutoencoderTiny, or the taesd repository's two files."""

    kind: Literal["tiny"] = "tiny"
    name: str | None = field(default=None, metadata=NOT_IDENTITY)
    """A folder of AutoencoderTiny, or a name on the Hugging Face hub."""
    encoder: Path | None = field(default=None, metadata=NOT_IDENTITY)
    """Instead of a name: the taesd repository's *_encoder.pth ..."""
    decoder: Path | None = field(default=None, metadata=NOT_IDENTITY)
    """... and its *_decoder.pth."""
    tiles: Tiles | None = field(default=None, metadata=NOT_IDENTITY)
    """In which latents are decoded; null: whole."""

    def __post_init__(self) -> None:
        if self.name is not None and (self.encoder is not None or self.decoder is not None):
            raise UserError(
                "autoencoder=tiny is given by autoencoder.name, or by autoencoder.encoder and autoencoder.decoder; "
                f"leave out either '{self.name}' or the files"
            )
        if (self.encoder is None) != (self.decoder is None):
            lacking = "encoder" if self.encoder is None else "decoder"
            raise UserError(f"the taesd repository's files are a pair; give autoencoder.{lacking}=FILE.pth too")


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainedAutoencoder:
    """One that was trained here: encoder and decoder, by `task=autoencode`, which encodes to a point; or by
    `task=decode` a decoder alone, with the frozen encoder that it was trained against."""

    kind: Literal["trained"] = "trained"
    record: str | None = field(default=None, metadata=NOT_IDENTITY)
    """Its trial's key, or its file of weights; known by what these hold."""
    file: Path | None = field(default=None, metadata=NOT_IDENTITY)
    """Its file of weights, which follows from `record`."""
    encoded_by: "EncodingAutoencoder | None" = field(default=None, metadata=NOT_IDENTITY)
    """Of a decoder alone: the autoencoder whose encoder it was trained against; null: as its trial's record says. It is
    held against what the decoder's file says of it."""
    tiles: Tiles | None = field(default=None, metadata=NOT_IDENTITY)
    """In which latents are decoded; null: whole."""

    @property
    def name(self) -> None:
        """It is in no folder of diffusers'."""


EncodingAutoencoder: TypeAlias = KlAutoencoder | TinyAutoencoder | TrainedAutoencoder
AutoencoderConfig: TypeAlias = PixelsAutoencoder | EncodingAutoencoder
