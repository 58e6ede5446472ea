"""The feed-forward part of a transformer layer (Shazeer 2020, arXiv 2002.05202)."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F


class Gated(nn.Module):
    """(x V) * act(x W), then linear. V and W are one layer."""

    def __init__(self, width: int, hidden: int, activation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.activation = activation
        self.expand = nn.Linear(width, 2 * hidden)
        self.contract = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.expand(x).chunk(2, dim=-1)
        out: Tensor = self.contract(value * self.activation(gate))
        return out


class Plain(nn.Module):
    """act(x V), then linear."""

    def __init__(self, width: int, hidden: int, activation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.activation = activation
        self.expand = nn.Linear(width, hidden)
        self.contract = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.contract(self.activation(self.expand(x)))
        return out


def geglu(spec: Any, width: int) -> nn.Module:
    return Gated(width, int(spec.ratio * width), F.gelu)


def swiglu(spec: Any, width: int) -> nn.Module:
    return Gated(width, int(spec.ratio * width), F.silu)


def gelu(spec: Any, width: int) -> nn.Module:
    return Plain(width, int(spec.ratio * width), F.gelu)
