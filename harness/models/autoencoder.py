"""Frozen autoencoders: pictures in, what a network sees of them out, and back. One interface over every kind.

    z = (z_raw - shift) * scale          what is stored, trained on and sampled
    z_raw = z / scale + shift            what is decoded

A `Description` is what can be said without running the networks: sizes, input range, shift and scale, and the identity
by the weights' hash. An `Autoencoder` is loaded: it encodes and decodes, without gradients. `pixels` is none: a network
sees grey levels as -1..1.

A decoder of ours may stand in the place of the encoder's own (`autoencoder=trained` of `task=decode`): all but the
decoder is then the autoencoder's whose encoder it is, latents too, and what it was trained on is made of z_raw first.

Shift and scale are the configuration's. A shift that it lacks is 0. A scale that it lacks is measured, one a channel,
on training pictures by `measured_scale`, and travels with what was encoded with it.

B batch, C picture channels, L latent channels, H W the picture's size, h w the latent's.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from harness.models import diffusers_autoencoder, tiny_autoencoder, trained_autoencoder
from harness.models.autoencoder_config import (
    AutoencoderConfig,
    EncodingAutoencoder,
    PixelsAutoencoder,
    TinyAutoencoder,
    TrainedAutoencoder,
)
from harness.models.codec import Codec, Description, Raw, Scale, differing
from harness.models.pixels import to_model_range, to_uint8
from harness.models.tiling import decode_in_tiles
from harness.records.errors import UserError

STANDARD_DEVIATION = (0.5, 2.0)
"""Of scaled latents, all channels together. Flow matching's path and its times are for data of about 1."""


def describe(config: AutoencoderConfig) -> Description:
    """What the configured autoencoder is, from its files. UserError for files that are missing or of another kind."""
    if isinstance(config, PixelsAutoencoder):
        return Description(kind=config.kind)
    return replace(_described(config), tiles=config.tiles)


def _described(config: EncodingAutoencoder) -> Description:
    if isinstance(config, TrainedAutoencoder):
        return trained_autoencoder.described(config, describe)
    if isinstance(config, TinyAutoencoder) and config.encoder is not None and config.decoder is not None:
        return tiny_autoencoder.described(config.encoder, config.decoder)
    return diffusers_autoencoder.described(config)


@dataclass(frozen=True, slots=True)
class Encoded:
    """Scaled latents, float32."""

    mean: Tensor  # (B, L, h, w)
    std: Tensor | None  # the same, where the encoder is a distribution


class Autoencoder:
    """A loaded one, on `device`. `scale` is the measured one, where the description has none."""

    def __init__(self, description: Description, codec: Codec, scale: Scale | None, device: torch.device) -> None:
        if (description.scale is None) == (scale is None):
            state = "has none of its own" if scale is None else "is its own"
            raise ValueError(f"the scale of an autoencoder is either its own or measured; here it {state}")
        self.description, self.codec, self.device = description, codec, device
        given = scale if scale is not None else (description.scale,)
        self.scale = torch.tensor(given, dtype=torch.float32, device=device).view(1, -1, 1, 1)  # 1 L 1 1, or 1 1 1 1

    def latent_shape(self, image_channels: int, image_size: int) -> tuple[int, int, int]:
        return self.description.latent_shape(image_channels, image_size)

    def encode(self, images: Tensor) -> Encoded:
        """uint8 (B, C, H, W) -> scaled latents on the device. UserError for shapes that it cannot take."""
        self.latent_shape(images.shape[1], images.shape[2])
        return self.scaled(raw_latents(self.codec, self.description, images.to(self.device)))

    def scaled(self, raw: Raw) -> Encoded:
        """z = (z_raw - shift) * scale."""
        mean, std = raw
        return Encoded((mean - self.description.shift) * self.scale, None if std is None else std * self.scale)

    def decode(self, latents: Tensor, rounding: str = "nearest") -> Tensor:
        """Scaled (B, L, h, w) -> uint8 (B, C, H, W) on the CPU, by a rule of `harness.models.pixels.ROUNDING`.

        NotFiniteError for latents, or pictures, with values that are NaN or infinite.
        """
        with torch.no_grad(), _full_precision():
            return to_uint8(self.pictures(latents), rounding).cpu()

    def pictures(self, latents: Tensor) -> Tensor:
        """Scaled (B, L, h, w) -> (B, C, H, W) on the device, in -1..1 but for overshoot."""
        low, high = self.description.input_range
        decoded = self.codec.decode(latents.to(self.device, torch.float32) / self.scale + self.description.shift)
        return decoded if (low, high) == (-1.0, 1.0) else (decoded - low) * (2 / (high - low)) - 1


class DecoderModule(nn.Module):
    """An autoencoder's `pictures` as a module: what is exported for a phone."""

    def __init__(self, autoencoder: Autoencoder) -> None:
        super().__init__()
        self.pictures, self.network = autoencoder.pictures, autoencoder.codec.network

    def forward(self, latents: Tensor) -> Tensor:  # (B, L, h, w) -> (B, C, H, W)
        return self.pictures(latents)


