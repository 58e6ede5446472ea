"""The times between data (0) and noise (1) that training draws; a solver's are `SamplingConfig.solver_times`."""

import torch
from torch import Tensor


def logit_normal_times(count: int, generator: torch.Generator) -> Tensor:
    """(count,) times of a training batch, t = sigmoid(z), z ~ N(0, 1): the middle of the path is drawn most often."""
    return torch.sigmoid(torch.randn(count, generator=generator))
