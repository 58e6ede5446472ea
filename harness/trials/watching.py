"""Pictures and scores of a network that is still being trained: a grid from always the same noise, and the study's
scores of fewer samples.

    ARTIFACTS/watched.json          what was seen at which step, under which protocol
    ARTIFACTS/watched-00005000.png  the grid of that step

Several processes sample a share each, in the micro-batches that one would sample in; the first scores and writes. What
was seen is a function of the weights, so an attempt that goes on from an older checkpoint sees it again, and what lies
behind that checkpoint is forgotten first. The files outlive the attempts: each of them tells its tracker all of it.
"""

import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor, nn

from harness.measure.quality import quality
from harness.models.pixels import NotFiniteError
from harness.records.errors import UserError
from harness.records.plain import fingerprint, from_plain, to_plain
from harness.records.quantity import Failed, Measured, Quantity
from harness.records.store import write_atomic
from harness.training.parallel import World
from harness.trials.samples import by_class, write_grid

if TYPE_CHECKING:
    from harness.trials.tasks.denoise import Denoise

log = logging.getLogger(__name__)

WATCHED = "watched.json"
GRID = "watched"
"""How the names of grids begin, and what dashboards call them."""
GRID_ROWS, GRID_COLUMNS = 5, 12


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """At one step."""

    step: int
    seconds: float
    scores: Mapping[str, Quantity] = field(default_factory=dict)
    grid: str | None = None
    """The file's name."""

    @property
    def values(self) -> dict[str, float]:
        """The scores that have one, by the names of curves: `watched.kid`."""
        return {f"watched.{name}": each.value for name, each in self.scores.items() if isinstance(each, Measured)}


@dataclass(frozen=True, kw_only=True, slots=True)
class Watched:
    """What `watched.json` holds."""

    protocol: str
    """A fingerprint of all that it depends on beside the weights."""
    seen: tuple[Seen, ...] = ()


Keep: TypeAlias = Callable[[str], Path]
"""Where an artifact of that name lies."""
Hear: TypeAlias = Callable[[Seen], None]


class PictureWatcher:
    """See `harness.training.listeners.Watcher`. `hear` is told of everything that was seen."""

    def __init__(self, task: "Denoise", under: Mapping[str, Any], keep: Keep, hear: Hear) -> None:
        """`under` are conditions of the scores."""
        settings = task.settings
        self.config, self.under, self.keep, self.hear = settings.watch, under, keep, hear
        self.task = task.under(replace(settings, quality=self.config.scored_by(settings.quality)))
        sections = {**self.task.trained_on, **self.task.scored_by}
        self.watched = Watched(protocol=fingerprint(sections, schema="watched-1"))
        self.told, self.begun = 0, False  # up to this step; whether the training goes on from one

    def begin(self, step: int, world: World) -> None:
        if not world.is_first:
            return
        found = _read(self.keep(WATCHED))
        before = () if found is None else found.seen
        same = found is not None and found.protocol == self.watched.protocol
        kept = tuple(seen for seen in before if same and seen.step <= step)
        self.watched, self.told = replace(self.watched, seen=kept), min(self.told, step)
        if kept != before:
            self._write()
        for seen in before if not self.begun else ():  # later it is made anew under the same names
            if seen not in kept and seen.grid is not None:
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
        scored = self.task.samples if self.config.scores_at(step) else 0
        labels = self.task.labels(max(shown, scored))
        shares = world.all(self._sampled(network, labels, world, is_asked_to_stop))
        if not world.is_first or any(share is None for share in shares):
            return
        failure = next((share for share in shares if isinstance(share, str)), None)
        if failure is None:
            images = torch.cat([share for share in shares if isinstance(share, Tensor)])
            grid = self._grid(step, images[:shown], labels[:shown]) if shown else None
            scores = self._scores(step, images[:scored], labels[:scored]) if scored else {}
        else:
            log.warning("nothing was seen after step %d: %s", step, failure)
            grid = None
            scores = dict.fromkeys(self.config.metrics if scored else (), Failed(phase="watch", message=failure))
        self._keep_seen(Seen(step=step, seconds=round(time.perf_counter() - started, 3), scores=scores, grid=grid))

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
        except NotFiniteError as error:
            return str(error)
        return torch.cat(pictures)

    def _grid(self, step: int, images: Tensor, labels: Tensor) -> str:
        """The name of its file."""
        name = f"{GRID}-{step:08d}.png"
        shown, columns = by_class(images, labels, rows=GRID_ROWS, most_columns=GRID_COLUMNS)
        write_grid(shown, self.keep(name), columns=columns)
        return name

    def _scores(self, step: int, images: Tensor, labels: Tensor) -> dict[str, Quantity]:
        return quality(images, labels, self.task.reference, {**self.under, "step": step})

    def _keep_seen(self, seen: Seen) -> None:
        before = tuple(each for each in self.watched.seen if each.step < seen.step)
        self.watched = replace(self.watched, seen=(*before, seen))
        self._write()
        self._tell(seen)

    def _write(self) -> None:
        write_atomic(self.keep(WATCHED), json.dumps(to_plain(self.watched), indent=1).encode())

    def _tell(self, seen: Seen) -> None:
        self.told = seen.step
        self.hear(seen)


def _read(path: Path) -> Watched | None:
    """None where there is none, or no longer one."""
    try:
        return from_plain(Watched, json.loads(path.read_text()))
    except (FileNotFoundError, ValueError, UserError):
        return None
