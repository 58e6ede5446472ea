"""A run of a tracker: one a trial and seed.

    with tracker(config, run, OUT / "tracking") as tracking:
        tracking.log(point)                      # as often as there are points
        tracking.finish(quantities, images)      # once; leaving without it marks the run as failed

A tracker shows; it keeps nothing that matters. Once it has started, whatever goes wrong inside it is said in one
warning and the trial goes on without it.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from harness.records.quantity import Quantity
from harness.records.record import CurvePoint
from harness.tracking.config import LocalTracker, TrackerConfig, WandbTracker, check_tracker
from harness.tracking.run import Run, Tracker, warn


class Nowhere:
    """The tracker `none`."""

    def log(self, point: CurvePoint) -> None:
        pass

    def finish(self, quantities: Mapping[str, Quantity], images: Mapping[str, Path]) -> None:
        pass

    def abort(self) -> None:
        pass


class Guarded:
    """A tracker whose failures cost one warning. After the first it is not called again."""

    def __init__(self, inner: Tracker, where: str) -> None:
        self._inner, self._where = inner, where
        self._failed = self._ended = False

    def log(self, point: CurvePoint) -> None:
        self._try(lambda: self._inner.log(point))

    def finish(self, quantities: Mapping[str, Quantity], images: Mapping[str, Path]) -> None:
        self._end(lambda: self._inner.finish(quantities, images))

    def abort(self) -> None:
        self._end(self._inner.abort)

    def _end(self, call: Callable[[], None]) -> None:
        if not self._ended:
            self._ended = True
            self._try(call)

    def _try(self, call: Callable[[], None]) -> None:
        if self._failed:
            return
        try:
            call()
        except Exception as error:  # any: no failure of a dashboard may cost a trial
            self._failed = True
            warn(f"{self._where} failed ({_line(error)}); the trial goes on without it, its record is complete")


@contextlib.contextmanager
def tracker(config: TrackerConfig, run: Run, folder: Path) -> Iterator[Tracker]:
    """The run's tracker; files go under `folder`. UserError only where the settings cannot work (`check_tracker`)."""
    check_tracker(config)
    tracking = Guarded(_start(config, run, folder), f"tracker '{config.kind}'")
    try:
        yield tracking
    finally:
        tracking.abort()  # nothing, where `finish` was called


def _start(config: TrackerConfig, run: Run, folder: Path) -> Tracker:
    try:
        if isinstance(config, LocalTracker):
            from harness.tracking.local import LocalSink

            return LocalSink(run, folder)
        if isinstance(config, WandbTracker):
            from harness.tracking.wandb_run import start_wandb

            return start_wandb(config, run, folder)
    except Exception as error:  # as above
        warn(f"tracker '{config.kind}' did not start ({_line(error)}); the trial goes on without it")
    return Nowhere()


def _line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