def load_autoencoder(config: AutoencoderConfig, device: torch.device, *, scale: Scale | None = None) -> Autoencoder:
    """`scale` is the measured one, where the files say none."""
    description = describe(config)
    return Autoencoder(description, load_codec(config, device), scale, device)


def load_matching(config: AutoencoderConfig, device: torch.device, identity: Mapping[str, Any]) -> Autoencoder:
    """The configured one, if it is the one that made the latents with this `identity`; else a UserError."""
    description = describe(config)
    check_matching(description, identity)
    scale = tuple(float(each) for each in identity["scale"]) if description.scale is None else None
    return Autoencoder(description, load_codec(config, device), scale, device)


def check_matching(description: Description, identity: Mapping[str, Any]) -> None:
    """UserError where latents with this `identity` are another autoencoder's."""
    if not (apart := differing(description, identity)):
        return
    if description.decoder:
        raise UserError(
            f"this decoder was trained for another autoencoder's latents than these: {apart}; name one that was "
            "trained for theirs, autoencoder.record=KEY, or give the settings that they were prepared with"
        )
    raise UserError(
        f"autoencoder={description.kind} did not make these latents: {apart}; give the settings that they were "
        "prepared with, autoencoder=..."
    )


def load_codec(config: AutoencoderConfig, device: torch.device) -> Codec:
    """The networks in float32, in evaluation mode, without gradients; decoding in tiles where these are configured.
    Errors: as `describe`."""
    if isinstance(config, PixelsAutoencoder):
        return Codec(lambda images: (images, None), lambda latents: latents)
    codec = _load_codec(config, device)
    return (
        codec if config.tiles is None else replace(codec, decode=partial(decode_in_tiles, codec.decode, config.tiles))
    )


def _load_codec(config: EncodingAutoencoder, device: torch.device) -> Codec:
    if isinstance(config, TrainedAutoencoder):
        return trained_autoencoder.load(config, device, describe, load_codec)
    if isinstance(config, TinyAutoencoder) and config.encoder is not None and config.decoder is not None:
        return tiny_autoencoder.load(config.encoder, config.decoder, device)
    return diffusers_autoencoder.load(config, device)


def measured_scale(raws: Iterable[Raw], description: Description) -> Scale:
    """1 / the standard deviation of each channel of raw latents, batch by batch as `raw_latents` has them, in float64.

    Where the encoder is a distribution, of what is drawn from it: var E[z] + E[var z].
    """
    count, sums = 0, torch.zeros(2, description.channels or 1, dtype=torch.float64)  # of z and of z^2, by channel
    for mean, std in raws:
        squares = mean.double().square() if std is None else mean.double().square() + std.double().square()
        count += mean.shape[0] * mean.shape[2] * mean.shape[3]
        sums += torch.stack([mean.double().sum((0, 2, 3)), squares.sum((0, 2, 3))]).cpu()
    variance = (sums[1] - sums[0].square() / count) / (count - 1)  # L
    if not bool((variance > 0).all()):
        raise UserError(
            f"a channel of the {description.kind} autoencoder's latents is the same everywhere, so that no scale can "
            "be measured; give other pictures, or another autoencoder"
        )
    return tuple(float(scale) for scale in variance.rsqrt())


def check_standard_deviation(latents: Tensor, description: Description) -> float:
    """Of scaled latents; UserError where it is not about 1: the scale is another autoencoder's."""
    deviation, (low, high) = float(latents.double().std()), STANDARD_DEVIATION
    if not low <= deviation <= high:
        given = f"its shift {description.shift} or scale {description.scale} is not that of these weights: mend"
        raise UserError(
            f"the scaled latents of autoencoder.kind={description.kind} have a standard deviation of {deviation:.3g}, "
            f"where {low} to {high} is right; "
            + (
                "its channels, each scaled to 1, have means far from 0, and its files name no shift; give another"
                if description.scale is None
                else f"{given} scaling_factor and shift_factor in its config.json, or leave the first out"
            )
        )
    return deviation


def raw_latents(codec: Codec, description: Description, images: Tensor) -> Raw:
    """Of uint8 pictures (B, C, H, W) on the codec's device: (B, L, h, w), not shifted and not scaled."""
    low, high = description.input_range
    pixels = to_model_range(images)
    if (low, high) != (-1.0, 1.0):
        pixels = low + (high - low) * images.to(torch.float32) / 255
    with torch.no_grad(), _full_precision():
        return codec.encode(pixels)


def _full_precision() -> Any:
    """No TF32, which NVIDIA's GPUs would choose: latents and pictures are to be those of any other device."""
    return torch.backends.cudnn.flags(enabled=torch.backends.cudnn.enabled, allow_tf32=False)


def files_in(config: AutoencoderConfig) -> list[Path]:
    """Of one in a folder: what it is made of, none of them a pickle. Errors: as `describe`."""
    if isinstance(config, PixelsAutoencoder) or config.name is None:
        return []
    folder = diffusers_autoencoder.folder_of(config)
    return [folder / "config.json", *sorted(folder.glob("*.safetensors"))]
