"""The UNet: SDXL's layout (Podell et al. 2023, arXiv 2307.01952), with every design choice a knob.

Modules are named by place: `down.1.block.0`, `down.1.attention.0`, `down.1.sampler`, `middle.block.0`, `up.2.block.1`.
`up.2` stands at the same resolution as `down.2`.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.architecture.kinds import builder_of
from harness.architecture.unet import UNetConfig
from harness.models.condition import Condition
from harness.models.embeddings import TimeEmbedding
from harness.models.stage import DownStage, Middle, UpStage
from harness.records.errors import UserError


class UNet(nn.Module):
    """Predicts the velocity of latents x at a time, given the text.

    Weights start as PyTorch's layers do, except that the output convolution is zero (Dhariwal and Nichol 2021):
    an untrained network predicts 0.
    """

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        first = config.stages[0].channels
        places = range(len(config.stages))
        self.config = config
        self.time_embedding = TimeEmbedding(config.time_features, config.time_width)
        self.conv_in = nn.Conv2d(config.latent_channels, first, 3, padding=1)
        self.down = nn.ModuleList(DownStage(config, index) for index in places)
        self.middle = Middle(config, config.middle) if config.middle is not None else None
        self.up = nn.ModuleList(UpStage(config, index) for index in places)
        self.norm_out = builder_of(config.norm)(config.norm, first)
        self.conv_out = nn.Conv2d(first, config.latent_channels, 3, padding=1)
        for parameter in self.conv_out.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor, time: Tensor, context: Tensor, context_mask: Tensor | None = None) -> Tensor:
        """x (B, C, H, W), time (B,) in [0, 1], context (B, T, D), context_mask (B, T) bool -> (B, C, H, W).

        The mask is True where there is a token; every row needs one. H and W are multiples of `config.downsampling`.
        """
        self._check(x)
        mask = None if context_mask is None else context_mask[:, None, None, :]
        condition = Condition(self.time_embedding(time), context, mask)
        x = self.conv_in(x).contiguous(memory_format=torch.channels_last)
        skips = []
        for stage in self.down:
            x, made = stage(x, condition)
            skips.append(made)
        if self.middle is not None:
            x = self.middle(x, condition)
        for stage, made in zip(reversed(self.up), reversed(skips), strict=True):
            x = stage(x, made, condition)
        out: Tensor = self.conv_out(F.silu(self.norm_out(x)))
        return out

    def _check(self, x: Tensor) -> None:
        factor, (height, width) = self.config.downsampling, x.shape[-2:]
        if height % factor or width % factor:
            raise UserError(
                f"{len(self.config.stages)} stages halve the size {len(self.config.stages) - 1} times, "
                f"so height and width are multiples of {factor}: they are {height} x {width}"
            )
