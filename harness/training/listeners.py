"""Who hears of a training while it runs, and who looks at its averaged weights. None of them changes a bit of it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeAlias

from torch import nn

from harness.records.record import CurvePoint
from harness.training.parallel import World
from harness.training.speed import Speed


class Watcher(Protocol):
    """Looks at the network at some steps. All processes of a training have one and look together."""

    def prepare(self) -> None:
        """Compute what may take long, in the first process before there are others that would wait for it."""
        ...

    def begin(self, step: int, world: World, /) -> None:
        """The training goes on after that step: forget what was seen behind it, which will be seen again."""
        ...

    def retell(self, before: int, /) -> None:
        """Tell what earlier attempts saw before that step, in order and each once."""
        ...

    def is_due(self, step: int, /) -> bool: ...

    def has_seen(self, step: int, /) -> bool:
        """Asked of the first process."""
        ...

    def look(self, step: int, network: nn.Module, world: World, is_asked_to_stop: Callable[[], bool], /) -> None:
        """At the averaged weights after that step, whole in every process. Once one of them is asked to stop it returns
        soon, without having seen anything."""
        ...


class NoWatcher:
    def prepare(self) -> None:
        pass

    def begin(self, _step: int, _world: World) -> None:
        pass

    def retell(self, _before: int) -> None:
        pass

    def is_due(self, _step: int) -> bool:
        return False

    def has_seen(self, _step: int) -> bool:
        return False

    def look(self, *_: object) -> None:
        pass


OnSteps: TypeAlias = Callable[[Literal["began", "saved", "ended"], int, int], None]
"""`began` AT AT: the first step is AT + 1; `saved` AFTER TO: these are in a checkpoint and never trained again, as the
thread says that wrote it; `ended` AFTER TO: all that this call trained, however it ended."""


def _unheard(*_: object) -> None:
    pass


@dataclass(frozen=True, kw_only=True, slots=True)
class Listeners:
    on_point: Callable[[CurvePoint], None] = _unheard
    """Every point of the curve as it arises, first those of the checkpoint that the training goes on from; after a kill
    those behind the last checkpoint again, with equal values."""
    on_progress: Callable[[int, int], None] = _unheard
    """(step, steps) after each step."""
    on_look: Callable[[int, int], None] = _unheard
    """(step, steps) before each look."""
    on_speed: Callable[[int, Speed], None] = _unheard
    """With the points of the curve (step, how fast the newest ones were), where that is known."""
    on_steps: OnSteps = _unheard
    """Which stretch of steps was trained and saved, so that a log of it proves that none was trained twice."""
    watcher: Watcher = field(default_factory=NoWatcher)
    """Where it is due, after that step's checkpoint is begun; in a training that goes on from a step that an earlier
    attempt did not get to look at, there first."""

    def of_process(self, world: World) -> "Listeners":
        """All look, and the first alone is heard."""
        return self if world.is_first else Listeners(watcher=self.watcher)
