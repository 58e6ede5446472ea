"""From a configuration to a module, and inputs that fit it."""

import torch
from torch import Tensor, nn

from harness.architecture.config import ArchitectureConfig, Denoiser
from harness.architecture.kinds import builder_of
from harness.models.transformer import Layers
from harness.models.unet import Blocks
from harness.records.errors import UserError


def build(config: ArchitectureConfig, *, checkpointing: bool = False) -> nn.Module:
    """The network of `config`; under `with torch.device("meta")` without memory.

    A denoiser is called with x (B, C, H, W), time (B,) in [0, 1], context (B, T, D), context_mask (B, T) bool or None;
    a decoder with x alone, an autoencoder of ours with pictures.
    checkpointing: recompute every block in the backward pass instead of keeping what it made; only the UNet can.
    """
    module: nn.Module = builder_of(config)(config)
    stages = [part for part in module.modules() if isinstance(part, Blocks)]
    if checkpointing and not stages:
        raise UserError(f"only the UNet can recompute its blocks, not {type(config).__name__}; build it without")
    for stage in stages:
        stage.checkpointing = checkpointing
    return module


def blocks_of(network: nn.Module) -> list[nn.Module]:
    """What it repeats, in order: residual blocks and layers of transformers of a UNet's stages, the members of another
    network's lists."""
    blocks: list[nn.Module] = []
    for part in network.children():
        for each in part if isinstance(part, nn.ModuleList) else [part]:
            if isinstance(each, Blocks | Layers):
                blocks += blocks_of(each)
            elif each is not part:
                blocks.append(each)
    return blocks


def example_inputs(
    config: ArchitectureConfig, *, latent: int, batch: int = 1, device: str | torch.device = "cpu"
) -> tuple[Tensor, ...]:
    """Random x for a square latent of that size, and a denoiser's time and context; no mask. The same every time on
    the CPU."""
    on_meta = torch.device(device).type == "meta"
    generator = None if on_meta else torch.Generator(device).manual_seed(0)
    x = torch.randn(batch, config.input_channels, latent, latent, generator=generator, device=device)
    if not isinstance(config, Denoiser):
        return (x,)
    time = torch.rand(batch, generator=generator, device=device)
    context = torch.randn(batch, config.context_length, config.context_width, generator=generator, device=device)
    return x, time, context
