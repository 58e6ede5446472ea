"""A run of a tracker: one a trial and seed.

    with tracker(config, run, OUT / "tracking") as tracking:
        tracking.log(point)                      # as often as there are points
        tracking.show(step, images)              # what its samples look like meanwhile
        tracking.keep(files)                     # weights
        tracking.finish(quantities, images)      # once; leaving without it marks the run as failed

A tracker shows; it keeps nothing that matters. Once it has started, whatever goes wrong inside it costs one
warning and the trial goes on without it.
"""

import contextlib
import math
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from harness.records.lines import append_line, cut_unfinished_line, whole_lines
from harness.records.plain import to_plain
from harness.records.quantity import Quantity
from harness.records.record import CurvePoint
from harness.tracking.config import LocalTracker, TrackerConfig, WandbTracker, check_tracker


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """What a tracker gets when a trial starts."""

    id: str  # the trial's key: the same trial continues the same run
    name: str  # for people: the rung or candidate, and the seed
    group: str  # the ablation or sweep
    job_type: str  # "trial"; "final" with a fresh seed; "full" after a promotion
    config: Mapping[str, Any] = field(default_factory=dict)
    """Plain, and flat where it is to be plotted: `stages.0.channels`, `recipe.learning_rate`, `seed`."""
    tags: tuple[str, ...] = ()


def nested(dotted: Mapping[str, Any]) -> dict[str, Any]:
    """The tree that dotted paths are of: `{"recipe": {"steps": 3}}`. A path that goes on below a value stays whole."""
    tree: dict[str, Any] = {}
    for path, value in dotted.items():
        *folders, leaf = path.split(".")
        at = tree
        for depth, name in enumerate(folders):
            below = at.setdefault(name, {})
            if not isinstance(below, dict):
                leaf = ".".join([*folders[depth:], leaf])
                break
            at = below
        at[leaf] = value
    return tree


def flat(plain: Any, path: str = "") -> dict[str, Any]:
    """Every leaf by its path, as edits and overrides name it: `{"stages.0.channels": 32}`."""
    if not isinstance(plain, Mapping | list) or not plain:
        return {path: plain}
    items = plain.items() if isinstance(plain, Mapping) else enumerate(plain)
    return {
        leaf: value for key, item in items for leaf, value in flat(item, f"{path}.{key}" if path else str(key)).items()
    }


class Tracker(Protocol):
    """The seam. `none`, `local` and `wandb` pass one contract suite."""

    def configure(self, values: Mapping[str, Any]) -> None:
        """More of the run's configuration, flat: what was counted of the network and of its deployment twin."""

    def log(self, point: CurvePoint) -> None:
        """One point of a curve, in the order of their steps. A trial that goes on from a checkpoint sends those of the
        checkpoint first, so the run that it continues has nothing that this one lacks; and those behind it again, with
        equal values. Whichever the run has already is left out."""

    def show(self, step: int, images: Mapping[str, Path]) -> None:
        """Images of that step, among the points and likewise."""

    def keep(self, files: Mapping[str, Path]) -> None:
        """Files of the run that are worth having, by their names: its weights."""

    def finish(self, quantities: Mapping[str, Quantity], images: Mapping[str, Path]) -> None:
        """The final quantities (those without a value as words, never as numbers), sample images, the end."""

    def abort(self) -> None:
        """The trial ended without a result."""


class TrackerWarning(UserWarning):
    """The tracker failed; the trial did not."""


def warn(sentence: str) -> None:
    warnings.warn(sentence, TrackerWarning, stacklevel=2)


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
            return LocalSink(run, folder)
        if isinstance(config, WandbTracker):
            from harness.tracking.wandb_run import start_wandb

            return start_wandb(config, run, folder)
    except Exception as error:  # as above
        warn(f"tracker '{config.kind}' did not start ({_line(error)}); the trial goes on without it")
    return Nowhere()


