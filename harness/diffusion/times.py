"""The times of the path from data (0) to noise (1): where training draws them, and where a solver's steps lie."""

import torch
from torch import Tensor

from harness.diffusion.config import SamplingConfig


def logit_normal_times(count: int, generator: torch.Generator) -> Tensor:
    """(count,) times of a training batch, t = sigmoid(z), z ~ N(0, 1): the middle of the path is drawn most often."""
    return torch.sigmoid(torch.randn(count, generator=generator))


def solver_times(config: SamplingConfig) -> tuple[float, ...]:
    """steps + 1 times, from 1 (noise) down to 0 (data)."""
    uniform = tuple(1 - index / config.steps for index in range(config.steps + 1))
    if config.times == "uniform":
        return uniform
    return tuple(config.shift * t / (1 - t + config.shift * t) for t in uniform)  # 1 and 0 to the bit
