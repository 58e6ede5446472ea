"""One training in several processes. Each has a share of every batch; after every step all have the same weights.

    loss of a batch  = mean over its samples = sum over processes of  (own samples / batch) x (mean over them)
    its gradient     = the same sum, which DDP and FSDP form as a mean over processes: each multiplies its own by their
                       number

Whoever starts the processes makes the process group; without one there is a single process, which imports nothing of
all this.
"""

import contextlib
import socket
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from harness.models.unet import Blocks
from harness.records.errors import UserError
from harness.records.plain import Plain, canonical_json
from harness.training.parallel_config import DdpParallel, NoParallel, ParallelConfig

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class World:
    """The processes of a training, and which of them this is."""

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """The one that writes files and tells progress."""
        return self.rank == 0

    def share(self, count: int) -> range:
        """Those of `count` samples that are this process's."""
        return range(self.rank * count // self.size, (self.rank + 1) * count // self.size)

    def largest_share(self, count: int) -> int:
        return -(-count // self.size)

    def mean(self, values: Tensor) -> Tensor:
        """Over processes, in each of them."""
        if self.size == 1:
            return values
        total = values.clone()
        dist.all_reduce(total)
        return total / self.size

    def mean_gradients(self, module: nn.Module) -> None:
        """Of a module that every process has whole, in place: what DDP does for the one that it is around."""
        if self.size > 1:
            for parameter in module.parameters():
                if parameter.grad is not None:
                    dist.all_reduce(parameter.grad)
                    parameter.grad /= self.size

    def any(self, flag: bool) -> bool:
        """Whether it is true in one of them; all must ask."""
        if self.size == 1:
            return flag
        flags = torch.tensor(int(flag))  # on the CPU, where nothing waits for a device
        dist.all_reduce(flags, dist.ReduceOp.MAX)
        return bool(flags)

    def all(self, value: T) -> list[T]:
        """Of each process its value; all must ask."""
        values: list[Any] = [value] * self.size
        if self.size > 1:
            dist.all_gather_object(values, value)
        return values

    def first(self, value: T) -> T:
        """The first process's value, in each of them."""
        return self.all(value)[0]

    def check_alike(self, what: str, value: Plain) -> None:
        """UserError where a process has another value than the first."""
        values = self.all(canonical_json(value))
        other = next((rank for rank, each in enumerate(values) if each != values[0]), None)
        if other is not None:
            raise UserError(
                f"process {other} of {self.size} has another {what} than process 0; start all of them on the same "
                "code and the same files"
            )


def backend_of(device: torch.device) -> str:
    """By which processes that compute on such a device talk. Errors: UserError where this PyTorch has it not."""
    available = {"gloo": dist.is_available() and dist.is_gloo_available()}
    if device.type == "cuda":
        available["nccl"] = dist.is_available() and dist.is_nccl_available()
    elif device.type != "cpu":
        raise UserError(
            f"several processes share a training on CPUs or CUDA, not on '{device.type}'; train in one process"
        )
    if missing := [name for name, here in available.items() if not here]:
        raise UserError(
            f"several processes talk by {' and '.join(available)}, and this PyTorch has no {missing[0]}; install one "
            "that has, or train in one process"
        )
    return "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"


@contextlib.contextmanager
def process_group(
    rank: int, size: int, where: tuple[str, int], device: torch.device, listener: socket.socket | None = None
) -> Iterator[None]:
    """Inside, this is one of `size` processes that meet at that host and port. `listener`: the first one's, at that
    port, which belongs to the group from here on. Errors: ConnectionError where another one cannot be reached any more.
    """
    if size == 1:
        yield
        return
    try:
        backend = backend_of(device)
        store = dist.TCPStore(  # type: ignore[attr-defined]
            *where,
            world_size=size,
            is_master=rank == 0,
            timeout=dist.default_pg_timeout,  # others may still be reading their data
            wait_for_workers=False,
            master_listen_fd=None if listener is None else listener.detach(),
        )
        dist.init_process_group(backend, store=store, rank=rank, world_size=size)
        try:
            yield
        except BaseException:  # NCCL's end may wait for one that is gone, and the error would not be said
            with contextlib.suppress(RuntimeError):
                dist.distributed_c10d._abort_process_group()
            raise
        dist.destroy_process_group()
    except RuntimeError as error:
        if isinstance(error, dist.DistError) or "gloo" in str(error):
            raise ConnectionError(" ".join(str(error).split())) from error
        raise


def current_world() -> World:
    if not (dist.is_available() and dist.is_initialized()):
        return World()
    return World(dist.get_rank(), dist.get_world_size())


def check_world(world: World, config: ParallelConfig, batch_size: int) -> None:
    if world.size > 1 and isinstance(config, NoParallel):
        raise UserError(f"parallel=none trains in one process, and there are {world.size}; give parallel=ddp or fsdp")
    if world.size > batch_size:
        raise UserError(
            f"{world.size} processes share a batch of recipe.batch_size={batch_size} images, which leaves some without "
            f"any; use at most {batch_size}"
        )


def check_independent(module: nn.Module, what: str) -> None:
    """Refuse what makes a sample's result depend on the others it is computed with, where batches are cut."""
    for name, part in module.named_modules():
        draws = isinstance(part, nn.Dropout) and part.p > 0
        if draws or isinstance(part, nn.modules.batchnorm._BatchNorm):
            raise UserError(
                f"{what} cuts batches, and {type(part).__name__} at '{name}' depends on how they are cut; train whole "
                "batches in one process, or take another layer"
            )


def parallelize(module: nn.Module, config: ParallelConfig, world: World, *, is_trained: bool = True) -> nn.Module:
    """What is called in the module's place: itself, where there is one process."""
    return module if world.size == 1 else wrapped(module, config, is_trained=is_trained)


def wrapped(module: nn.Module, config: ParallelConfig, *, is_trained: bool = True) -> nn.Module:
    """By DDP or FSDP. Its parameters stay its own; under FSDP they become shards, which one that is not trained is
    again after every call."""
    if isinstance(config, DdpParallel):
        from torch.nn.parallel import DistributedDataParallel

        return DistributedDataParallel(module, forward_sync_buffers=False)
    from torch.distributed.fsdp import fully_shard

    for blocks in [part for part in module.modules() if isinstance(part, Blocks)]:
        for block in (*blocks.block, *blocks.attention):
            fully_shard(block)
    fully_shard(module, reshard_after_forward=None if is_trained else True)  # one that is trained: after backward
    return module


def gradients_kept(called: nn.Module, kept: bool) -> AbstractContextManager[None]:
    """Inside, if `kept`, gradients are added up in this process; a backward pass outside sums them over all."""
    fsdp_sync: Any = getattr(called, "set_requires_gradient_sync", None)
    if fsdp_sync is not None:
        fsdp_sync(not kept)
    no_sync: Any = getattr(called, "no_sync", contextlib.nullcontext)  # DDP's
    own: AbstractContextManager[None] = no_sync() if kept else contextlib.nullcontext()
    return own


def at_rest(called: nn.Module) -> None:
    """Its parameters are shards again under FSDP, which keeps the outermost ones whole until a backward pass: after
    passes that none follows."""
    reshard: Any = getattr(called, "reshard", lambda: None)
    reshard()


def whole(tensor: Tensor) -> Tensor:
    """Of a shard all of it, in every process; all must ask."""
    return tensor.full_tensor() if is_shard(tensor) else tensor  # type: ignore[attr-defined]


def local(tensor: Tensor) -> Tensor:
    """Of a shard what this process has of it."""
    return tensor.to_local() if is_shard(tensor) else tensor  # type: ignore[attr-defined]


def is_shard(tensor: Tensor) -> bool:
    if current_world().size == 1:
        return False
    from torch.distributed.tensor import DTensor

    return isinstance(tensor, DTensor)
