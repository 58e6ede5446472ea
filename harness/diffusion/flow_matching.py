"""Flow matching on the straight path between data and noise.

    x_t = (1 - t) x_0 + t e,    e ~ N(0, I),    t in [0, 1]: 0 is data, 1 is noise        (path)
    v   = dx_t / dt = e - x_0                                                           (target)
    L   = E || v_theta(x_t, t, context) - v ||^2,    t = sigmoid(z), z ~ N(0, 1)          (loss)

Lipman et al. 2023 (arXiv 2210.02747) with the path of Liu et al. 2023 (arXiv 2209.03003) and the logit-normal(0, 1)
times of Esser et al. 2024 (arXiv 2403.03206, eq. 19). SnapGen (arXiv 2412.09619) trains on this objective.

B batch, C channels, H W size, T tokens, D context width.
"""

from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Prompts(Protocol):
    """Class prompts as a text encoder's output."""

    def to(self, device: torch.device, /) -> "Prompts":
        """The same prompts on a device."""
        ...

    def context(self, labels: Tensor, drop: Tensor) -> tuple[Tensor, Tensor | None]:
        """(B,) class numbers, there or on the CPU, (B,) where True is the empty prompt -> (B, T, D), and a (B, T) mask
        or None."""
        ...


def interpolate(x0: Tensor, noise: Tensor, time: Tensor) -> Tensor:
    """x_t = (1 - t) x_0 + t e, for (B, ...) images and (B,) times."""
    t = time.view(-1, *[1] * (x0.ndim - 1))
    return (1 - t) * x0 + t * noise


def velocity(x0: Tensor, noise: Tensor) -> Tensor:
    """v = dx_t / dt = e - x_0: the same at every t, because the path is straight."""
    return noise - x0


def logit_normal_times(normal: Tensor) -> Tensor:
    """Times of a training batch, t = sigmoid(z) of z ~ N(0, 1): the middle of the path is drawn most often. A solver's
    times are `SamplingConfig.solver_times`."""
    return torch.sigmoid(normal)


def flow_matching_loss(
    model: nn.Module, x0: Tensor, noise: Tensor, time: Tensor, context: Tensor, context_mask: Tensor | None
) -> Tensor:
    """The mean squared error of the model's velocity, over all elements: a scalar in the precision of x0."""
    predicted = model(interpolate(x0, noise, time), time, context, context_mask)  # (B, C, H, W)
    return F.mse_loss(predicted.to(x0.dtype), velocity(x0, noise))
