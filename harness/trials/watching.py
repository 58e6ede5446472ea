"""Pictures and scores of a network that is still being trained: a grid from always the same noise, and the study's
scores of fewer samples.

    ARTIFACTS/watched.json          what was seen at which step, and under which protocol it was scored
    ARTIFACTS/watched-00005000.png  the grid of that step

Several processes sample a share each, in the micro-batches that one would sample in; the first scores and writes. What
was seen is a function of the weights, so an attempt that goes on from an older checkpoint sees it again, and what lies
behind that checkpoint is forgotten first. The files outlive the attempts: each of them tells its tracker all of it, one
that looks at nothing itself too. What a look cannot have, memory or room on the disk, it says, and ends nothing.
"""

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import torch
from torch import Tensor, nn

from harness.measure.quality import quality
from harness.measure.quality_config import QualityConfig
from harness.measure.quality_reference import Reference
from harness.models.pixels import NotFiniteError
from harness.records.errors import UserError
from harness.records.plain import fingerprint, from_plain, to_plain
from harness.records.quantity import Failed, Measured, Quantity
from harness.records.store import write_atomic
from harness.training.parallel import World
from harness.trials.samples import write_grid

if TYPE_CHECKING:
    from harness.trials.tasks.denoise import Denoise

log = logging.getLogger(__name__)

T = TypeVar("T")

WATCHED = "watched.json"
GRID = "watched"
"""How the names of grids begin, and what dashboards call them."""
GRID_ROWS, GRID_COLUMNS = 5, 12

SAID = (NotFiniteError, torch.OutOfMemoryError, MemoryError, OSError, UserError)
"""What ends a look and no training: no numbers, no memory, no room on the disk."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """At one step."""

    step: int
    seconds: float
    scores: Mapping[str, Quantity] = field(default_factory=dict)
    grid: str | None = None
    """The file's name."""
    no_grid: Failed | None = None
    """Why there is none, where there should be one."""

    @property
    def values(self) -> dict[str, float]:
        """The scores that have one, by the names of curves: `watched.kid`."""
        return {f"watched.{name}": each.value for name, each in self.scores.items() if isinstance(each, Measured)}


@dataclass(frozen=True, kw_only=True, slots=True)
class Watched:
    """What `watched.json` holds."""

    protocol: str | None = None
    """A fingerprint of all that the scores depend on beside the trial's key; None where nothing was scored."""
    seen: tuple[Seen, ...] = ()


Keep: TypeAlias = Callable[[str], Path]
"""Where an artifact of that name lies."""
Hear: TypeAlias = Callable[[Seen], None]


