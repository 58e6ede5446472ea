"""Who is alive where locks do not reach: on a file system that several hosts share, on a folder that a service syncs.

Whoever wants to be seen alive counts up in a file, and whoever wonders watches the count by its own clock, so no two
clocks are compared: unchanged for the length of a lease, the other is dead. The first sight of a count gets the benefit
of the doubt, since its age is unknown.
"""

import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

BEATS_PER_LEASE = 6  # five may get lost


class Heartbeat:
    """Writes `OWNER COUNT` into a file every `every_s` seconds from a thread, from entry to exit, then removes it.

    At entry the file is this owner's, whoever had it. A later owner's name in it is left alone, and `on_lost` is called
    at each beat, as it is while `is_current` says no. An OSError costs a beat and no more: a file system may hiccup.
    """

    def __init__(
        self,
        path: Path,
        every_s: float,
        *,
        owner: str = "",
        is_current: Callable[[], bool] = lambda: True,
        on_lost: Callable[[], None] = lambda: None,
    ) -> None:
        self.owner = owner or unique_owner()
        self._path, self._every_s, self._is_current, self._on_lost = path, every_s, is_current, on_lost
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def __enter__(self) -> Self:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(OSError):
            self._path.write_text(f"{self.owner} 0")  # before anything is claimed in its name
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        with suppress(OSError):
            if self._is_mine():
                self._path.unlink(missing_ok=True)

    def _run(self) -> None:
        count = 0
        while True:
            count += 1
            with suppress(OSError):
                self._beat(count)
            if self._stop.wait(self._every_s):
                return

    def _beat(self, count: int) -> None:
        mine = self._is_mine()
        if mine:
            self._path.write_text(f"{self.owner} {count}")
        if not mine or not self._is_current():
            self._on_lost()

    def _is_mine(self) -> bool:
        """Not where another owner has written its own name; a line that is gone or cut short is nobody else's."""
        with suppress(FileNotFoundError):
            owner = self._path.read_text().partition(" ")[0]
            return not owner or self.owner.startswith(owner)
        return True


class LeaseWatch:
    """One reader's view of one lease file: fresh while its count changed within the last `timeout_s` seconds.

    A missing file is over at once, since its owner gave it back; with `may_arrive_late`, as on a synced folder, only
    after `timeout_s`.
    """

    def __init__(self, path: Path, timeout_s: float, *, may_arrive_late: bool = False) -> None:
        self._path, self._timeout_s, self._may_arrive_late = path, timeout_s, may_arrive_late
        self._text: str | None = None
        self._changed_at = float("-inf")
        self._has_moved = False

    def is_fresh(self) -> bool:
        try:
            text = self._path.read_text()
        except OSError:
            if not self._may_arrive_late:
                return False
            text = ""
        now = time.monotonic()
        if text != self._text:
            self._has_moved = self._text is not None
            self._text, self._changed_at = text, now
        return now - self._changed_at < self._timeout_s

    def is_seen_alive(self) -> bool:
        """Whether the count was seen to change: alive for certain, not by the benefit of the doubt."""
        return self.is_fresh() and self._has_moved


def unique_owner() -> str:
    """A name that no other process has, nor this one a second time."""
    return f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
