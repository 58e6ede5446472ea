"""Latency on an iPhone that hangs on another machine, a Mac: asked for through a queue, answered when it is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from harness.coreml.config import Mlprogram
from harness.device.queue import Entry, FolderQueue
from harness.device.request import BenchmarkProtocol
from harness.latency.backend import check_export
from harness.latency.predicted import PredictedLatency
from harness.records.errors import UserError
from harness.records.plain import NOT_IDENTITY
from harness.records.provenance import versions
from harness.records.quantity import Failed, Measured, Unavailable

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, kw_only=True, slots=True)
class IphoneLatency:
    queue: Path | None = field(default=None, metadata=NOT_IDENTITY)  # the folder that this machine and the Mac both see
    chip: str | None = None  # "A17 Pro", as the agent's --chip says; null: whichever phone the agent has
    protocol: BenchmarkProtocol = field(default_factory=BenchmarkProtocol)
    export: Mlprogram = field(default_factory=Mlprogram)

    name: ClassVar[str] = "iphone"
    quantity: ClassVar[str] = "latency_iphone"
    needs_weights: ClassVar[bool] = True
    of_deployment: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_export(self.name, self.export)

    @property
    def predictor(self) -> PredictedLatency | None:
        """For the chip that is asked for; for the predictor's own where any may answer."""
        chips = {"chip": self.chip} if self.chip is not None else {}
        try:
            return PredictedLatency(**chips, compute_unit=self.protocol.compute_unit, weight_bits=self.export.bits)
        except UserError:  # a chip that the predictor does not know
            return None

    def instrument(self) -> Mapping[str, Any]:
        return {"versions": versions(("torch", "coremltools"))}  # what makes the package; the phone is in the answer

    def check(self) -> None:
        """The phone may come later: what is asked for waits in the queue."""

    def measure(self, module: "nn.Module", inputs: Sequence[Any]) -> Measured | Failed | Unavailable:
        """The answer if there is one, else Unavailable at once: the request waits. The first input is the latent."""
        submitted = self.submit(module, inputs)
        if not isinstance(submitted, str):
            return submitted
        return self.collect(submitted) or out_of_reach("the request that was just made is not in it")

    def obstacle(self) -> Unavailable | None:
        if self.queue is None:
            return Unavailable(
                reason="needs a queue folder: set latency.iphone.queue=FOLDER to one that a Mac sees too, and run "
                "`harness latency agent FOLDER` on the Mac that has the iPhone"
            )
        try:
            FolderQueue(self.queue)
        except (UserError, OSError) as error:
            return out_of_reach(str(error))
        return None

    def submit(self, module: "nn.Module", inputs: Sequence[Any]) -> str | Unavailable | Failed:
        """Export the module and leave it in the queue; the request's id."""
        from harness.coreml.export import CoremlExportError
        from harness.latency.exported import exported

        if (obstacle := self.obstacle()) is not None:
            return obstacle
        assert self.queue is not None
        try:
            with exported(module, inputs, self.export) as package:
                return FolderQueue(self.queue).submit(
                    package.package,
                    package.inputs,
                    package.reference,
                    self.protocol,
                    chip=self.chip,
                    name=type(module).__name__,
                    conditions=package.conditions,
                )
        except CoremlExportError as error:
            return Failed(phase="coreml", message=str(error))
        except OSError as error:  # the folder went away, or is full
            return out_of_reach(str(error))

    def collect(self, request: str) -> Measured | Failed | Unavailable | None:
        if self.queue is None:
            return self.obstacle()
        try:
            queue = FolderQueue(self.queue)
            entry = queue.find(request)
            answer = queue.answer(request)
            if answer is not None or entry is None or entry.state == "answered":  # its result may have been removed
                return answer
            return Unavailable(reason=_waiting(entry, queue), awaits=request)
        except (UserError, OSError) as error:
            return out_of_reach(str(error))


def _waiting(entry: Entry, queue: FolderQueue) -> str:
    """For people: what waits where, since when, and why."""
    doing = "is being measured" if entry.state == "claimed" else "waits"
    for_whom = f" for {entry.request.chip}" if entry.request.chip else ""
    errors = f"; last trouble: {entry.request.errors[-1]}" if entry.request.errors else ""
    messages = "".join(f"; {message}" for message in queue.agent_messages())
    since = entry.request.submitted[:16]
    return f"request {entry.request.id} {doing}{for_whom} in the queue {queue.root} since {since} UTC{errors}{messages}"


def out_of_reach(why: str) -> Unavailable:
    return Unavailable(
        reason=f"needs the queue folder within reach: {why}; nothing is lost, run the same command again"
    )
