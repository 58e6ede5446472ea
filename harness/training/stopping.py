"""Requests to stop: a preempted worker saves its state before it goes."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any


class SigtermFlag:
    """Inside the `with`, SIGTERM sets `.requested` instead of ending the process.

    Python delivers signals to the main thread alone; in any other, SIGTERM keeps its meaning.
    """

    def __init__(self) -> None:
        self.requested = False
        self._before: Any = None
        self._installed = False

    def __enter__(self) -> "SigtermFlag":
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, self._request)
            self._installed = True
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._installed:
            signal.signal(signal.SIGTERM, signal.SIG_DFL if self._before is None else self._before)

    def _request(self, _number: int, _frame: FrameType | None) -> None:
        self.requested = True
