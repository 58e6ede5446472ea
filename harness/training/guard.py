"""What is a bad step, and what a training does about it.

    bad       a loss or a gradient's norm is not finite; or the loss is above `recipe.spike` times the median of the
              losses of the last `recipe.spike_window` good steps, once there are so many
    then      back to the newest checkpoint before that step, and on without it: its batch is drawn and left out, the
              weights stand still, the count of steps goes on; at most `recipe.max_rollbacks` times, with those of
              earlier attempts
    the end   a bad step beyond those; or a loss above `recipe.divergence` times the first step's, which no batch is to
              blame for

A multiple is one of what is above 0: a loss that may be below it, as a generator's is, is held against none.

Which steps are left out is a function of the training's identity, as all else is: one that is killed at any moment
finds the same ones again. Where checkpoints lie decides only how much is repeated.
"""

import math
from collections import deque
from collections.abc import Mapping
from statistics import median
from typing import Any

from harness.training.recipe import Recipe


class BadStepError(Exception):
    """A step whose update must not stay; `is_last` where there is no going back from it."""

    def __init__(self, step: int, reason: str, *, is_last: bool = False) -> None:
        super().__init__(step, reason)
        self.step, self.reason, self.is_last = step, reason, is_last


class Guard:
    """Hears each step's losses and gradient norms in turn, equal in all processes, and keeps what the rule is about."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.first_loss: float | None = None
        self.last_good_loss: float | None = None
        self.recent: deque[float] = deque(maxlen=recipe.spike_window)
        """Losses of the newest good steps."""
        self.left_out: tuple[int, ...] = ()
        """The steps whose batches are."""

    def check(self, step: int, values: Mapping[str, float]) -> None:
        """Raises BadStepError."""
        loss = values["train_loss"]
        self.first_loss = loss if self.first_loss is None else self.first_loss
        if (reason := self._fault(values)) is not None:
            raise BadStepError(step, reason, is_last=len(self.left_out) >= self.recipe.max_rollbacks)
        if loss > self.recipe.divergence * self.first_loss > 0:
            reason = f"train_loss is {loss:.4g}, above {self.recipe.divergence:g} times the first"
            raise BadStepError(step, reason, is_last=True)
        self.last_good_loss = loss
        self.recent.append(loss)

    def _fault(self, values: Mapping[str, float]) -> str | None:
        odd = next((name for name, value in values.items() if not math.isfinite(value)), None)
        if odd is not None:
            return f"{odd} is {values[odd]}"
        if self.recipe.spike is None or len(self.recent) < self.recipe.spike_window:
            return None
        usual, loss = median(self.recent), values["train_loss"]
        if loss <= self.recipe.spike * usual or usual <= 0:
            return None
        return f"train_loss is {loss:.4g}, above {self.recipe.spike:g} times the {usual:.4g} of the steps before"

    def state(self) -> dict[str, Any]:
        """Plain JSON."""
        losses = {"first_loss": self.first_loss, "last_good_loss": self.last_good_loss, "recent": list(self.recent)}
        return {**losses, "left_out": list(self.left_out)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """What is left out stays so, also where the state does not know of it yet."""
        self.first_loss, self.last_good_loss = state["first_loss"], state["last_good_loss"]
        self.recent = deque(state["recent"], maxlen=self.recipe.spike_window)
        self.left_out = tuple(sorted({*self.left_out, *state["left_out"]}))

    def leave_out(self, step: int) -> None:
        self.left_out = tuple(sorted({*self.left_out, step}))
