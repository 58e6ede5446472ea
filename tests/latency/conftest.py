"""A small network with every input of a denoiser, part of it not in training mode."""

import pytest
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.dropout = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Dropout(0.5)
        self.zero = nn.Linear(5, 4)
        nn.init.zeros_(self.zero.weight)
        nn.init.zeros_(self.zero.bias)

    def forward(self, x, time, context):
        return self.dropout(self.norm(self.conv(x))) + (time + self.zero(context).mean(1))[:, :, None, None]


@pytest.fixture
def net() -> nn.Module:
    module = Net().train()
    module.dropout.eval()
    return module


@pytest.fixture
def inputs() -> tuple[torch.Tensor, ...]:
    return torch.randn(1, 4, 8, 8), torch.rand(1), torch.randn(1, 3, 5)
