"""Latency on this machine's CPU, measured: one process, `threads` threads, eager PyTorch, no gradients."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from harness.latency.timing import Timing
from harness.measure.evaluating import evaluating
from harness.records.errors import UserError
from harness.records.provenance import processor_name, versions
from harness.records.quantity import Measured


@dataclass(frozen=True, kw_only=True, slots=True)
class CpuLatency(Timing):
    name: ClassVar[str] = "cpu"
    quantity: ClassVar[str] = "latency_cpu"
    needs_weights: ClassVar[bool] = True

    def instrument(self) -> Mapping[str, Any]:
        return {"processor": processor_name(), "versions": versions(("torch",))}

    def measure(self, module: nn.Module, inputs: Sequence[Any]) -> Measured:
        """The median time of `module(*inputs)` in ms, with quartiles. The first input is the latent (B, C, H, W)."""
        module, arguments = on_cpu(module, inputs)
        with evaluating(module), _threads(self.threads), torch.inference_mode():
            return self.timed(lambda: module(*arguments), {"torch": torch.__version__, **shape_of(arguments[0])})


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