class PictureWatcher:
    """See `harness.training.listeners.Watcher`. `hear` is told of everything that was seen."""

    def __init__(self, task: "Denoise", under: Mapping[str, Any], keep: Keep, hear: Hear) -> None:
        """`under` are conditions of the scores."""
        self.config, self.under, self.keep, self.hear = task.settings.watch, under, keep, hear
        self.task = task
        self.scored = None if self.config.score_every is None else _with(task, self.config.scored_by)
        self.watched = Watched()
        self.told, self.begun = 0, False  # up to this step; whether the training goes on from one

    def prepare(self) -> None:
        if self.scored is not None:
            _ = self.reference

    @cached_property
    def reference(self) -> Reference:
        """The study's own, so that one file serves both, with the watched scores."""
        assert self.scored is not None
        return replace(_with(self.task, self.config.referred_by).reference, config=self.scored.settings.quality)

    def begin(self, step: int, world: World) -> None:
        if not world.is_first:
            return
        before = _read(self.keep(WATCHED)) or Watched()
        protocol = before.protocol if self.scored is None else fingerprint(self.scored.scored_by, schema="watched-2")
        behind = [seen for seen in before.seen if seen.step <= step]
        if protocol != before.protocol:
            behind = [replace(seen, scores={}) for seen in behind if seen.grid is not None]
        self.watched, self.told = Watched(protocol=protocol, seen=tuple(behind)), min(self.told, step)
        if self.watched.seen != before.seen:
            self._write()
        for seen in before.seen if not self.begun else ():  # later it is made anew under the same names
            if seen.step > step and seen.grid is not None:
                self.keep(seen.grid).unlink(missing_ok=True)
        self.begun = True

    def retell(self, before: int) -> None:
        for seen in self.watched.seen:
            if self.told < seen.step < before:
                self._tell(seen)

    def is_due(self, step: int) -> bool:
        return self.config.shows_at(step) or self.config.scores_at(step)

    def has_seen(self, step: int) -> bool:
        return any(seen.step == step for seen in self.watched.seen)

    def look(self, step: int, network: nn.Module, world: World, is_asked_to_stop: Callable[[], bool]) -> None:
        started = time.perf_counter()
        shown = self.config.pictures if self.config.shows_at(step) else 0
        scored = self.scored.samples if self.scored is not None and self.config.scores_at(step) else 0
        labels = self.task.labels(max(shown, scored))
        shares = world.all(self._sampled(network, labels, world, is_asked_to_stop))
        if not world.is_first or any(share is None for share in shares):
            return
        failure = next((share for share in shares if isinstance(share, str)), None)
        parts = [share for share in shares if isinstance(share, Tensor)]
        grid = _made(lambda: self._grid(step, parts, labels[:shown]), failure) if shown else None
        scores = _made(lambda: self._scores(step, parts, labels[:scored]), failure) if scored else {}
        for failed in {each.message for each in (grid, scores) if isinstance(each, Failed)}:
            log.warning("not all was seen after step %d: %s", step, failed)
        self._keep_seen(
            Seen(
                step=step,
                seconds=round(time.perf_counter() - started, 3),
                scores=dict.fromkeys(self.config.metrics, scores) if isinstance(scores, Failed) else scores,
                grid=None if isinstance(grid, Failed) else grid,
                no_grid=grid if isinstance(grid, Failed) else None,
            )
        )

    def _sampled(
        self, network: nn.Module, labels: Tensor, world: World, is_asked_to_stop: Callable[[], bool]
    ) -> Tensor | str | None:
        """This process's pictures; None where it is asked to stop; why there are none."""
        size = self.task.settings.sampling.micro_batch
        parts = world.share(-(-len(labels) // size))
        own = range(parts.start * size, min(parts.stop * size, len(labels)))
        pictures = [torch.empty(0, *self.task.sizes.image, dtype=torch.uint8)]
        try:
            for _, images in self.task.batches(network, labels, own) if own else ():
                pictures.append(images)
                if is_asked_to_stop():
                    return None
        except SAID as error:
            return _sentence(error)
        return torch.cat(pictures)

    def _grid(self, step: int, parts: Sequence[Tensor], labels: Tensor) -> str:
        """Of the first pictures of all the parts; the name of its file."""
        name, images = f"{GRID}-{step:08d}.png", torch.cat([*parts])[: len(labels)]
        shown, columns = self.task.grid_of(images, labels, GRID_ROWS, GRID_COLUMNS)
        write_grid(shown, self.keep(name), columns=columns)
        return name

    def _scores(self, step: int, parts: Sequence[Tensor], labels: Tensor) -> dict[str, Quantity]:
        images = torch.cat([*parts])[: len(labels)]
        return quality(images, labels, self.reference, {**self.under, "step": step})

    def _keep_seen(self, seen: Seen) -> None:
        before = tuple(each for each in self.watched.seen if each.step < seen.step)
        self.watched = replace(self.watched, seen=(*before, seen))
        self._write()
        self._tell(seen)

    def _write(self) -> None:
        try:
            write_atomic(self.keep(WATCHED), json.dumps(to_plain(self.watched), indent=1).encode())
        except UserError as error:
            log.warning("%s; what was seen is written with the next look", error)

    def _tell(self, seen: Seen) -> None:
        self.told = seen.step
        self.hear(seen)


def _with(task: "Denoise", scoring: Callable[[QualityConfig], QualityConfig]) -> "Denoise":
    """The task under another scoring; itself, with what it has loaded, where that is its own."""
    own = task.settings.quality
    return task if scoring(own) == own else task.under(replace(task.settings, quality=scoring(own)))


def _made(make: Callable[[], T], failure: str | None) -> T | Failed:
    """What `make` makes, or why not."""
    try:
        if failure is None:
            return make()
    except SAID as error:
        failure = _sentence(error)
    return Failed(phase="watch", message=failure)


def _sentence(error: BaseException) -> str:
    said = " ".join(str(error).split())
    return f"out of memory: {said}" if isinstance(error, torch.OutOfMemoryError | MemoryError) else said


def _read(path: Path) -> Watched | None:
    """None where there is none, or no longer one."""
    try:
        return from_plain(Watched, json.loads(path.read_text()))
    except (FileNotFoundError, ValueError, UserError):
        return None
