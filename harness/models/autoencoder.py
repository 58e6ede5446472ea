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

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from harness.architecture.autoencoder import OwnAutoencoderConfig
from harness.architecture.config import ArchitectureConfig
from harness.architecture.decoder import DecoderConfig
from harness.models.autoencoder_config import (
    AutoencoderConfig,
    EncodingAutoencoder,
    KlAutoencoder,
    PixelsAutoencoder,
    Tiles,
    TinyAutoencoder,
    TrainedAutoencoder,
)
from harness.models.pixels import to_model_range, to_uint8
from harness.models.tiling import decode_in_tiles
from harness.models.tiny_autoencoder import DOWNSAMPLING, latent_channels, load_pair
from harness.models.weights import Training, hub_folder, read_head, read_weights
from harness.records.errors import UserError, first_line
from harness.records.plain import to_plain
from harness.records.store import known_sha256

FILE_PATTERNS = ("*.json", "*.safetensors")  # never a pickle
STANDARD_DEVIATION = (0.5, 2.0)
"""Of scaled latents, all channels together. Flow matching's path and its times are for data of about 1."""

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


def describe(config: AutoencoderConfig) -> Description:
    """What the configured autoencoder is, from its files. UserError for files that are missing or of another kind."""
    if isinstance(config, PixelsAutoencoder):
        return Description(kind=config.kind)
    return replace(_described(config), tiles=config.tiles)


def _described(config: EncodingAutoencoder) -> Description:
    if isinstance(config, TinyAutoencoder) and config.encoder is not None and config.decoder is not None:
        pair = (config.encoder, config.decoder)
        return Description(
            kind=config.kind, weights=_hash(pair), channels=latent_channels(config.encoder), downsampling=DOWNSAMPLING,
            input_range=(0.0, 1.0), scale=None,
        )  # fmt: skip
    if isinstance(config, TrainedAutoencoder):
        architecture, training, weights = _own(config)
        if isinstance(architecture, DecoderConfig):
            return replace(_encoding(config, training), decoder=weights[:16])
        return Description(
            kind=config.kind, weights=weights[:16], channels=architecture.latent_channels,
            downsampling=architecture.downsampling, scale=None, image_channels=architecture.input_channels,
        )  # fmt: skip
    folder = _folder(config)
    plain = _configuration(folder, CLASSES[config.kind])
    levels = plain.get("encoder_block_out_channels" if config.kind == "tiny" else "block_out_channels", ())
    scale, shift = plain.get("scaling_factor"), plain.get("shift_factor")
    return Description(
        kind=config.kind,
        weights=_hash(sorted(folder.glob("*.safetensors")), *_structure(plain)),
        channels=int(plain["latent_channels"]),
        downsampling=2 ** (len(levels) - 1),
        encoding=config.encoding if isinstance(config, KlAutoencoder) else "mean",
        shift=0.0 if shift is None else float(shift),
        scale=None if scale is None else float(scale),
    )


def _own(config: TrainedAutoencoder) -> "tuple[OwnAutoencoderConfig | DecoderConfig, Training | None, str]":
    """What the file's head says: the architecture, its training, and the sum of its tensors."""
    if config.file is None:
        raise UserError("autoencoder=trained needs one that was trained here; give autoencoder.record=KEY")
    architecture, training, tensors_sha256 = read_head(config.file)
    if not isinstance(architecture, OwnAutoencoderConfig | DecoderConfig):
        raise UserError(
            f"autoencoder.record={_name(config)} is of a {type(architecture).__name__}, and of no autoencoder; name a "
            "training of task=autoencode, or of task=decode"
        )
    if config.encoded_by is not None and isinstance(architecture, OwnAutoencoderConfig):
        raise UserError(
            f"autoencoder.encoded_by is of a decoder alone, and autoencoder.record={_name(config)} has an encoder; "
            "leave it out"
        )
    return architecture, training, tensors_sha256


def _name(config: TrainedAutoencoder) -> str:
    return config.record or str(config.file)


