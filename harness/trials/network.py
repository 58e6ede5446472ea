"""From an architecture to a network with its first weights, and from a network to images and labels."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from harness.architecture.config import ArchitectureConfig
from harness.data.images import ImageData
from harness.data.prompts import PromptTable
from harness.diffusion.config import SamplingConfig
from harness.diffusion.labels import sample_labels
from harness.diffusion.sampling import sample
from harness.models.build import build
from harness.training.randomness import stream_seed


def initialised(
    architecture: ArchitectureConfig, seed: int, *, checkpointing: bool = False, depthwise_gain: float = 1.0
) -> nn.Module:
    """The network with first weights that depend on the seed and `recipe.depthwise_gain` alone; `checkpointing` as
    `build` has it."""
    with torch.random.fork_rng():
        torch.manual_seed(stream_seed(seed, "weights", 0))
        network = build(architecture, checkpointing=checkpointing)
    with torch.no_grad():
        for part in network.modules():
            if isinstance(part, nn.Conv2d) and part.groups > 1:
                part.weight.mul_(depthwise_gain)
    return network


def sampled(
    network: nn.Module,
    data: ImageData,
    prompts: PromptTable,
    config: SamplingConfig,
    count: int,
    *,
    on_progress: Callable[[int, int], None] | None = None,
) -> tuple[Tensor, Tensor]:
    """uint8 images (count, C, H, W) and the labels (count,) they were asked to show; noise as everywhere."""
    labels = sample_labels(count, data.class_sizes, config)
    shape = (data.channels, data.size, data.size)
    return sample(network, prompts, labels, config, shape=shape, on_progress=on_progress), labels


def drawn_with(config: SamplingConfig) -> dict[str, Any]:
    """Conditions of a score: samples with the same ones start from the same noise and are asked for the same classes,
    whatever the network, so that scores of two of them can be compared sample by sample."""
    return {"sampling_seed": config.seed, "labels": config.labels}
