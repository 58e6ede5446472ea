"""Who is alive, on a folder that several machines see.

A lock of the operating system does not reach across machines, let alone a synced folder, and clocks of two machines
differ. So an agent counts up in a file of its own, and whoever wonders watches the count by its own clock: unchanged
for the length of a lease, it is dead. The first sight of a count gets the benefit of the doubt.
"""

import os
import time
import uuid
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from harness.records.beat import Beat
from harness.records.store import write_atomic

BEATS = 6  # in the length of a lease: five may get lost


class Heartbeat(Beat):
    """Counts up in FOLDER/OWNER from entry to exit, from a thread of its own; a killed process leaves its file."""

    def __init__(self, folder: Path, lease_s: float) -> None:
        self.owner = f"{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._path = folder / self.owner
        super().__init__(self._write, lease_s / BEATS)

    def __enter__(self) -> Self:
        write_atomic(self._path, b"0")  # before anything is claimed in its name
        return super().__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        self._path.unlink(missing_ok=True)

    def _write(self, count: int) -> None:
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