def _encoding(config: TrainedAutoencoder, training: Training | None) -> Description:
    """Of the autoencoder whose encoder a decoder was trained against. UserError where its files are not here, or
    others are."""
    if training is None or training.autoencoder is None:
        raise UserError(
            f"autoencoder.record={_name(config)} does not say whose latents it decodes; name a training of task=decode"
        )
    if config.encoded_by is None:
        raise UserError(
            f"nothing says where the files of the autoencoder are that the decoder autoencoder.record={_name(config)} "
            f"was trained against, kind {training.autoencoder['kind']}; give autoencoder.encoded_by={{kind: "
            f"{training.autoencoder['kind']}, ...}}"
        )
    description = describe(config.encoded_by)
    if differing := _differing(description, training.autoencoder):
        raise UserError(
            f"autoencoder.encoded_by is not the autoencoder that the decoder autoencoder.record={_name(config)} was "
            f"trained against: {differing}; give that one's files"
        )
    return description


CLASSES = {"kl": "AutoencoderKL", "tiny": "AutoencoderTiny"}
"""Kind -> the class of diffusers' whose configuration it reads."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """Scaled latents, float32."""

    mean: Tensor  # (B, L, h, w)
    std: Tensor | None  # the same, where the encoder is a distribution


Raw: TypeAlias = tuple[Tensor, Tensor | None]


@dataclass(frozen=True, slots=True)
class Codec:
    """The two networks of a kind, each as a function of float32 tensors on their device, in the input range."""

    encode: Callable[[Tensor], Raw]  # (B, C, H, W) -> raw mean, and raw standard deviation or None
    decode: Callable[[Tensor], Tensor]  # raw (B, L, h, w) -> (B, C, H, W)
    network: nn.Module | None = None  # whose weights `decode` runs on; None: on none
    encoder: nn.Module | None = None  # the same of `encode`


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
    if not (differing := _differing(description, identity)):
        return
    if description.decoder:
        raise UserError(
            f"this decoder was trained for another autoencoder's latents than these: {differing}; name one that was "
            "trained for theirs, autoencoder.record=KEY, or give the settings that they were prepared with"
        )
    raise UserError(
        f"autoencoder={description.kind} did not make these latents: {differing}; give the settings that they were "
        "prepared with, autoencoder=..."
    )


def _differing(description: Description, identity: Mapping[str, Any]) -> str:
    """In what the autoencoder is not the one with this `identity`; "" where it is."""
    own = description.identity()
    measured = own["scale"] is None and isinstance(identity.get("scale"), list | tuple)
    differing = [name for name in own if identity.get(name) != own[name] and not (name == "scale" and measured)]
    return "; ".join(f"its {name} is {own[name]}, theirs {identity.get(name)}" for name in differing[:3])


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
    if isinstance(config, TinyAutoencoder) and config.encoder is not None and config.decoder is not None:
        encoder, decoder = load_pair(config.encoder, config.decoder)
        encoder.to(device)
        return Codec(lambda images: (encoder(images), None), decoder.to(device), decoder, encoder)
    if isinstance(config, TrainedAutoencoder):
        architecture, training, _ = _own(config)
        assert config.file is not None
        if isinstance(architecture, DecoderConfig):
            return _decoder_codec(config, architecture, training, device)
        own = read_weights(config.file, architecture).network().to(device).eval().requires_grad_(False)
        return Codec(lambda images: (own.encoder(images), None), own.decoder, own.decoder, own.encoder)  # type: ignore[operator, arg-type]
    network = _diffusers_network(config, device)

    def decode(raw: Tensor) -> Tensor:
        picture: Tensor = network.decode(raw, return_dict=False)[0]
        return picture

    if isinstance(config, TinyAutoencoder):
        return Codec(lambda images: (network.encode(images).latents, None), decode, network, network.encoder)
    return Codec(_distribution(network, config.encoding), decode, network, network)


def _decoder_codec(
    config: TrainedAutoencoder, architecture: ArchitectureConfig, training: Training | None, device: torch.device
) -> Codec:
    """The frozen encoder; and the decoder, which takes latents shifted and scaled as those that it was trained on."""
    description = _encoding(config, training)
    assert training is not None
    assert training.autoencoder is not None
    assert config.encoded_by is not None
    assert config.file is not None
    network = read_weights(config.file, architecture).network().to(device).eval().requires_grad_(False)
    scale = torch.tensor(training.autoencoder["scale"], dtype=torch.float32, device=device).view(1, -1, 1, 1)
    shift, (low, high) = float(training.autoencoder["shift"]), description.input_range

    def decode(raw: Tensor) -> Tensor:
        pictures: Tensor = network((raw - shift) * scale)  # in -1..1
        return pictures if (low, high) == (-1.0, 1.0) else low + (pictures + 1) * ((high - low) / 2)

    theirs = load_codec(config.encoded_by, device)
    return Codec(theirs.encode, decode, network, theirs.encoder)


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


def _distribution(network: Any, encoding: str) -> Callable[[Tensor], Raw]:
    def encode(images: Tensor) -> Raw:
        distribution = network.encode(images).latent_dist
        return distribution.mean, distribution.std if encoding == "sampled" else None

    return encode


def files_in(config: AutoencoderConfig) -> list[Path]:
    """Of one in a folder: what it is made of, none of them a pickle. Errors: as `describe`."""
    if isinstance(config, PixelsAutoencoder) or config.name is None:
        return []
    folder = _folder(config)
    return [folder / "config.json", *sorted(folder.glob("*.safetensors"))]


def _folder(config: KlAutoencoder | TinyAutoencoder) -> Path:
    if config.name is None:
        files = "; or autoencoder.encoder=FILE and autoencoder.decoder=FILE" if config.kind == "tiny" else ""
        raise UserError(f"autoencoder={config.kind} needs its weights; give autoencoder.name=FOLDER or hub name{files}")
    inside = getattr(config, "subfolder", None) or ""
    patterns = [f"{inside}/{pattern}" if inside else pattern for pattern in FILE_PATTERNS]
    root = hub_folder(
        config.name, patterns, what="autoencoder", setting="autoencoder.name",
        complete=lambda folder: bool(list((folder / inside).glob("*.safetensors"))),
    )  # fmt: skip
    folder = root / inside
    if not (folder / "config.json").is_file() or not list(folder.glob("*.safetensors")):
        raise UserError(
            f"{folder} has no config.json and *.safetensors; give the folder of an {CLASSES[config.kind]} as "
            "autoencoder.name, and of a pipeline's the autoencoder.subfolder=vae"
        )
    return folder


def _configuration(folder: Path, expected: str) -> Mapping[str, Any]:
    path = folder / "config.json"
    try:
        plain = json.loads(path.read_text())
        found, _ = plain["_class_name"], plain["latent_channels"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is no configuration of diffusers' autoencoders ({error}); fetch it again") from error
    if found != expected:
        kinds = ", ".join(f"autoencoder={kind} reads {name}" for kind, name in CLASSES.items())
        raise UserError(f"{path} holds an {found}, and {kinds}; give another autoencoder.name")
    assert isinstance(plain, dict)
    return plain


def _structure(plain: Mapping[str, Any]) -> list[str]:
    """What of a configuration decides the networks; versions and paths do not."""
    ignored = ("scaling_factor", "shift_factor")  # of the identity on their own
    kept = {name: value for name, value in plain.items() if not name.startswith("_") and name not in ignored}
    return [json.dumps(kept, sort_keys=True)]


def _hash(files: Sequence[Path], *more: str) -> str:
    lines = [*map(known_sha256, files), *more]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def _diffusers_network(config: KlAutoencoder | TinyAutoencoder, device: torch.device) -> Any:
    """An nn.Module; diffusers is imported when it is first needed: it takes seconds."""
    import diffusers

    folder = _folder(config)
    _configuration(folder, CLASSES[config.kind])
    diffusers.utils.logging.disable_progress_bar()
    try:
        network, loaded = getattr(diffusers, CLASSES[config.kind]).from_pretrained(
            folder, local_files_only=True, use_safetensors=True, low_cpu_mem_usage=False, torch_dtype=torch.float32,
            output_loading_info=True,
        )  # fmt: skip
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        reason = first_line(error)
        raise UserError(f"{folder} does not load as an {CLASSES[config.kind]}: {reason}") from error
    _check_whole(folder, network, loaded)
    return network.to(device).eval().requires_grad_(False)


def _check_whole(folder: Path, network: nn.Module, loaded: Mapping[str, Any]) -> None:
    """Refuse weights that are not the configuration's: diffusers draws at random what a file lacks."""
    lacking = [*loaded["missing_keys"], *loaded["unexpected_keys"], *(key for key, *_ in loaded["mismatched_keys"])]
    if lacking:
        raise UserError(
            f"the weights in {folder} are not those of its config.json: {len(lacking)} are missing, left over or of "
            f"another shape, such as '{sorted(lacking)[0]}'; fetch the autoencoder again"
        )
    broken = next((name for name, tensor in network.state_dict().items() if not torch.isfinite(tensor).all()), None)
    if broken is not None:
        raise UserError(f"the weights in {folder} are not finite: '{broken}' has values that are no number")
