"""Latency on the Mac that this runs on, through Core ML: protocol and gate as on an iPhone, without a queue."""

import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from harness.coreml.config import Mlprogram
from harness.device.request import BenchmarkProtocol
from harness.latency.backend import Backend, check_export
from harness.records.provenance import processor_name, versions


@dataclass(frozen=True, kw_only=True, slots=True)
class MacLatency(Backend):
    protocol: BenchmarkProtocol = field(default_factory=BenchmarkProtocol)
    export: Mlprogram = field(default_factory=Mlprogram)

    name: ClassVar[str] = "mac"
    quantity: ClassVar[str] = "latency_mac"
    needs_weights: ClassVar[bool] = True
    of_deployment: ClassVar[bool] = True
    measured_by: ClassVar[str] = "harness.latency.mac_run:measure"

    def __post_init__(self) -> None:
        check_export(self.name, self.export)

    def instrument(self) -> Mapping[str, Any]:
        system = {"processor": processor_name(), "system": platform.platform()}
        return {**system, "versions": versions(("torch", "coremltools"))}
