"""Latency under ONNX Runtime on this machine's CPU, measured: the graph that torch.onnx exports, with fixed shapes.

The exported graph must compute what the module computes before it is timed. Times do not depend on weights, so a copy
of the module with random ones is exported: zeros, which networks begin with, would hide a wrong graph.
"""

import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from harness.latency.cpu import Timing, on_cpu, shape_of
from harness.records.errors import UserError
from harness.records.provenance import processor_name, versions
from harness.records.quantity import Failed, Measured, Unavailable

if TYPE_CHECKING:
    from torch import Tensor, nn

PACKAGES = ("torch", "onnxruntime", "onnxscript")
PROVIDER = "CPUExecutionProvider"
NEEDS = "needs ONNX Runtime, which is not installed; pip install 'unet-harness[onnx]'"
LEAST_DB = 60.0  # signal to error; float32 on both sides reaches far more, another operator far less


@dataclass(frozen=True, kw_only=True, slots=True)
class OnnxLatency(Timing):
    name: ClassVar[str] = "onnx"
    quantity: ClassVar[str] = "latency_onnx"
    needs_weights: ClassVar[bool] = True
    of_deployment: ClassVar[bool] = False

    def instrument(self) -> Mapping[str, Any]:
        return {"processor": processor_name(), "versions": versions(PACKAGES)}

    def check(self) -> None:
        if not _is_installed():
            raise UserError(f"latency.onnx {NEEDS}, or leave it out")

    def measure(self, module: "nn.Module", inputs: Sequence[Any]) -> Measured | Failed | Unavailable:
        """The median time of the exported graph in ms, with quartiles; Failed where it does not export or run, or
        computes something else. The first input is the latent (B, C, H, W)."""
        module, arguments = on_cpu(module, inputs)
        if not _is_installed():
            return Unavailable(reason=NEEDS)
        with tempfile.TemporaryDirectory(prefix="onnx-") as folder:
            try:
                session, parity_db = _exported(self.threads, module, arguments, Path(folder) / "model.onnx")
            except Exception as error:  # whatever the exporter and the runtime raise of a graph they do not take
                lines = str(error).strip().splitlines()
                return Failed(phase="onnx export", message=lines[0] if lines else type(error).__name__)
            if parity_db < LEAST_DB:
                message = f"the exported graph's output is {parity_db:.1f} dB from the module's, below {LEAST_DB:.0f}"
                return Failed(phase="onnx parity", message=message)
            feed = _feed(session, arguments)
            return self.timed(lambda: session.run(None, feed), _conditions(arguments[0]))


def _is_installed() -> bool:
    return all(find_spec(package) is not None for package in PACKAGES)


def _exported(threads: int, module: "nn.Module", arguments: list[Any], path: Path) -> tuple[Any, float]:
    """The runtime's session of the exported copy, and how near its output comes to the copy's, in dB."""
    import torch

    from harness.measure.evaluating import evaluating
    from harness.models.parameters import filled_copy

    filled = filled_copy(module)
    with evaluating(filled), torch.no_grad():
        program = torch.onnx.export(filled, tuple(arguments), dynamo=True, verbose=False)
        assert program is not None
        program.save(path, external_data=True)
        expected = filled(*arguments)
    del program, filled  # they hold the weights once more each
    session = _session(path, threads)
    (outputs,) = session.run(None, _feed(session, arguments))
    return session, signal_to_error_db(torch.from_numpy(outputs), expected)


def _session(path: Path, threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    return onnxruntime.InferenceSession(path, options, providers=[PROVIDER])


def signal_to_error_db(output: "Tensor", expected: "Tensor") -> float:
    """10 log10 of the wanted output's energy over the error's; infinite where they are equal."""
    error, signal = (output.double() - expected.double()).square().sum().item(), expected.double().square().sum().item()
    if error == 0:
        return math.inf
    return 10 * math.log10(signal / error) if signal > 0 and math.isfinite(error) else -math.inf


def _feed(session: Any, arguments: Sequence[Any]) -> dict[str, Any]:
    """The graph's inputs by name: the tensors in the order of the module's arguments, unused ones too."""
    from torch import Tensor

    tensors = [argument.numpy() for argument in arguments if isinstance(argument, Tensor)]
    return dict(zip((node.name for node in session.get_inputs()), tensors, strict=True))


def _conditions(latent: "Tensor") -> dict[str, Any]:
    return {"provider": PROVIDER, **versions(PACKAGES), **shape_of(latent)}
