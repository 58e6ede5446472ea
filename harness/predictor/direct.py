"""Single operators that others measured on the engine by programs of their own, without Core ML: never fitted to.

They show what the physics leaves out: a rate that grows with a convolution's channels, a fixed cost below Core ML's.
`published_direct.csv` has them as printed. Where only a rate is printed, `printed_ms` is the work over it;
`dispatch_ms` is what such a program costs at least, as far as it is in the time, and stands in the place of Core ML's
fixed cost; `as_chip` is the chip of the same engine that is predicted for; `network` says what is built, or `out` why
nothing is.
"""

import csv
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.measure.cost import count
from harness.models.norms import RMSNorm
from harness.predictor.chips import CHIPS
from harness.predictor.fit import Fitted
from harness.predictor.operators import Operators, operators_of
from harness.predictor.published import FOLDER
from harness.predictor.rebuilt import Network
from harness.predictor.roofline import operators_ms, scale_of

TABLE = FOLDER / "published_direct.csv"


@dataclass(frozen=True, kw_only=True, slots=True)
class Direct:
    what: str  # with its shape
    chip: str
    as_chip: str
    printed: str
    printed_ms: float | None
    dispatch_ms: float
    network: str
    out: str  # why it is not rebuilt; empty where it is

    def predicted_ms(self, fitted: Fitted) -> float:
        """With the printed dispatch."""
        chip = CHIPS[self.as_chip]
        times = operators_ms(self.operators(), fitted.physics, chip, scale_of(fitted.scales, chip), 16)
        return float(times.sum()) + self.dispatch_ms

    def operators(self) -> Operators:
        kind, *sizes = self.network.split()
        with torch.device("meta"):
            module, inputs = BUILT[kind](*sizes)
            return operators_of(count(module.eval(), inputs).rows)


def published_direct() -> list[Direct]:
    with TABLE.open(newline="") as file:
        return [_row(cells) for cells in csv.DictReader(file)]


def _row(cells: Mapping[str, str]) -> Direct:
    return Direct(
        what=" ".join(filter(None, (cells["operator"], cells["shape"]))),
        printed_ms=float(cells["printed_ms"]) if cells["printed_ms"] else None,
        dispatch_ms=float(cells["dispatch_ms"] or 0),
        **{name: cells[name] for name in ("chip", "as_chip", "printed", "network", "out")},
    )


def convolutions(kernel: str, channels: str, side: str, batch: str, layers: str) -> Network:
    """side: `64`, or `2048x1`, height and width."""
    wide = int(channels)
    tall, _, across = side.partition("x")
    same = [nn.Conv2d(wide, wide, int(kernel), padding=int(kernel) // 2, bias=False) for _ in range(int(layers))]
    return nn.Sequential(*same), (torch.empty(int(batch), wide, int(tall), int(across or tall)),)


class AttentionBlock(nn.Module):
    """Projections of queries, keys, values and output around multi-head attention."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.projections = nn.ModuleList(nn.Linear(width, width) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:  # (1, S, width)
        q, k, v = (each(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for each in self.projections[:3])
        out: Tensor = self.projections[3](F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return out


def attention(tokens: str, width: str, heads: str) -> Network:
    return AttentionBlock(int(width), int(heads)), (torch.empty(1, int(tokens), int(width)),)


def layer_norm(tokens: str, width: str) -> Network:
    return nn.LayerNorm(int(width)), (torch.empty(1, int(tokens), int(width)),)


def rms_norm(tokens: str, width: str) -> Network:
    return RMSNorm(int(width)), (torch.empty(1, int(tokens), int(width)),)


def group_norm(channels: str, side: str) -> Network:
    return nn.GroupNorm(32, int(channels)), (torch.empty(1, int(channels), int(side), int(side)),)


def weights(millions: str) -> Network:
    """A matmul of one row with so many million weights."""
    wide = 1000
    return nn.Linear(wide, int(millions) * 10**6 // wide, bias=False), (torch.empty(1, wide),)


BUILT: Mapping[str, Callable[..., Network]] = {
    "conv": convolutions,
    "attention": attention,
    "layer_norm": layer_norm,
    "rms_norm": rms_norm,
    "group_norm": group_norm,
    "weights": weights,
}
"""By the first word of `network`: what is built of the others."""
