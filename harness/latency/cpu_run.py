"""Timing a module on this machine's CPU: eager PyTorch, no gradients."""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from harness.latency.cpu import CpuLatency
from harness.measure.evaluating import evaluating
from harness.records.errors import UserError
from harness.records.quantity import Measured


def measure(settings: CpuLatency, module: nn.Module, inputs: Sequence[Any]) -> Measured:
    """The median time of `module(*inputs)` in ms, with quartiles. The first input is the latent (B, C, H, W)."""
    module, arguments = on_cpu(module, inputs)
    with evaluating(module), _threads(settings.threads), torch.inference_mode():
        return settings.timed(lambda: module(*arguments), {"torch": torch.__version__, **shape_of(arguments[0])})


def on_cpu(module: nn.Module, inputs: Sequence[Any]) -> tuple[nn.Module, list[Any]]:
    """The module itself where it already is on the CPU, else a copy; UserError for one on the meta device."""
    devices = {x.device.type for x in (*module.parameters(), *module.buffers())}
    if "meta" in devices:
        raise UserError("latency needs a module with real parameters, not one on the meta device; build it on the CPU")
    arguments = [x.to("cpu") if isinstance(x, Tensor) else x for x in inputs]
    return (module if devices <= {"cpu"} else copy.deepcopy(module).to("cpu")), arguments


def shape_of(latent: Tensor) -> dict[str, Any]:
    """The conditions that the first input (B, C, H, W) sets."""
    return {"dtype": str(latent.dtype).removeprefix("torch."), "latent": latent.shape[-1], "batch": latent.shape[0]}


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
