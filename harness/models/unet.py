"""The UNet, built entry by entry from `harness.architecture.plan`: SDXL's layout (Podell et al. 2023, arXiv
2307.01952), with every design choice a knob.

Modules are named by place: `down.1.block.0`, `down.1.attention.0`, `down.1.downsample`, `middle.block.0`,
`up.2.block.1`, `up.2.upsample`. `up.2` stands at the same resolution as `down.2`.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from harness.architecture.kinds import builder_of
from harness.architecture.plan import BlockPlan, StagePlan, unet_plan
from harness.architecture.unet import UNetConfig
from harness.models.blocks import Condition
from harness.models.embeddings import TimeEmbedding
from harness.records.errors import UserError


class UNet(nn.Module):
    """Predicts the velocity of latents x at a time, given the text.

    Weights start as PyTorch's layers do, except that the output convolution is zero (Dhariwal and Nichol 2021):
    an untrained network predicts 0.
    """

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        plan, first = unet_plan(config), config.stages[0].channels
        self.config = config
        self.time_embedding = TimeEmbedding(config.time_features, config.time_width)
        self.conv_in = nn.Conv2d(config.latent_channels, first, 3, padding=1)
        self.down = nn.ModuleList(DownBlocks(config, stage) for stage in plan.down)
        self.middle = MiddleBlocks(config, plan.middle) if plan.middle else None
        self.up = nn.ModuleList(UpBlocks(config, stage) for stage in plan.up)
        self.norm_out = builder_of(config.norm)(config.norm, first)
        self.conv_out = nn.Conv2d(first, config.latent_channels, 3, padding=1)
        for parameter in self.conv_out.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor, time: Tensor, context: Tensor, context_mask: Tensor | None = None) -> Tensor:
        """x (B, C, H, W), time (B,) in [0, 1], context (B, T, D), context_mask (B, T) bool -> (B, C, H, W).

        The mask is True where there is a token; every row needs one. H and W are multiples of `config.latent_multiple`.
        """
        self._check(x)
        mask = None if context_mask is None else context_mask[:, None, None, :]
        condition = Condition(self.time_embedding(time), context, mask)
        x = self.conv_in(x).contiguous(memory_format=torch.channels_last)
        skips = []
        for stage in self.down:
            x, stage_skips = stage(x, condition)
            skips.append(stage_skips)
        if self.middle is not None:
            x = self.middle(x, condition)
        for stage, stage_skips in zip(reversed(self.up), reversed(skips), strict=True):
            x = stage(x, stage_skips, condition)
        out: Tensor = self.conv_out(F.silu(self.norm_out(x)))
        return out

    def _check(self, x: Tensor) -> None:
        factor, (height, width) = self.config.latent_multiple, x.shape[-2:]
        if height % factor or width % factor:
            sparse = ", and self-attention cuts maps into blocks" if factor > self.config.downsampling else ""
            raise UserError(
                f"{len(self.config.stages)} stages halve the size {len(self.config.stages) - 1} times{sparse}, "
                f"so height and width are multiples of {factor}: they are {height} x {width}"
            )


def _block(config: UNetConfig, plan: BlockPlan) -> nn.Module:
    module: nn.Module = builder_of(plan.kind)(plan.kind, config.at(plan.stage), plan.c_in, plan.c_out)
    return module


def _transformer(config: UNetConfig, plan: BlockPlan) -> nn.Module:
    """What stands behind the block."""
    kind = plan.transformer
    module: nn.Module = builder_of(kind)(kind, config.at(plan.stage), plan.c_out, plan.c_out)
    return module


class Blocks(nn.Module):
    """`block.I`, and where its kind has one the transformer `attention.I` behind it."""

    def __init__(self, config: UNetConfig, blocks: Sequence[BlockPlan]) -> None:
        super().__init__()
        behind = [one for one in blocks if one.transformer is not None]
        self.block = nn.ModuleList(_block(config, one) for one in blocks)
        self.attention = nn.ModuleList(_transformer(config, one) for one in behind)
        self.checkpointing = False

    def step(self, index: int, x: Tensor, condition: Condition) -> Tensor:
        """Block `index` and the transformer behind it. (B, c_in, H, W) -> (B, c_out, H, W)"""
        x = self._run(self.block[index], x, condition)
        return self._run(self.attention[index], x, condition) if index < len(self.attention) else x

    def _run(self, module: nn.Module, x: Tensor, condition: Condition) -> Tensor:
        again = self.checkpointing and self.training and torch.is_grad_enabled()
        out: Tensor = checkpoint(module, x, condition, use_reentrant=False) if again else module(x, condition)
        return out


class DownBlocks(Blocks):
    """One resolution on the way down: blocks, then the layer that halves the size, if there is a stage below."""

    def __init__(self, config: UNetConfig, stage: StagePlan) -> None:
        super().__init__(config, stage.blocks)
        conv, channels, downsample = stage.resample, stage.channels, builder_of(config.downsample)
        self.downsample = nn.Identity() if conv is None else downsample(config.downsample, conv, channels, channels)

    def forward(self, x: Tensor, condition: Condition) -> tuple[Tensor, list[Tensor]]:
        """What the stage below starts from, and this stage's skips, oldest first: its input, every block's output."""
        skips = [x]
        for index in range(len(self.block)):
            skips.append(self.step(index, skips[-1], condition))
        return self.downsample(skips[-1]), skips


class MiddleBlocks(Blocks):
    """At the lowest resolution, between the ways down and up."""

    def __init__(self, config: UNetConfig, blocks: Sequence[BlockPlan]) -> None:
        super().__init__(config, blocks[:1])  # first weights are drawn in the order of execution
        self.block.extend(_block(config, one) for one in blocks[1:])

    def forward(self, x: Tensor, condition: Condition) -> Tensor:
        for index in range(len(self.block)):
            x = self.step(index, x, condition)
        return x


class UpBlocks(Blocks):
    """One resolution on the way up: blocks, each with the newest skip that is left; then the layer that doubles the
    size, if a stage is above."""

    def __init__(self, config: UNetConfig, stage: StagePlan) -> None:
        super().__init__(config, stage.blocks)
        conv, channels, upsample = stage.resample, stage.channels, builder_of(config.upsample)
        self.upsample = nn.Identity() if conv is None else upsample(config.upsample, conv, channels, channels)

    def forward(self, x: Tensor, skips: list[Tensor], condition: Condition) -> Tensor:
        for index in range(len(self.block)):
            if index < len(skips):
                x = torch.cat([x, skips[-1 - index]], dim=1)
            x = self.step(index, x, condition)
        out: Tensor = self.upsample(x)
        return out
