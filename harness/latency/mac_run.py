"""Timing a module through Core ML on the Mac that this runs on."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from harness.coreml.export import CoremlExportError
from harness.device.apple import NoDeviceError, check_mac, said
from harness.device.benchmark import benchmark
from harness.device.request import BenchmarkProtocol
from harness.device.targets import Mac
from harness.latency.exported import Exported, exported
from harness.latency.mac import MacLatency
from harness.records.errors import UserError
from harness.records.quantity import Failed, Measured, Unavailable


def measure(settings: MacLatency, module: nn.Module, inputs: Sequence[Any]) -> Measured | Failed | Unavailable:
    """Milliseconds of one prediction; its conditions say on which units Core ML plans which operators.

    There is no rest between two models: on a Mac a study's other work heats more than they do.
    """
    try:
        check_mac()
    except UserError as error:
        return Unavailable(reason=str(error))
    try:
        with exported(module, inputs, settings.export) as made:
            quantity = _timed(made, settings.protocol)
    except CoremlExportError as error:
        return Failed(stage="coreml", message=str(error))
    if not isinstance(quantity, Measured):
        return quantity
    return replace(quantity, conditions={**made.conditions, **quantity.conditions})


def _timed(made: Exported, protocol: BenchmarkProtocol) -> Measured | Failed | Unavailable:
    try:
        return asyncio.run(benchmark(Mac(), made.package, made.inputs, made.reference, protocol))
    except (NoDeviceError, UserError) as error:
        return Unavailable(reason=str(error))
    except Exception as error:  # whatever Core ML raises of a model that it does not run
        return Failed(stage="latency", message=said(error))
