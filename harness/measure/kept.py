"""What a forward pass keeps for the backward pass, in bytes: counted on shapes, by running the network on fake tensors.

PyTorch says which tensors it keeps (`torch.autograd.graph.saved_tensors_hooks`); a storage counts once, and parameters
do not, which are there anyway. Under autocast the weights are kept a second time, cast. Of blocks that are computed
again in the backward pass only what goes into them is kept, and the largest block's own while it is computed again.

The kernels are those of the CPU: attention keeps no matrix of weights, as the fused kernels of GPUs do not. What a
kernel needs while it runs is not counted, nor what the allocator wastes.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from harness.architecture.config import ArchitectureConfig
from harness.models.build import build, example_inputs
from harness.models.unet import Blocks


def kept_for_backward(
    config: ArchitectureConfig, latent: int, batch: int, *, precision: torch.dtype, checkpointing: bool
) -> int:
    """Of a batch of latents of that height and width."""
    with FakeTensorMode():
        module = build(config).train()
        blocks = [part for part in module.modules() if isinstance(part, Blocks)] if checkpointing else []
        again = [each for part in blocks for each in (*part.block, *part.attention)]
        return kept_by(module, example_inputs(config, latent=latent, batch=batch), precision=precision, again=again)


def kept_through(module: nn.Module, inputs: Sequence[Tensor], *, precision: torch.dtype) -> int:
    """Of a frozen network and its inputs, both on the meta device, for a gradient to the first of these alone: at most,
    since of what comes behind the places that are asked for nothing is kept."""
    with FakeTensorMode():

        def on_cpu(tensor: Tensor) -> Tensor:
            return torch.empty(tensor.shape, dtype=precision if tensor.is_floating_point() else tensor.dtype)

        for part in module.modules():
            for name, parameter in part.named_parameters(recurse=False):
                part.register_parameter(name, nn.Parameter(on_cpu(parameter), requires_grad=False))
            for name, buffer in part.named_buffers(recurse=False):
                part.register_buffer(name, on_cpu(buffer), persistent=False)
        first, *others = (on_cpu(each) for each in inputs)
        return kept_by(module.eval(), [first.requires_grad_(), *others], precision=precision)


def kept_by(
    module: nn.Module, inputs: Sequence[Tensor], *, precision: torch.dtype, again: Sequence[nn.Module] = ()
) -> int:
    """`again`: its modules that are computed again in the backward pass."""
    kept = _Kept({_storage(each) for each in module.parameters()})
    casts: Any = nullcontext() if precision == torch.float32 else torch.autocast("cpu", precision)
    with kept.told_by(again), torch.autograd.graph.saved_tensors_hooks(kept.pack, lambda tensor: tensor), casts:
        out = module(*inputs)
        kept.alive.append(out.float().square().mean())  # the graph, whose storages have to stay apart
    return kept.total


class _Kept:
    def __init__(self, parameters: set[int]) -> None:
        self.alive: list[Tensor] = []
        self._parameters = parameters
        self._sizes: dict[int, int] = {}  # storage -> bytes
        self._block_of: dict[int, int] = {}  # storage -> the block that first kept it, of those computed again
        self._block: int | None = None

    def pack(self, tensor: Tensor) -> Tensor:
        self._note(tensor, self._block)
        return tensor

    def _note(self, tensor: Tensor, block: int | None) -> None:
        storage = _storage(tensor)
        if storage in self._parameters or storage in self._sizes:
            return
        self._sizes[storage] = tensor.untyped_storage().nbytes()
        if block is not None:
            self._block_of[storage] = block

    @contextmanager
    def told_by(self, again: Sequence[nn.Module]) -> Iterator[None]:
        """Inside, what these modules keep is known as theirs, and what goes into them as kept."""

        def begins(number: int, inputs: tuple[Any, ...]) -> None:
            self._block = number
            self.alive.append(inputs[0])
            self._note(inputs[0], None)

        def ends() -> None:
            self._block = None

        handles: list[Any] = []
        for number, module in enumerate(again):
            handles.append(module.register_forward_pre_hook(lambda _m, inputs, at=number: begins(at, inputs)))
            handles.append(module.register_forward_hook(lambda *_: ends()))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    @property
    def total(self) -> int:
        of_blocks: dict[int, int] = {}
        for storage, block in self._block_of.items():
            of_blocks[block] = of_blocks.get(block, 0) + self._sizes[storage]
        return sum(self._sizes.values()) - sum(of_blocks.values()) + max(of_blocks.values(), default=0)


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)
