"""A thread that counts up, for those who must show that they live: an agent at its queue, a worker in its attempt."""

import threading
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Self


class Beat:
    """Calls `beat(1)`, `beat(2)`, ... every `every_s` seconds, from entry to exit, the first at once.

    An OSError costs that beat and no more: a file system may hiccup. When the exit returns, no call is under way.
    """

    def __init__(self, beat: Callable[[int], None], every_s: float) -> None:
        self._beat, self._every_s = beat, every_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        count = 0
        while True:
            count += 1
            with suppress(OSError):
                self._beat(count)
            if self._stop.wait(self._every_s):
                return
