"""Autoencoders that are trained here: a decoder, and an encoder that mirrors it."""

from dataclasses import dataclass
from typing import Literal

from harness.architecture.decoder import DecoderConfig
from harness.architecture.family import ArchitectureConfig
from harness.architecture.kinds import kind_of
from harness.records.plain import Plain


@kind_of(ArchitectureConfig, built_by="harness.models.own_autoencoder:OwnAutoencoder")
@dataclass(frozen=True, kw_only=True, slots=True)
class OwnAutoencoderConfig(ArchitectureConfig):
    """Its module is called with pictures (B, C, H, W) alone, whose side counts as its latent; `task=autoencode` trains
    it."""

    decoder: DecoderConfig
    """The encoder has the same blocks in reverse, and a strided convolution where the decoder has an upsampling layer,
    of whatever kind."""
    kind: Literal["autoencoder"] = "autoencoder"

    @property
    def latent_channels(self) -> int:  # type: ignore[override]
        """Of what the encoder makes."""
        return self.decoder.latent_channels

    @property
    def input_channels(self) -> int:
        return self.decoder.image_channels

    @property
    def downsampling(self) -> int:
        """Of the encoder."""
        return 1 << (len(self.decoder.stages) - 1)

    def canonical(self) -> Plain:
        return {"kind": self.kind, "decoder": self.decoder.canonical()}
