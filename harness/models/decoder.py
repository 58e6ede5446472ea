"""Decoders: Stable Diffusion's layout (Rombach et al. 2022, arXiv 2112.10752), with what makes it tiny as knobs.

Modules are named by place: `middle.block.0`, `middle.attention`, `up.0.block.0`, `up.0.upsample`. `up.0` stands at
the latent's resolution.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.architecture.decoder import EDGE_KERNEL, DecoderConfig
from harness.architecture.kinds import builder_of
from harness.architecture.plan import DecoderBlockPlan, DecoderStagePlan, decoder_plan

NORM_EPS = 1e-6


class Decoder(nn.Module):
    """Latents (B, C, H, W) -> images (B, 3, H * 2^(stages - 1), W * 2^(stages - 1))."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        plan, first, last = decoder_plan(config), config.stages[0].channels, config.stages[-1].channels
        self.conv_in = nn.Conv2d(config.latent_channels, first, EDGE_KERNEL, padding=EDGE_KERNEL // 2)
        self.middle = DecoderMiddleBlocks(config, plan.middle) if plan.middle else nn.Identity()
        self.up = nn.ModuleList(DecoderUpBlocks(config, stage) for stage in plan.up)
        self.norm_out = _norm(config, config.norm_out, last)
        self.conv_out = nn.Conv2d(last, config.image_channels, EDGE_KERNEL, padding=EDGE_KERNEL // 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.middle(self.conv_in(x).contiguous(memory_format=torch.channels_last))
        for stage in self.up:
            x = stage(x)
        out: Tensor = self.conv_out(F.silu(self.norm_out(x)))
        return out


class DecoderMiddleBlocks(nn.Module):
    """Blocks, and behind the first the attention if there is one."""

    def __init__(self, config: DecoderConfig, blocks: Sequence[DecoderBlockPlan]) -> None:
        super().__init__()
        self.block = _blocks(config, blocks)
        attends = config.middle is not None and config.middle.attention
        self.attention = DecoderAttention(config) if attends else None

    def forward(self, x: Tensor) -> Tensor:
        for index, block in enumerate(self.block):
            x = block(x)
            if index == 0 and self.attention is not None:
                x = self.attention(x)
        return x


class DecoderUpBlocks(nn.Module):
    """Blocks, then the upsampling layer, if there is a stage behind it."""

    def __init__(self, config: DecoderConfig, stage: DecoderStagePlan) -> None:
        super().__init__()
        self.block = _blocks(config, stage.blocks)
        self.upsample: nn.Module = nn.Identity()
        if stage.upsample_to is not None:
            convolution = config.convolution.for_resampling("up")
            upsample = builder_of(config.upsample)
            self.upsample = upsample(config.upsample, convolution, stage.channels, stage.upsample_to)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.block:
            x = block(x)
        out: Tensor = self.upsample(x)
        return out


class DecoderBlock(nn.Module):
    """norm, SiLU, conv, norm, SiLU, conv, + shortcut; where it does not normalise, without the norms."""

    def __init__(self, config: DecoderConfig, c_in: int, c_out: int, *, normed: bool) -> None:
        super().__init__()
        hidden, conv = int(config.convolution.hidden_width(c_in, c_out)), builder_of(config.convolution)
        self.norm1 = _norm(config, normed, c_in)
        self.conv1 = conv(config.convolution, c_in, hidden)
        self.norm2 = _norm(config, normed, hidden)
        self.conv2 = conv(config.convolution, hidden, c_out)
        self.shortcut = nn.Conv2d(c_in, c_out, 1) if c_in != c_out else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:  # (B, c_in, H, W) -> (B, c_out, H, W)
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        out: Tensor = self.shortcut(x) + h
        return out


class DecoderAttention(nn.Module):
    """norm, self-attention of one head over all positions, + shortcut. (B, C, H, W) -> (B, C, H, W)"""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        width = config.stages[0].channels
        self.norm = _norm(config, True, width)
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.norm(x).flatten(2).transpose(1, 2)[:, None]  # (B, 1, H W, C)
        h = F.scaled_dot_product_attention(self.query(tokens), self.key(tokens), self.value(tokens))
        out: Tensor = self.out(h[:, 0])  # (B, H W, C)
        return x + out.transpose(1, 2).reshape(x.shape)


def _blocks(config: DecoderConfig, blocks: Sequence[DecoderBlockPlan]) -> nn.ModuleList:
    return nn.ModuleList(DecoderBlock(config, block.c_in, block.c_out, normed=block.normed) for block in blocks)


def _norm(config: DecoderConfig, is_normed: bool, channels: int) -> nn.Module:
    module: nn.Module = builder_of(config.norm)(config.norm, channels, NORM_EPS) if is_normed else nn.Identity()
    return module
