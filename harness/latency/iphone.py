"""Latency on an attached iPhone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import nn

from harness.records.quantity import Unavailable


@dataclass(frozen=True, kw_only=True, slots=True)
class IphoneLatency:
    """This version cannot run models on a phone: it says so in every record, so that the gap shows."""

    name: ClassVar[str] = "iphone"
    quantity: ClassVar[str] = "latency_iphone"
    needs_weights: ClassVar[bool] = True

    def instrument(self) -> Mapping[str, Any]:
        return {}

    def measure(self, module: nn.Module, inputs: Sequence[Any]) -> Unavailable:  # noqa: ARG002
        """Unavailable, whatever the module is."""
        return Unavailable(
            reason="needs a Mac with Xcode and an attached iPhone, which this version does not drive yet; "
            "the exported Core ML package is what such a run would load"
        )
