"""What an autoencoder is, whatever its kind: what can be said of it without running its networks, and these as two
functions. The kinds: `diffusers_autoencoder`, `tiny_autoencoder`, `trained_autoencoder`; `autoencoder` is over all.

B batch, C picture channels, L latent channels, H W the picture's size, h w the latent's.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from torch import Tensor, nn

from harness.models.autoencoder_config import Tiles
from harness.records.errors import UserError
from harness.records.plain import to_plain
from harness.records.store import known_sha256

Scale: TypeAlias = tuple[float, ...]
"""One a latent channel, or one for all."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Description:
    kind: str
    weights: str = ""
    """The first 16 hex digits of the hash of the files; none for pixels."""
    channels: int | None = None
    """Of a latent; None: the picture's."""
    downsampling: int = 1
    input_range: tuple[float, float] = (-1.0, 1.0)
    """Of the picture as the networks take it and give it back."""
    encoding: str = "mean"
    """`sampled`: a latent is a distribution, mean and standard deviation; `mean`: a point."""
    shift: float = 0.0
    scale: float | None = 1.0
    """None: neither the configuration nor the files say; to be measured."""
    image_channels: int = 3
    """Of the pictures that it encodes."""
    decoder: str = ""
    """Of a decoder that was trained for this encoder: the first 16 hex digits of the sum of its tensors."""
    tiles: Tiles | None = None
    """In which latents are decoded; None: whole."""

    def latent_shape(self, image_channels: int, image_size: int) -> tuple[int, int, int]:
        """(L, h, w) of a picture of (C, image_size, image_size); UserError for one that it cannot take."""
        if self.channels is None:
            return image_channels, image_size, image_size
        if image_channels != self.image_channels:
            color = "rgb" if self.image_channels == 3 else "grayscale"
            raise UserError(
                f"autoencoder.kind={self.kind} encodes pictures of {self.image_channels} channels, and these have "
                f"{image_channels}; prepare them with data.color={color}"
            )
        if image_size % self.downsampling:
            near = max(1, round(image_size / self.downsampling)) * self.downsampling
            raise UserError(
                f"autoencoder.kind={self.kind} takes pictures whose side is a multiple of {self.downsampling}, not "
                f"{image_size}; give data.size={near}"
            )
        return self.channels, image_size // self.downsampling, image_size // self.downsampling

    @property
    def is_pixels(self) -> bool:
        return self.channels is None

    @property
    def decoded_by(self) -> dict[str, Any]:
        """What of an identity says that latents are not decoded whole by the autoencoder's own decoder."""
        other = {"decoder": self.decoder} if self.decoder else {}
        return other | ({} if self.tiles is None else {"tiles": to_plain(self.tiles)})

    def identity(self, measured: Scale | None = None) -> dict[str, Any]:
        """All that decides what latent it makes of a picture; `measured` is the scale where the files say none."""
        return {
            "kind": self.kind,
            "weights": self.weights,
            "channels": self.channels,
            "downsampling": self.downsampling,
            "input_range": list(self.input_range),
            "encoding": self.encoding,
            "shift": self.shift,
            "scale": self.scale if measured is None else list(measured),
        }


Raw: TypeAlias = tuple[Tensor, Tensor | None]


@dataclass(frozen=True, slots=True)
class Codec:
    """The two networks of a kind, each as a function of float32 tensors on their device, in the input range."""

    encode: Callable[[Tensor], Raw]  # (B, C, H, W) -> raw mean, and raw standard deviation or None
    decode: Callable[[Tensor], Tensor]  # raw (B, L, h, w) -> (B, C, H, W)
    network: nn.Module | None = None  # whose weights `decode` runs on; None: on none
    encoder: nn.Module | None = None  # the same of `encode`


def differing(description: Description, identity: Mapping[str, Any]) -> str:
    """In what the autoencoder is not the one with this `identity`; "" where it is."""
    own = description.identity()
    measured = own["scale"] is None and isinstance(identity.get("scale"), list | tuple)
    apart = [name for name in own if identity.get(name) != own[name] and not (name == "scale" and measured)]
    return "; ".join(f"its {name} is {own[name]}, theirs {identity.get(name)}" for name in apart[:3])


def files_hash(files: Sequence[Path], *more: str) -> str:
    """16 hex digits of what they hold, and of what else decides the networks."""
    lines = [*map(known_sha256, files), *more]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
