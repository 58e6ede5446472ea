"""The Mac's end of the queue: claim, measure, answer, rest; for ever, or until the queue is empty.

It may be stopped or killed at any moment: what it claimed returns to the queue, what it measured is not measured again.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from harness.device.apple import NoDeviceError, explained, text_of
from harness.device.benchmark import PHASE, Arrays, Report, benchmark
from harness.device.picture import PHASE as PICTURE_PHASE
from harness.device.picture import make_picture
from harness.device.queue import INPUTS, PACKAGE, REFERENCE, Entry, Queue
from harness.device.request import Answer, BenchmarkProtocol, PictureProtocol, Protocol
from harness.device.targets import Identity, Target
from harness.records.errors import UserError
from harness.records.quantity import Failed

ATTEMPTS = 3
"""Errors of coremltools after which a request is answered with the last one. The first load on a phone often ends in
one: coremltools 9.0 asks 20 times, half a second apart, and then gives up, while the phone goes on compiling."""


@dataclass(kw_only=True)
class Agent:
    queue: Queue
    target: Target
    report: Report = print
    once: bool = False  # end when nothing is left to do, instead of waiting for more
    poll_s: float = 10.0  # between two looks into an empty queue
    timeout_s: float = 1800.0  # of one request: a phone that hangs is asked again
    sleep: Callable[[float], None] = time.sleep
    rested: float = float("-inf")  # since when the device rests, by the monotonic clock
    last_message: str | None = None  # so that it is not said at every poll; None: an earlier agent's

    def run(self) -> int:
        """0; 1 where `once` ended with requests waiting for a device. A UserError says what only a person can mend."""
        with self.queue.alive() as owner:
            while True:
                for request in self.queue.release_dead_claims():
                    self.report(f"{request}: its agent is dead, so it waits again")
                try:
                    answered = self._answer_next(owner)
                except NoDeviceError as error:
                    self._post_status(f"unavailable: {error}")
                    if self.once:
                        return 1
                    answered = False
                except UserError as error:
                    self.queue.post_status(f"unavailable: {error}")
                    raise
                if not answered:
                    if self.once and not self.queue.may_return_claims():
                        return 0
                    self.sleep(self.poll_s)

    def _answer_next(self, owner: str) -> bool:
        """Answer one request; False where none waits for this device."""
        device = self.target.identify()
        entry = self.queue.claim(owner, device.chip)
        if entry is None:
            self._explain_waiting(device)
            return False
        is_answered = False
        try:
            self._answer(entry, device)
            is_answered = True
        finally:
            if not is_answered:  # Ctrl-C too
                self.queue.release(entry)
        return True

    def _answer(self, entry: Entry, device: Identity) -> None:
        request, label = entry.request, entry.request.name or entry.request.id
        if self.queue.result(request, device) is not None:
            self.report(f"{label}: was measured on this device before")
            self.queue.close(entry)
            return
        self._cool_down(request.protocol)
        self._post_status("")
        self.report(f"{label}: starts on {device.chip or 'a device whose chip is not named (--chip)'}")
        try:
            quantity, picture = self._worked(entry)
        except (NoDeviceError, UserError):
            raise
        except Exception as error:  # whatever coremltools raises: an interface that calls itself experimental
            if isinstance(explanation := explained(error), NoDeviceError | UserError):  # locked or unplugged meanwhile
                raise explanation from error
            self._after_error(entry, device, error)
            return
        finally:
            self.rested = time.monotonic()
        self.queue.finish(entry, device, quantity, picture)
        self.report(f"{label}: {_line(quantity)}")

    def _worked(self, entry: Entry) -> tuple[Answer, bytes | None]:
        """What was asked for: a time; or a picture as PNG, with its time."""
        protocol, folder = entry.request.protocol, self.queue.folder(entry.request)
        if isinstance(protocol, PictureProtocol):
            work = make_picture(self.target, folder, protocol, self._report_of(entry))
            return asyncio.run(_within(self.timeout_s, work))
        return self._measured(entry, protocol), None

    def _measured(self, entry: Entry, protocol: BenchmarkProtocol) -> Answer:
        request, folder = entry.request, self.queue.folder(entry.request)
        inputs, reference = _arrays(folder / INPUTS), _arrays(folder / REFERENCE)
        work = benchmark(self.target, folder / PACKAGE, inputs, reference, protocol, self._report_of(entry))
        quantity = asyncio.run(_within(self.timeout_s, work))
        if isinstance(quantity, Failed):
            return quantity
        return replace(quantity, conditions={**request.conditions, **quantity.conditions})

    def _report_of(self, entry: Entry) -> Report:
        label = entry.request.name or entry.request.id
        return lambda line: self.report(f"{label}: {line}")

    def _after_error(self, entry: Entry, device: Identity, error: Exception) -> None:
        """Once more later; after some attempts the error is the answer."""
        text = f"no answer within {self.timeout_s:g} s" if isinstance(error, TimeoutError) else text_of(error)
        label = entry.request.name or entry.request.id
        if len(entry.request.errors) + 1 < ATTEMPTS:
            self.report(f"{label}: {text}; tries again")
            self.queue.release(entry, text)
            return
        self.report(f"{label}: {text}; gave up after {ATTEMPTS} attempts")
        message = f"{text} (the last of {ATTEMPTS} attempts)"
        phase = PICTURE_PHASE if isinstance(entry.request.protocol, PictureProtocol) else PHASE
        self.queue.finish(entry, device, Failed(phase=phase, message=message))

    def _cool_down(self, protocol: Protocol) -> None:
        """Until the device had its cool-down since the last model."""
        seconds_left = self.rested + protocol.cool_down_s - time.monotonic()
        if seconds_left > 0:
            self.report(f"cools down for {seconds_left:.0f} s")
            self.sleep(seconds_left)

    def _explain_waiting(self, device: Identity) -> None:
        """Requests for another chip would wait without a word."""
        requested_chips = {entry.request.chip for entry in self.queue.entries() if entry.state == "pending"} - {None}
        named = f"this device is called {device.chip}" if device.chip else "this device's chip was not named"
        chips = ", ".join(sorted(str(chip) for chip in requested_chips))
        self._post_status(
            f"requests wait for {chips}, and {named}; if it is one, start again with --chip" if requested_chips else ""
        )

    def _post_status(self, text: str) -> None:
        if text != self.last_message:
            self.last_message = text
            self.queue.post_status(text)
            if text:
                self.report(text)


T = TypeVar("T")


async def _within(seconds: float, work: Coroutine[Any, Any, T]) -> T:
    """TimeoutError after so long, even where coremltools waits for devicectl, without a limit, in a thread."""
    asyncio.get_running_loop().set_default_executor(_Abandoning())
    return await asyncio.wait_for(work, seconds)


class _Abandoning(ThreadPoolExecutor):
    """Its end does not wait for threads that hang; `asyncio.run` would."""

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: ARG002
        super().shutdown(wait=False, cancel_futures=True)


def _arrays(path: Path) -> Arrays:
    import numpy

    with numpy.load(path) as file:
        return {name: file[name] for name in file.files}


def _line(quantity: Answer) -> str:
    if isinstance(quantity, Failed):
        return f"failed: {quantity.message}"
    doubt = quantity.conditions.get("engine_doubt")
    refused = f"; not called the Neural Engine's: {doubt}" if doubt else ""
    return f"{quantity.value:.2f} ms ({quantity.low:.2f} to {quantity.high:.2f}){refused}"