class Nowhere:
    """The tracker `none`."""

    def configure(self, values: Mapping[str, Any]) -> None:
        pass

    def log(self, point: CurvePoint) -> None:
        pass

    def show(self, step: int, images: Mapping[str, Path]) -> None:
        pass

    def keep(self, files: Mapping[str, Path]) -> None:
        pass

    def finish(self, quantities: Mapping[str, Quantity], images: Mapping[str, Path]) -> None:
        pass

    def abort(self) -> None:
        pass


class Sent:
    """Up to which step a run has each curve, and each kind of image."""

    def __init__(self, steps: Mapping[str, int] | None = None) -> None:
        self._steps = dict(steps or {})

    def is_new(self, name: str, step: int) -> bool:
        """Whether it is to be sent, after which it was."""
        if step <= self._steps.get(name, -1):
            return False
        self._steps[name] = step
        return True


class LocalSink:
    """The tracker `local`: FOLDER/ID.jsonl, one JSON line a start, point, image and end, appended as they come."""

    def __init__(self, run: Run, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"{run.id}.jsonl"
        cut_unfinished_line(self.path)  # one writer, and a file for people, whose readers know whole lines alone
        self._sent = Sent(_sent_in(self.path))
        self._write("start", **_mapping(to_plain(run)))

    def configure(self, values: Mapping[str, Any]) -> None:
        self._write("config", values=to_plain(values))

    def log(self, point: CurvePoint) -> None:
        if not self._sent.is_new(point.name, point.step):
            return
        # JSON has no NaN and no infinity: they are written as words
        value = point.value if math.isfinite(point.value) else str(point.value)
        self._write("point", step=point.step, name=point.name, value=value)

    def show(self, step: int, images: Mapping[str, Path]) -> None:
        for name, path in images.items():
            if self._sent.is_new(name, step):
                self._write("image", step=step, name=name, path=str(path))

    def keep(self, files: Mapping[str, Path]) -> None:
        self._write("files", paths={name: str(path) for name, path in files.items()})

    def finish(self, quantities: Mapping[str, Quantity], images: Mapping[str, Path]) -> None:
        self._write("finish", quantities=to_plain(quantities), images=to_plain(images))

    def abort(self) -> None:
        self._write("abort")

    def _write(self, event: str, **more: Any) -> None:
        append_line(self.path, {"event": event, "time": time.time(), **more})


def _sent_in(path: Path) -> dict[str, int]:
    """By the lines that earlier attempts wrote, which are in order."""
    return {line["name"]: line["step"] for line in whole_lines(path) if line.get("event") in ("point", "image")}


def _mapping(plain: Any) -> dict[str, Any]:
    assert isinstance(plain, dict)
    return plain


class Guarded:
    """A tracker whose failures cost one warning. After the first it is not called again."""

    def __init__(self, inner: Tracker, where: str) -> None:
        self._inner, self._where = inner, where
        self._failed = self._ended = False

    def configure(self, values: Mapping[str, Any]) -> None:
        self._call_guarded(lambda: self._inner.configure(values))

    def log(self, point: CurvePoint) -> None:
        self._call_guarded(lambda: self._inner.log(point))

    def show(self, step: int, images: Mapping[str, Path]) -> None:
        self._call_guarded(lambda: self._inner.show(step, images))

    def keep(self, files: Mapping[str, Path]) -> None:
        self._call_guarded(lambda: self._inner.keep(files))

    def finish(self, quantities: Mapping[str, Quantity], images: Mapping[str, Path]) -> None:
        self._end(lambda: self._inner.finish(quantities, images))

    def abort(self) -> None:
        self._end(self._inner.abort)

    def _end(self, call: Callable[[], None]) -> None:
        if not self._ended:
            self._ended = True
            self._call_guarded(call)

    def _call_guarded(self, call: Callable[[], None]) -> None:
        if self._failed:
            return
        try:
            call()
        except Exception as error:  # any: no failure of a dashboard may cost a trial
            self._failed = True
            warn(f"{self._where} failed ({_line(error)}); the trial goes on without it, its record is complete")


def _line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
