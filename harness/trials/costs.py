"""What an architecture costs by counting: known before anything is trained or allocated."""

import torch

from harness.architecture.config import ArchitectureConfig, Denoiser
from harness.measure import cost
from harness.measure.touched import Anatomy, anatomy
from harness.models.build import build, example_inputs
from harness.records.quantity import Counted


def cost_of(architecture: ArchitectureConfig, latent: int) -> cost.Cost:
    """Counted on the meta device: no memory, no arithmetic."""
    with torch.device("meta"):
        module = build(architecture)
    return cost.count(module, example_inputs(architecture, latent=latent, device="meta"))


def counted(architecture: ArchitectureConfig, latent: int) -> dict[str, Counted]:
    """params, macs, macs_without_attention, flops_fvcore, of one forward pass on one latent."""
    context_length = architecture.context_length if isinstance(architecture, Denoiser) else None
    return cost.quantities(cost_of(architecture, latent), latent=latent, context_length=context_length)


def anatomy_of(architecture: ArchitectureConfig, latent: int) -> Anatomy:
    """Its modules and what each of them computes, counted on the meta device."""
    with torch.device("meta"):
        module = build(architecture)
    return anatomy(module, example_inputs(architecture, latent=latent, device="meta"))
