"""How a training is cut over processes: the same training however it is cut, so no part of its identity. No torch."""

from dataclasses import dataclass
from typing import Literal, TypeAlias


@dataclass(frozen=True, kw_only=True, slots=True)
class NoParallel:
    """One process."""

    kind: Literal["none"] = "none"


@dataclass(frozen=True, kw_only=True, slots=True)
class DdpParallel:
    """Every process has all weights, and a share of every batch: PyTorch's DistributedDataParallel."""

    kind: Literal["ddp"] = "ddp"


@dataclass(frozen=True, kw_only=True, slots=True)
class FsdpParallel:
    """Every process has a share of the weights, their averages and their moments too: PyTorch's `fully_shard`."""

    kind: Literal["fsdp"] = "fsdp"


ParallelConfig: TypeAlias = NoParallel | DdpParallel | FsdpParallel
