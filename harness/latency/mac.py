"""Latency on the Mac that this runs on, through Core ML: protocol and gate as on an iPhone, without a queue."""

import asyncio
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

from harness.coreml.config import Mlprogram
from harness.device.apple import NoDeviceError, check_mac, text_of
from harness.device.benchmark import benchmark
from harness.device.request import BenchmarkProtocol
from harness.device.targets import Mac
from harness.latency.backend import check_export
from harness.records.errors import UserError
from harness.records.provenance import processor_name, versions
from harness.records.quantity import Failed, Measured, Unavailable

if TYPE_CHECKING:
    from torch import nn

    from harness.latency.exported import Exported


@dataclass(frozen=True, kw_only=True, slots=True)
class MacLatency:
    protocol: BenchmarkProtocol = field(default_factory=BenchmarkProtocol)
    export: Mlprogram = field(default_factory=Mlprogram)

    name: ClassVar[str] = "mac"
    quantity: ClassVar[str] = "latency_mac"
    needs_weights: ClassVar[bool] = True
    of_deployment: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_export(self.name, self.export)

    def instrument(self) -> Mapping[str, Any]:
        system = {"processor": processor_name(), "system": platform.platform()}
        return {**system, "versions": versions(("torch", "coremltools"))}

    def check(self) -> None:
        try:
            check_mac()
        except UserError as error:
            raise UserError(f"latency.mac {error}; leave it out, or choose latency=cpu or predicted") from error

    def measure(self, module: "nn.Module", inputs: Sequence[Any]) -> Measured | Failed | Unavailable:
        """Milliseconds of one prediction; its conditions say on which units Core ML plans which operators.

        There is no rest between two models: on a Mac a study's other work heats more than they do.
        """
        from harness.coreml.export import CoremlExportError
        from harness.latency.exported import exported

        try:
            check_mac()
        except UserError as error:
            return Unavailable(reason=str(error))
        try:
            with exported(module, inputs, self.export) as package:
                quantity = _timed(package, self.protocol)
        except CoremlExportError as error:
            return Failed(phase="coreml", message=str(error))
        if not isinstance(quantity, Measured):
            return quantity
        return replace(quantity, conditions={**package.conditions, **quantity.conditions})


def _timed(exported: "Exported", protocol: BenchmarkProtocol) -> Measured | Failed | Unavailable:
    try:
        return asyncio.run(benchmark(Mac(), exported.package, exported.inputs, exported.reference, protocol))
    except (NoDeviceError, UserError) as error:
        return Unavailable(reason=str(error))
    except Exception as error:  # whatever Core ML raises of a model that it does not run
        return Failed(phase="latency", message=text_of(error))
