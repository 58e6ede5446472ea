"""The parts that a UNet is made of: stages of blocks with what changes the size between them."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from harness.architecture.kinds import builder_of
from harness.architecture.knobs import Block, Convolution, ResidualBlock
from harness.architecture.rules import block_widths
from harness.architecture.unet import UNetConfig
from harness.models.condition import Condition


class Stage(nn.Module):
    """`block.I`, and where the kind has it the transformer `attention.I` behind it."""

    def __init__(self, config: UNetConfig, spec: Block, place: str) -> None:
        super().__init__()
        widths = [(c_in, c_out) for path, _, c_in, c_out in block_widths(config) if path.startswith(f"{place}.")]
        behind = [spec.attention] * len(widths) if spec.attention is not None else []
        self.block = nn.ModuleList(builder_of(spec)(spec, config, c_in, c_out) for c_in, c_out in widths)
        self.attention = nn.ModuleList(
            builder_of(found)(found, config, c_out, c_out) for found, (_, c_out) in zip(behind, widths, strict=False)
        )
        self.checkpointing = False

    def step(self, index: int, x: Tensor, condition: Condition) -> Tensor:
        """Block `index` and the transformer behind it. (B, c_in, H, W) -> (B, c_out, H, W)"""
        x = self._run(self.block[index], x, condition)
        return self._run(self.attention[index], x, condition) if index < len(self.attention) else x

    def _run(self, module: nn.Module, x: Tensor, condition: Condition) -> Tensor:
        again = self.checkpointing and self.training and torch.is_grad_enabled()
        out: Tensor = checkpoint(module, x, condition, use_reentrant=False) if again else module(x, condition)
        return out


class DownStage(Stage):
    """Blocks, then the sampler that halves the size, if there is a stage below."""

    def __init__(self, config: UNetConfig, index: int) -> None:
        stage, lowest = config.stages[index], index == len(config.stages) - 1
        super().__init__(config, stage.block, f"down.{index}")
        spec = config.convolution.sampler("down")
        self.sampler = nn.Identity() if lowest else builder_of(spec)(spec, stage.channels, stage.channels, 2)

    def forward(self, x: Tensor, condition: Condition) -> tuple[Tensor, list[Tensor]]:
        """What the stage below begins with, and this stage's skips, oldest first: its input, every block's output."""
        skips = [x]
        for index in range(len(self.block)):
            skips.append(self.step(index, skips[-1], condition))
        return self.sampler(skips[-1]), skips


class Middle(Stage):
    """One block; if a transformer stands behind it, a residual block behind that."""

    def __init__(self, config: UNetConfig, spec: Block) -> None:
        super().__init__(config, spec, "middle")
        if spec.attention is not None:
            last, width = ResidualBlock(), config.stages[-1].channels
            self.block.append(builder_of(last)(last, config, width, width))

    def forward(self, x: Tensor, condition: Condition) -> Tensor:
        for index in range(len(self.block)):
            x = self.step(index, x, condition)
        return x


class UpStage(Stage):
    """Blocks, each with the newest skip that is left; then the sampler that doubles the size, if a stage is above."""

    def __init__(self, config: UNetConfig, index: int) -> None:
        stage = config.stages[index]
        super().__init__(config, stage.block, f"up.{index}")
        self.sampler = Upsample(config.convolution, stage.channels, stage.channels) if index > 0 else nn.Identity()

    def forward(self, x: Tensor, skips: list[Tensor], condition: Condition) -> Tensor:
        for index in range(len(self.block)):
            if index < len(skips):
                x = torch.cat([x, skips[-1 - index]], dim=1)
            x = self.step(index, x, condition)
        out: Tensor = self.sampler(x)
        return out


class Upsample(nn.Module):
    """Every pixel becomes four, then a convolution. (B, c_in, H, W) -> (B, c_out, 2H, 2W)"""

    def __init__(self, convolution: Convolution, c_in: int, c_out: int) -> None:
        super().__init__()
        spec = convolution.sampler("up")
        self.conv = builder_of(spec)(spec, c_in, c_out)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return out
