"""Latency on this machine's CPU, measured: one process, `threads` threads, eager PyTorch, no gradients."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from harness.latency.timing import Timing
from harness.records.provenance import processor_name, versions


@dataclass(frozen=True, kw_only=True, slots=True)
class CpuLatency(Timing):
    name: ClassVar[str] = "cpu"
    quantity: ClassVar[str] = "latency_cpu"
    needs_weights: ClassVar[bool] = True
    of_deployment: ClassVar[bool] = False
    measured_by: ClassVar[str] = "harness.latency.cpu_run:measure"

    def instrument(self) -> Mapping[str, Any]:
        return {"processor": processor_name(), "versions": versions(("torch",))}
