"""diffusers' UNet2DConditionModel in the configuration of one of ours: the same parameters, the same multiply-adds."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from harness.architecture.catalogue import architecture
from harness.architecture.config import ArchitectureConfig
from harness.architecture.edits import with_edits

# What diffusers cannot vary: the middle is as deep as the lowest stage, the time embedding 4 times the first width.
SIZES: dict[str, dict[str, Any]] = {
    "laptop": {"middle.depth": 2, "time_width": 128},
    "wide": {
        "middle.depth": 2,
        "latent_channels": 4,
        "stages.0.channels": 96,
        "stages.1.channels": 192,
        "stages.2.channels": 288,
        "stages.*.down_blocks": 2,
        "stages.*.up_blocks": 3,
        "head_dim": 32,
        "norm.groups": 32,
        "time_features": 96,
        "time_width": 384,
    },
}


def config_of(size: str) -> ArchitectureConfig:
    """`laptop`: the laptop ladder's base, 1.5 M parameters; `wide`: three times its widths, two blocks a stage."""
    return with_edits(architecture("laptop/thin_sdxl"), SIZES[size])


def thin_twin() -> ArchitectureConfig:
    """The ladder's base at full size, with what diffusers cannot vary set to what it has: 0.63 G parameters."""
    return with_edits(architecture("thin_sdxl"), {"middle.depth": 4, "time_width": 1024})


class Peer(nn.Module):
    """Called like ours: x (B, C, H, W), time (B,) in [0, 1], context (B, T, D); no mask."""

    def __init__(self, config: ArchitectureConfig) -> None:
        from diffusers import UNet2DConditionModel

        super().__init__()
        stages = config.stages
        has = [stage.block.attention is not None for stage in stages]
        self.unet = UNet2DConditionModel(
            in_channels=config.latent_channels,
            out_channels=config.latent_channels,
            block_out_channels=tuple(stage.channels for stage in stages),
            down_block_types=tuple("CrossAttnDownBlock2D" if attends else "DownBlock2D" for attends in has),
            up_block_types=tuple("CrossAttnUpBlock2D" if attends else "UpBlock2D" for attends in reversed(has)),
            layers_per_block=stages[0].down_blocks,
            transformer_layers_per_block=tuple(
                stage.block.attention.depth if stage.block.attention is not None else 1 for stage in stages
            ),
            attention_head_dim=tuple(stage.channels // config.head_dim for stage in stages),  # their number
            cross_attention_dim=config.context_width,
            norm_num_groups=config.norm.groups,
            use_linear_projection=True,
        )

    def forward(self, x: Tensor, time: Tensor, context: Tensor, _mask: None = None) -> Tensor:
        out: Tensor = self.unet(x, 1000 * time, context, return_dict=False)[0]
        return out


class Step:
    """One training step on a fixed batch: forward, mean squared error, backward, AdamW."""

    def __init__(self, net: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self.net, self.inputs = net.train(), inputs
        self.optimizer = torch.optim.AdamW(net.parameters(), lr=1e-4)

    def __call__(self) -> None:
        self.optimizer.zero_grad()
        nn.functional.mse_loss(self.net(*self.inputs), self.inputs[0]).backward()
        self.optimizer.step()


class Forward:
    """One evaluation of the network, as a sampler calls it."""

    def __init__(self, net: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self.net, self.inputs = net.eval(), inputs

    @torch.inference_mode()
    def __call__(self) -> None:
        self.net(*self.inputs)


RUNS: dict[str, Callable[[nn.Module, tuple[Tensor, ...]], Callable[[], None]]] = {
    "training step": Step,
    "forward": Forward,
}
