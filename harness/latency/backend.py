"""What the backends share: their settings need no torch, and what measures is named, and imported when it measures."""

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar

from harness.coreml.config import Mlprogram
from harness.records.errors import UserError
from harness.records.quantity import Quantity

if TYPE_CHECKING:
    from torch import nn


class Backend:
    """The base of a frozen dataclass of settings."""

    __slots__ = ()

    measured_by: ClassVar[str]  # "module:function" of (settings, module, inputs)

    def measure(self, module: "nn.Module", inputs: Sequence[Any]) -> Quantity:
        """The time of `module(*inputs)` in ms, or why there is none; the module is left as it was."""
        found: Quantity = function_named(self.measured_by)(self, module, inputs)
        return found


def function_named(where: str) -> Callable[..., Any]:
    module, _, name = where.partition(":")
    found: Callable[..., Any] = getattr(import_module(module), name)
    return found


def check_export(backend: str, config: Mlprogram) -> None:
    """Refuse a setting of the export that the latency's own would contradict."""
    if config.latent is not None:
        raise UserError(
            f"latency.{backend}.export.latent is for coreml.latent alone; set latency.latent={config.latent}"
        )
