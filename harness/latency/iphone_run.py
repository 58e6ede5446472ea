"""Exporting a module for an iPhone, and asking for its latency through the queue."""

from collections.abc import Sequence
from typing import Any

from torch import nn

from harness.coreml.export import CoremlExportError
from harness.device.queue import FolderQueue
from harness.latency.exported import exported
from harness.latency.iphone import IphoneLatency, out_of_reach
from harness.records.quantity import Failed, Unavailable


def submit(settings: IphoneLatency, module: nn.Module, inputs: Sequence[Any]) -> str | Unavailable | Failed:
    """Export the module and leave it in the queue; the request's id."""
    assert settings.queue is not None
    try:
        with exported(module, inputs, settings.export) as made:
            return FolderQueue(settings.queue).submit(
                made.package,
                made.inputs,
                made.reference,
                settings.protocol,
                chip=settings.chip,
                name=type(module).__name__,
                conditions=made.conditions,
            )
    except CoremlExportError as error:
        return Failed(stage="coreml", message=str(error))
    except OSError as error:  # the folder went away, or is full
        return out_of_reach(str(error))
