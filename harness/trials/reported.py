"""What a running training reports of itself, and how people are told of it."""

import time
from dataclasses import dataclass, field
from typing import Any

from harness.launch.events import Progress
from harness.records.eta import duration
from harness.records.record import CurvePoint
from harness.training.speed import Speed


@dataclass(kw_only=True, slots=True)
class Latest:
    """In the training's process: what it found last."""

    speed: Speed | None = None
    processes: int = 1
    points: dict[str, CurvePoint] = field(default_factory=dict)
    """By name: the validation loss and the scores."""
    began: tuple[int, float] | None = None

    def at(self, step: int, steps: int) -> dict[str, Any]:
        """Fields of Progress after that step. How long the rest takes is told from all that this attempt did so far:
        steps, and what there was between them."""
        if self.began is None:
            self.began = (step, time.monotonic())
        first, since = self.began
        left = None if step <= first else (time.monotonic() - since) / (step - first) * (steps - step)
        return {
            "seconds_left": left,
            "images_per_second": None if self.speed is None else self.speed.images_per_second,
            "model_flops_utilisation": None if self.speed is None else self.speed.mfu,
            "processes": self.processes,
            "newest": tuple(self.points.values()),
        }


def stage_text(progress: Progress) -> str:
    """`train 40/1,000`."""
    return f"{progress.phase} {progress.step:,}/{progress.of:,}" if progress.of > 1 else progress.phase


def speed_text(progress: Progress) -> str:
    """`1,230 images/s, MFU 41.2%`; empty where it is not known."""
    if progress.images_per_second is None:
        return ""
    return str(Speed(images_per_second=progress.images_per_second, mfu=progress.model_flops_utilisation))


def left_text(progress: Progress) -> str:
    """`12 min left`, of the phase, at the time of the report."""
    return "" if progress.seconds_left is None else f"{duration(progress.seconds_left)} left"


def newest_text(progress: Progress) -> str:
    """`validation loss 0.1234 at 40, KID 0.05 at 20`: KID of `watched.kid`."""
    named = ((point.name.removeprefix("watched."), point) for point in progress.newest)
    return ", ".join(f"{name.replace('_', ' ')} {point.value:.4g} at {point.step:,}" for name, point in named)
