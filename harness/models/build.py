"""From a configuration to a module, and inputs that fit it."""

import torch
from torch import Tensor, nn

from harness.architecture.config import ArchitectureConfig
from harness.models.stage import Stage
from harness.models.unet import UNet


def build(config: ArchitectureConfig, *, checkpointing: bool = False) -> nn.Module:
    """The network of `config`; under `with torch.device("meta")` without memory.

    Called with x (B, C, H, W), time (B,) in [0, 1], context (B, T, D), context_mask (B, T) bool or None.
    checkpointing: recompute every block in the backward pass instead of keeping what it made.
    """
    module = UNet(config)
    for part in module.modules():
        if isinstance(part, Stage):
            part.checkpointing = checkpointing
    return module


def example_inputs(
    config: ArchitectureConfig, *, latent: int, batch: int = 1, device: str | torch.device = "cpu"
) -> tuple[Tensor, ...]:
    """Random x, time and context for a square latent of that size; no mask. The same every time on the CPU."""
    on_meta = torch.device(device).type == "meta"
    generator = None if on_meta else torch.Generator(device).manual_seed(0)
    x = torch.randn(batch, config.latent_channels, latent, latent, generator=generator, device=device)
    time = torch.rand(batch, generator=generator, device=device)
    context = torch.randn(batch, config.context_length, config.context_width, generator=generator, device=device)
    return x, time, context
