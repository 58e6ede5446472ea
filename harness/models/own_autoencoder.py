"""An autoencoder of ours: the decoder of the catalogue's kind, and an encoder that mirrors it.

    first convolution, blocks, strided convolution, blocks, ..., middle blocks, last convolution, 3 tanh(z / 3)

The bound is TAESD's formula, there at the decoder's input, here at the encoder's end. It keeps latents near 0 without a
term for them in the loss; a scale measured on data makes their deviation 1.
"""

import torch
from torch import Tensor, nn

from harness.architecture.autoencoder import OwnAutoencoderConfig
from harness.architecture.decoder import DecoderConfig
from harness.architecture.kinds import builder_of
from harness.architecture.plan import decoder_plan
from harness.models.decoder import Decoder, DecoderBlock, DecoderMiddleBlocks

BOUND = 3.0


class OwnAutoencoder(nn.Module):
    """Pictures (B, C, H, W) -> themselves, as the decoder makes them of the encoder's latents."""

    def __init__(self, config: OwnAutoencoderConfig) -> None:
        super().__init__()
        self.encoder, self.decoder = Encoder(config.decoder), Decoder(config.decoder)

    def forward(self, pictures: Tensor) -> Tensor:
        decoded: Tensor = self.decoder(self.encoder(pictures))
        return decoded


class Encoder(nn.Module):
    """Pictures (B, C, H, W) -> latents (B, L, H / 2^(stages - 1), W / 2^(stages - 1)) in -3..3."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        plan, channels = decoder_plan(config), config.stages[-1].channels
        self.conv_in = nn.Conv2d(config.image_channels, channels, 3, padding=1)
        self.down = nn.ModuleList()
        conv = builder_of(config.convolution)
        for stage, after in zip(reversed(config.stages), [*reversed(config.stages[:-1]), None], strict=True):
            blocks = [
                DecoderBlock(config, stage.channels, stage.channels, normed=stage.norm) for _ in range(stage.blocks)
            ]
            down = [] if after is None else [conv(config.convolution, stage.channels, after.channels, 2)]
            self.down.append(nn.Sequential(*blocks, *down))
        self.middle = DecoderMiddleBlocks(config, plan.middle) if plan.middle else nn.Identity()
        self.conv_out = nn.Conv2d(config.stages[0].channels, config.latent_channels, 3, padding=1)

    def forward(self, pictures: Tensor) -> Tensor:
        x = self.conv_in(pictures).contiguous(memory_format=torch.channels_last)
        for stage in self.down:
            x = stage(x)
        out: Tensor = BOUND * torch.tanh(self.conv_out(self.middle(x)) / BOUND)
        return out
