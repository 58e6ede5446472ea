"""The kind `trained`: an autoencoder of ours, encoder and decoder; or a decoder of ours alone, with the frozen encoder
that it was trained against, whatever the kind of that: latents are then its encoder's in all but how they are decoded.

`describe` and `load` are those of `harness.models.autoencoder`, for the autoencoder whose encoder it is.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import TypeAlias

import torch
from torch import Tensor

from harness.architecture.autoencoder import OwnAutoencoderConfig
from harness.architecture.config import ArchitectureConfig
from harness.architecture.decoder import DecoderConfig
from harness.models.autoencoder_config import EncodingAutoencoder, TrainedAutoencoder
from harness.models.codec import Codec, Description, differing
from harness.models.weights import Training, read_head, read_weights
from harness.records.errors import UserError

Describe: TypeAlias = Callable[[EncodingAutoencoder], Description]
Load: TypeAlias = Callable[[EncodingAutoencoder, torch.device], Codec]


def described(config: TrainedAutoencoder, describe: Describe) -> Description:
    architecture, training, weights = _own(config)
    if isinstance(architecture, DecoderConfig):
        return replace(_encoding(config, training, describe), decoder=weights[:16])
    return Description(
        kind=config.kind, weights=weights[:16], channels=architecture.latent_channels,
        downsampling=architecture.downsampling, scale=None, image_channels=architecture.input_channels,
    )  # fmt: skip


def load(config: TrainedAutoencoder, device: torch.device, describe: Describe, load: Load) -> Codec:
    architecture, training, _ = _own(config)
    assert config.file is not None
    if isinstance(architecture, DecoderConfig):
        return _decoder_codec(config, architecture, _encoding(config, training, describe), training, device, load)
    own = read_weights(config.file, architecture).network().to(device).eval().requires_grad_(False)
    return Codec(lambda images: (own.encoder(images), None), own.decoder, own.decoder, own.encoder)  # type: ignore[operator, arg-type]


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


def _encoding(config: TrainedAutoencoder, training: Training | None, describe: Describe) -> Description:
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
    if apart := differing(description, training.autoencoder):
        raise UserError(
            f"autoencoder.encoded_by is not the autoencoder that the decoder autoencoder.record={_name(config)} was "
            f"trained against: {apart}; give that one's files"
        )
    return description


def _decoder_codec(
    config: TrainedAutoencoder,
    architecture: ArchitectureConfig,
    description: Description,
    training: Training | None,
    device: torch.device,
    load: Load,
) -> Codec:
    """The frozen encoder; and the decoder, which takes latents shifted and scaled as those that it was trained on."""
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

    theirs = load(config.encoded_by, device)
    return Codec(theirs.encode, decode, network, theirs.encoder)
