"""Random weights in place of untrained ones, for whoever holds an exported graph against its module.

Networks begin with zeros where a branch shall begin as nothing; behind a zero a wrong graph agrees with the right one.
"""

import copy

import torch
from torch import nn


def filled_copy(module: nn.Module) -> nn.Module:
    """A copy with the weights of `fill_weights`, the same every time."""
    filled = copy.deepcopy(module)
    fill_weights(filled)
    return filled


def fill_weights(module: nn.Module, seed: int = 0) -> None:
    """Random values in every parameter, none of them zero, so that no part of the network is hidden behind a zero.

    A kernel or a matrix is normal with a variance of 1 / fan-in, which keeps its input's scale; a bias is normal with
    a deviation of 0.1, and so is what else is a vector (a norm's weight), around 1.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            fan_in = parameter[0].numel() if parameter.dim() > 1 else 1
            noise = torch.randn(parameter.shape, generator=generator)
            if fan_in > 1:
                parameter.copy_(noise * fan_in**-0.5)
            else:
                parameter.copy_(0.1 * noise + (0 if name.endswith("bias") else 1))
