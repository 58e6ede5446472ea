"""A lease for shared file systems, where one host may not see another's locks.

The worker counts up in a file; the driver watches the count by its own clock, so no two clocks are compared. A worker
that finds another attempt named in its place (it was taken for dead: a stalled node) ends itself. So does one that
finds another run of its own attempt in the lease: Slurm requeued the job while its node was out of sight.
"""

import os
import signal
import socket
import time
from contextlib import suppress
from types import TracebackType
from typing import Any

from harness.launch.attempt import Attempt
from harness.records.beat import Beat


class Heartbeat(Beat):
    """Renews the lease of `attempt` every `every_s` seconds from a thread, from entry to exit, and then gives it back.

    The lease is one line, RUN COUNT, where RUN is this process.
    """

    def __init__(self, attempt: Attempt, every_s: float) -> None:
        self._attempt = attempt
        self._run_name = f"{socket.gethostname()}-{os.getpid()}-{time.time_ns()}"
        super().__init__(self._renew, every_s)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        if self._is_mine():
            self._attempt.lease.unlink(missing_ok=True)

    def _renew(self, count: int) -> None:
        """The first time it is taken, whoever had it."""
        mine = count == 1 or self._is_mine()
        if mine:
            self._attempt.lease.write_text(f"{self._run_name} {count}")
        if not mine or not self._attempt.is_current:
            os.kill(os.getpid(), signal.SIGUSR1)

    def _is_mine(self) -> bool:
        """Not where another run has written its own name; a line that is gone or cut short is nobody's else."""
        with suppress(FileNotFoundError):
            run = self._attempt.lease.read_text().partition(" ")[0]
            return not run or self._run_name.startswith(run)
        return True


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


def earlier_run_is_over(attempt: Attempt, earlier: dict[str, Any], timeout_s: float) -> bool:
    """Whether the run that held the attempt's lock before (`earlier`, what it wrote there) cannot be alive.

    Asked by the holder of the lock. A lock on this host proves it; on another host, a lease that was given back, or
    that does not move for `timeout_s`.
    """
    if earlier.get("host", socket.gethostname()) == socket.gethostname():
        return True
    watch = LeaseWatch(attempt, timeout_s)
    if not watch.is_fresh():
        return True
    before, deadline = attempt.lease.read_text(), time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        time.sleep(min(1.0, timeout_s / 10))
        if attempt.lease.exists() and attempt.lease.read_text() != before:
            return False
    return True
