"""A lease for shared file systems, where one host may not see another's locks.

The worker counts up in a file; the driver watches the count by its own clock, so no two clocks are compared. A worker
that finds another attempt named in its place (it was taken for dead: a stalled node) ends itself.
"""

import os
import signal
import threading
import time
from contextlib import suppress
from types import TracebackType

from harness.launch.attempt import Attempt


class Heartbeat:
    """Renews the lease of `attempt` every `every_s` seconds from a thread, from entry to exit."""

    def __init__(self, attempt: Attempt, every_s: float) -> None:
        self._attempt, self._every_s = attempt, every_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def __enter__(self) -> "Heartbeat":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _beat(self) -> None:
        count = 0
        while True:
            count += 1
            with suppress(OSError):  # a file system that hiccups costs a beat, not the job
                self._attempt.lease.write_text(str(count))
                if not self._attempt.is_current:
                    os.kill(os.getpid(), signal.SIGUSR1)
            if self._stop.wait(self._every_s):
                return


class LeaseWatch:
    """The driver's view of one lease: fresh while the count changed within the last `timeout_s` seconds."""

    def __init__(self, attempt: Attempt, timeout_s: float) -> None:
        self._attempt, self._timeout_s = attempt, timeout_s
        self._count: str | None = None
        self._changed = float("-inf")

    def is_fresh(self) -> bool:
        """The first sight of an existing lease counts as a change: an unknown age gets the benefit of the doubt."""
        try:
            count = self._attempt.lease.read_text()
        except FileNotFoundError:
            return False
        now = time.monotonic()
        if count != self._count:
            self._count, self._changed = count, now
        return now - self._changed < self._timeout_s
