"""Parameters and multiply-adds of a network, by running it on the meta device: shapes flow, nothing is allocated.

The network itself runs, one operator at a time, under a dispatch mode that knows each operator's formula. Inference
mode keeps operators whole (`linear`, `group_norm`, `scaled_dot_product_attention`), which is the level that fvcore
reads from a trace. Repeated blocks run once: a block with the same structure and the same argument shapes as an
earlier one (`cost_structure`) is answered with that one's rows and an empty result of the same shape.

Three numbers, never a bare "FLOPs": `macs` (convolutions, linear layers, attention), `macs_without_attention`, and
`flops_fvcore`, fvcore's own total, which charges about 5 an element for norms and leaves fused attention out.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from harness.measure.cost_formulas import OpCost
from harness.measure.cost_run import Row, run_on_meta
from harness.records.quantity import Counted


@dataclass(frozen=True, kw_only=True, slots=True)
class Tally:
    """A sum over operators. `params` are 0 in a sum by operator: parameters belong to places."""

    params: int = 0
    macs: int = 0
    macs_without_attention: int = 0
    flops_fvcore: int = 0
    activations: int = 0
    """Numbers that operators write in one forward pass, views apart: what training keeps at most, times their bytes."""


@dataclass(frozen=True, slots=True)
class Cost:
    rows: tuple[Row, ...]  # in the order of execution
    params_by_place: Mapping[str, int]  # a place's own parameters, each counted once

    def __repr__(self) -> str:
        """The sums alone: a notebook's last line."""
        return (
            f"Cost(params={self.params:,}, macs={self.macs:,}, macs_without_attention={self.macs_without_attention:,}, "
            f"flops_fvcore={self.flops_fvcore:,}, activations={self.activations:,})"
        )

    @property
    def params(self) -> int:
        return sum(self.params_by_place.values())

    @property
    def macs(self) -> int:
        return sum(row.cost.macs for row in self.rows)

    @property
    def macs_without_attention(self) -> int:
        return sum(row.cost.macs for row in self.rows if not row.cost.attention)

    @property
    def flops_fvcore(self) -> int:
        return sum(row.cost.flops_fvcore for row in self.rows)

    @property
    def activations(self) -> int:
        return sum(row.cost.activations for row in self.rows)

    def by_place(self, depth: int | None = None) -> dict[str, Tally]:
        """Sums by module path, in the order of execution; paths cut to `depth` names, '' is the network itself."""
        names = ((row.place, row.cost, 0) for row in self.rows)
        params = ((place, OpCost(), count) for place, count in self.params_by_place.items())
        return _sums((_to_depth(place, depth), cost, count) for place, cost, count in (*names, *params))

    def by_operator(self) -> dict[str, Tally]:
        """Sums by operator: `conv2d`, `linear`, `scaled_dot_product_attention`, `group_norm`, ..."""
        return _sums((row.operator, row.cost, 0) for row in self.rows)


def count(module: nn.Module, inputs: Sequence[Any], *, memoise: bool = True) -> Cost:
    """What one forward pass of `module(*inputs)` costs.

    The module and the inputs may live on any device; tensors are replaced by meta ones for the run, and the module
    is left as it was. `memoise=False` runs every repeated block. An operator without a formula is a UserError.
    """
    return Cost(tuple(run_on_meta(module, inputs, memoise=memoise)), _own_params(module))


def quantities(cost: Cost, *, latent: int, context_length: int | None, batch: int = 1) -> dict[str, Counted]:
    """The counts as quantities, with the conditions that they depend on."""
    conditions = {"latent": latent, "context_length": context_length, "batch": batch}
    return {
        "params": Counted(value=cost.params, unit="parameters"),
        "macs": Counted(value=cost.macs, unit="multiply-adds", conditions=conditions),
        "macs_without_attention": Counted(
            value=cost.macs_without_attention, unit="multiply-adds", conditions=conditions
        ),
        "flops_fvcore": Counted(value=cost.flops_fvcore, unit="fvcore FLOPs", conditions=conditions),
    }


def _to_depth(place: str, depth: int | None) -> str:
    return place if depth is None else ".".join(place.split(".")[:depth])


def _sums(items: Iterable[tuple[str, OpCost, int]]) -> dict[str, Tally]:
    sums: dict[str, list[int]] = {}
    for name, cost, params in items:
        total = sums.setdefault(name, [0, 0, 0, 0, 0])
        total[0] += params
        total[1] += cost.macs
        total[2] += 0 if cost.attention else cost.macs
        total[3] += cost.flops_fvcore
        total[4] += cost.activations
    return {
        name: Tally(params=p, macs=m, macs_without_attention=w, flops_fvcore=f, activations=a)
        for name, (p, m, w, f, a) in sums.items()
    }


def _own_params(module: nn.Module) -> dict[str, int]:
    counts: dict[str, int] = {}
    for name, parameter in module.named_parameters():  # a shared parameter comes once
        place = name.rpartition(".")[0]
        counts[place] = counts.get(place, 0) + parameter.numel()
    return counts
