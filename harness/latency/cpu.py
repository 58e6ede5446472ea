"""Latency on this machine's CPU, measured: eager PyTorch, no gradients; and the way of timing that all backends on this
processor share: warm up until stable, then the median of many single runs, with quartiles.

Other work on the machine disturbs it: the load average before the measurement is among its conditions, and the
interquartile range shows what it did.
"""

import copy
import gc
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median, quantiles
from typing import TYPE_CHECKING, Any, ClassVar

from harness.records.errors import UserError
from harness.records.provenance import processor_name, versions
from harness.records.quantity import Measured

if TYPE_CHECKING:
    from torch import Tensor, nn

WINDOW = 5  # runs compared with the runs before them, while warming up
STABLE = 0.05  # the medians of two windows may differ by this part
FEWEST = 5  # runs below which a quartile means nothing


@dataclass(frozen=True, kw_only=True, slots=True)
class Timing:
    """The settings and the way of timing that backends on this machine's processor share."""

    threads: int = 1
    iterations: int = 30  # timed runs
    warm_up: int = 50  # the most untimed runs; they end once two windows of 5 agree within 5%
    seconds: float = 20.0  # timed runs end after this time, but not before 5 of them

    name: ClassVar[str]

    def __post_init__(self) -> None:
        where = f"latency.{self.name}"
        if self.threads < 1:
            raise UserError(f"{where}.threads must be at least 1, not {self.threads}")
        if self.iterations < FEWEST:
            raise UserError(f"{where}.iterations must be at least {FEWEST}, not {self.iterations}")
        if self.warm_up < 1:
            raise UserError(f"{where}.warm_up must be at least 1, not {self.warm_up}")
        if self.seconds <= 0:
            raise UserError(f"{where}.seconds must be above 0, not {self.seconds}")

    def check(self) -> None:
        """Every machine has a processor."""

    def timed(self, run: Callable[[], Any], conditions: Mapping[str, Any]) -> Measured:
        """The median time of `run()` in ms; `conditions` are joined to those of the machine and of the timing."""
        load = os.getloadavg()[0]
        with _no_collection():
            warm_up, stable = self._warm_up(run)
            times = self._times(run)
        low, _, high = quantiles(times, n=4, method="inclusive")
        return Measured(
            value=median(times),
            unit="ms",
            low=low,
            high=high,
            spread=f"interquartile range of {len(times)} runs",
            conditions={
                "device": "this CPU",
                "processor": processor_name(),
                "threads": self.threads,
                "iterations": len(times),
                "warm_up": warm_up,
                "warm_up_stable": stable,
                "load_average_before": round(load, 2),
                **conditions,
            },
        )

    def _warm_up(self, run: Callable[[], Any]) -> tuple[int, bool]:
        """How many runs it took, and whether the last windows agreed."""
        times: list[float] = []
        started = time.perf_counter()
        while len(times) < self.warm_up and (len(times) < 2 or time.perf_counter() - started < self.seconds):
            times.append(_milliseconds(run))
            if len(times) >= 2 * WINDOW:
                before, last = median(times[-2 * WINDOW : -WINDOW]), median(times[-WINDOW:])
                if abs(last - before) <= STABLE * before:
                    return len(times), True
        return len(times), False

    def _times(self, run: Callable[[], Any]) -> list[float]:
        times: list[float] = []
        started = time.perf_counter()
        while len(times) < self.iterations and (len(times) < FEWEST or time.perf_counter() - started < self.seconds):
            times.append(_milliseconds(run))
        return times


@dataclass(frozen=True, kw_only=True, slots=True)
class CpuLatency(Timing):
    name: ClassVar[str] = "cpu"
    quantity: ClassVar[str] = "latency_cpu"
    needs_weights: ClassVar[bool] = True
    of_deployment: ClassVar[bool] = False

    def instrument(self) -> Mapping[str, Any]:
        return {"processor": processor_name(), "versions": versions(("torch",))}

    def measure(self, module: "nn.Module", inputs: Sequence[Any]) -> Measured:
        """The median time of `module(*inputs)` in ms, with quartiles. The first input is the latent (B, C, H, W)."""
        import torch

        from harness.measure.evaluating import evaluating

        module, arguments = on_cpu(module, inputs)
        with evaluating(module), _threads(self.threads), torch.inference_mode():
            return self.timed(lambda: module(*arguments), {"torch": torch.__version__, **shape_of(arguments[0])})


def on_cpu(module: "nn.Module", inputs: Sequence[Any]) -> tuple["nn.Module", list[Any]]:
    """The module itself where it already is on the CPU, else a copy; UserError for one on the meta device."""
    from torch import Tensor

    devices = {x.device.type for x in (*module.parameters(), *module.buffers())}
    if "meta" in devices:
        raise UserError("latency needs a module with real parameters, not one on the meta device; build it on the CPU")
    arguments = [x.to("cpu") if isinstance(x, Tensor) else x for x in inputs]
    return (module if devices <= {"cpu"} else copy.deepcopy(module).to("cpu")), arguments


def shape_of(latent: "Tensor") -> dict[str, Any]:
    """The conditions that the first input (B, C, H, W) sets."""
    return {"dtype": str(latent.dtype).removeprefix("torch."), "latent": latent.shape[-1], "batch": latent.shape[0]}


@contextmanager
def _threads(count: int) -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _milliseconds(run: Callable[[], Any]) -> float:
    started = time.perf_counter_ns()
    run()
    return (time.perf_counter_ns() - started) / 1e6


@contextmanager
def _no_collection() -> Iterator[None]:
    """Python's garbage collector would fall into some of the runs."""
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
