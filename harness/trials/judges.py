"""What encodes and judges the pictures of a reconstruction, beside the network: a frozen encoder, VGG16, a PatchGAN.
Counted on shapes, as networks are. For one picture of a step, where E, V and P are a forward pass of each and F one of
the PatchGAN's first layer:

    encoder      E              where pictures are encoded when they are asked for
    VGG16        3 V            the picture that is made, there and back to it; the original, there
    PatchGAN     2 P            the network's loss: there, and back to the picture
                 6 P - 2 F      its own: both pictures, there and back to its weights

It judges from the first step on, also where it is heard and trained later
(`harness.training.objectives.reconstruction`).
"""

import functools
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from harness.architecture.autoencoder import OwnAutoencoderConfig
from harness.architecture.config import ArchitectureConfig
from harness.architecture.decoder import DecoderConfig
from harness.data.config import PreparedConfig
from harness.measure.cost import count
from harness.measure.kept import kept_by
from harness.models.autoencoder import load_codec
from harness.models.autoencoder_config import AutoencoderConfig
from harness.models.codec import Codec
from harness.models.patch_discriminator import PatchDiscriminator
from harness.models.perceptual import PerceptualDistance
from harness.models.perceptual_config import Lpips
from harness.training.reconstruction_config import PatchDiscriminatorConfig, ReconstructionConfig
from harness.trials.settings import Settings


@dataclass(frozen=True, kw_only=True, slots=True)
class Judges:
    channels: int
    side: int
    """Of a picture, or a patch, that is trained on."""
    encoder: AutoencoderConfig | None
    """Whose encoder runs in each step; None: none does."""
    is_perceptual: bool
    is_blurred: bool
    discriminator: PatchDiscriminatorConfig | None

    @property
    def step_macs(self) -> int:
        """Multiply-adds for one picture of a step, at the rate of forward passes."""
        return sum(self.macs_by_part.values())

    @property
    def macs_by_part(self) -> dict[str, int]:
        return _macs(self)

    @property
    def trained_params(self) -> int:
        """The discriminator's."""
        return 0 if (judge := _discriminator(self)) is None else _params(judge)

    @property
    def frozen_params(self) -> int:
        """Of encoder and VGG16."""
        frozen = [_perceptual(self), None if self.encoder is None else _encoder(self.encoder)]
        return sum(_params(each) for each in frozen if each is not None)

    def kept_in_network_s(self, together: int, precision: str) -> int:
        """Bytes of the pass of so many pictures through both judges, for a gradient to these."""
        return _kept(self, together, precision, trained=False)

    def kept_in_their_own(self, together: int, precision: str) -> int:
        """The same of the discriminator's own loss, of as many real pictures as made ones, for its weights."""
        return _kept(self, 2 * together, precision, trained=True)


def judges_of(architecture: ArchitectureConfig, latent: int, settings: Settings) -> Judges | None:
    """Of a network that is fitted to the data and trained on inputs of that height and width; None where nothing is
    made again."""
    objective = settings.objective
    if settings.count_only or not isinstance(objective, ReconstructionConfig):
        return None
    if isinstance(architecture, OwnAutoencoderConfig):
        channels, side, encoder = architecture.input_channels, latent, None
    elif isinstance(architecture, DecoderConfig):
        channels, side = architecture.image_channels, latent << (len(architecture.stages) - 1)
        encoder = None if isinstance(settings.data, PreparedConfig) else settings.autoencoder
    else:
        return None
    return Judges(
        channels=channels,
        side=side,
        encoder=encoder,
        is_perceptual=objective.perceptual_weight > 0,
        is_blurred=not isinstance(objective.perceptual, Lpips),
        discriminator=objective.discriminator if objective.adversarial_weight > 0 else None,
    )


class _Encoder(nn.Module):
    """A codec's `encode` as a module."""

    def __init__(self, codec: Codec) -> None:
        super().__init__()
        self.network, self.encode = codec.encoder, codec.encode

    def forward(self, pictures: Tensor) -> Tensor:
        return self.encode(pictures)[0]


@functools.lru_cache(maxsize=4)
def _encoder(config: AutoencoderConfig) -> nn.Module:
    return _Encoder(load_codec(config, torch.device("cpu")))


def _perceptual(judges: Judges) -> PerceptualDistance | None:
    with torch.device("meta"):
        return PerceptualDistance(is_blurred=judges.is_blurred) if judges.is_perceptual else None


def _discriminator(judges: Judges) -> PatchDiscriminator | None:
    if (config := judges.discriminator) is None:
        return None
    with torch.device("meta"):
        return PatchDiscriminator(judges.channels, config.width, config.layers)


@functools.lru_cache(maxsize=100)
def _macs(judges: Judges) -> dict[str, int]:
    picture = torch.empty(1, judges.channels, judges.side, judges.side, device="meta")
    macs = {}
    if judges.encoder is not None:
        macs["encoder"] = count(_encoder(judges.encoder), [picture]).macs
    if (perceptual := _perceptual(judges)) is not None:
        both = count(perceptual, [picture, picture]).macs
        macs["VGG16"] = 3 * both // 2
    if (judge := _discriminator(judges)) is not None:
        whole, first = (count(each, [picture]).macs for each in (judge, judge.layers[0]))
        macs["PatchGAN"] = 8 * whole - 2 * first
    return macs


@functools.lru_cache(maxsize=100)
def _kept(judges: Judges, together: int, precision: str, *, trained: bool) -> int:
    with FakeTensorMode():
        picture = torch.empty(together, judges.channels, judges.side, judges.side).requires_grad_(not trained)
        kept, dtype = 0, getattr(torch, precision)
        if (config := judges.discriminator) is not None:
            judge = PatchDiscriminator(judges.channels, config.width, config.layers).requires_grad_(trained)
            kept += kept_by(judge, [picture], precision=dtype)
        if judges.is_perceptual and not trained:
            perceptual = PerceptualDistance(is_blurred=judges.is_blurred).requires_grad_(False)
            kept += kept_by(perceptual, [picture, picture.detach()], precision=dtype)
    return kept


def _params(module: nn.Module) -> int:
    return sum(each.numel() for each in module.parameters())
