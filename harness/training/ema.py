"""The exponential moving average of the weights (Polyak and Juditsky 1992): the model that is evaluated."""

import copy

import torch
from torch import Tensor, nn


class Ema:
    """A second copy of the model whose weights follow: ema <- d ema + (1 - d) weights."""

    def __init__(self, model: nn.Module) -> None:
        self.model = copy.deepcopy(model).requires_grad_(False).eval()
        self._averaged: list[Tensor] = list(self.model.parameters())
        self._buffers: list[Tensor] = list(self.model.buffers())

    @torch.no_grad()
    def update(self, model: nn.Module, decay: float) -> None:
        torch._foreach_lerp_(self._averaged, list(model.parameters()), 1 - decay)
        if self._buffers:
            torch._foreach_copy_(self._buffers, list(model.buffers()))
