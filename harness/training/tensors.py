"""A module's tensors by name: as they are, whole on the CPU, and put back."""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from harness.records.errors import UserError
from harness.training.parallel import whole


def live_tensors(module: nn.Module, prefix: str = "") -> dict[str, Tensor]:
    """Parameters and saved buffers themselves, which may be shards; a tensor with two names appears once."""
    return {prefix + name: tensor.detach() for name, tensor in _tensors(module)}


def named_tensors(module: nn.Module, prefix: str = "") -> dict[str, Tensor]:
    """The same whole, on the CPU, row by row. Where they are shards all processes must ask."""
    return {name: whole(tensor).cpu().contiguous() for name, tensor in live_tensors(module, prefix).items()}


@torch.no_grad()
def restore(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Copy what `named_tensors` named into a module that is whole. UserError on another set of names or shapes."""
    targets = dict(_tensors(module))
    if {name: t.shape for name, t in targets.items()} != {name: t.shape for name, t in tensors.items()}:
        odd = sorted(targets.keys() ^ tensors.keys()) or [n for n in targets if targets[n].shape != tensors[n].shape]
        raise UserError(f"these weights are of another architecture: '{odd[0]}' differs; rebuild the one they are of")
    for name, tensor in targets.items():
        tensor.copy_(tensors[name])


def _tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    tensor_ids: set[int] = set()
    for name, tensor in module.state_dict(keep_vars=True).items():
        if id(tensor) not in tensor_ids:
            tensor_ids.add(id(tensor))
            yield name, tensor
