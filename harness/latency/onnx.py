"""Latency under ONNX Runtime on this machine's CPU, measured: the graph that torch.onnx exports, with fixed shapes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from harness.latency.timing import Timing
from harness.records.provenance import processor_name, versions

PACKAGES = ("torch", "onnxruntime", "onnxscript")


@dataclass(frozen=True, kw_only=True, slots=True)
class OnnxLatency(Timing):
    name: ClassVar[str] = "onnx"
    quantity: ClassVar[str] = "latency_onnx"
    needs_weights: ClassVar[bool] = True
    of_deployment: ClassVar[bool] = False
    measured_by: ClassVar[str] = "harness.latency.onnx_run:measure"

    def instrument(self) -> Mapping[str, Any]:
        return {"processor": processor_name(), "versions": versions(PACKAGES)}
