"""Who is alive, on a folder that several machines see.

A lock of the operating system does not reach across machines, let alone a synced folder, and clocks of two machines
differ. So an agent counts up in a file of its own, and whoever wonders watches the count by its own clock: unchanged
for the length of a lease, it is dead. The first sight of a count gets the benefit of the doubt.
"""

import os
import threading
import time
import uuid
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from harness.records.store import write_atomic

BEATS = 6  # in the length of a lease: five may get lost


class Heartbeat:
    """Counts up in FOLDER/OWNER from entry to exit, from a thread of its own; a killed process leaves its file."""

    def __init__(self, folder: Path, lease_s: float) -> None:
        self.owner = f"{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._path, self._every_s = folder / self.owner, lease_s / BEATS
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def __enter__(self) -> "Heartbeat":
        write_atomic(self._path, b"0")  # before anything is claimed in its name
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._path.unlink(missing_ok=True)

    def _beat(self) -> None:
        count = 0
        while not self._stop.wait(self._every_s):
            count += 1
            with suppress(OSError):  # a file system that hiccups costs a beat, not the measurement
                self._path.write_text(str(count))


class Watch:
    """Other agents' heartbeats, as seen from here."""

    def __init__(self, folder: Path, lease_s: float) -> None:
        self._folder, self._lease_s = folder, lease_s
        self._seen: dict[str, tuple[str, float, int]] = {}  # owner -> count, when it changed, how often it did

    def is_alive(self, owner: str) -> bool:
        """False once the count has not changed for the length of a lease, or its file is gone as long."""
        self._look(owner)
        return time.monotonic() - self._seen[owner][1] < self._lease_s

    def is_beating(self, owner: str) -> bool:
        """Whether the count was seen to change: alive for certain, not by the benefit of the doubt."""
        return self.is_alive(owner) and self._seen[owner][2] > 0

    def forget(self, owner: str) -> None:
        """Remove what a dead agent left."""
        self._seen.pop(owner, None)
        with suppress(OSError):
            (self._folder / owner).unlink(missing_ok=True)

    def _look(self, owner: str) -> None:
        try:
            count = (self._folder / owner).read_text()
        except OSError:
            count = ""
        before = self._seen.get(owner)
        if before is None:
            self._seen[owner] = (count, time.monotonic(), 0)
        elif count != before[0]:
            self._seen[owner] = (count, time.monotonic(), before[2] + 1)
