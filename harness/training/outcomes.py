"""How a training can end: trained, diverged, or interrupted; and what it used."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from harness.records.record import CurvePoint
from harness.training.parallel import World
from harness.training.speed import Speed


@dataclass(frozen=True, kw_only=True, slots=True)
class Effort:
    """What a training ran on and used, however it ended."""

    device: str
    """What it ran on: `cpu`, or the accelerator's name."""
    precision: str
    """`float32` or `bfloat16`: what `auto` became."""
    seconds: float
    """Wall time of all attempts; what an attempt did after its last checkpoint is not known and not in it."""
    cpu_seconds: float
    """Processor time of the training processes, likewise."""
    gpu_seconds: float
    """Wall time on an accelerator, likewise; 0 on the CPU."""
    look_seconds: float
    """Of `seconds`, what looks at the network took, those that were broken off too."""
    continued_from: tuple[int, ...]
    """The steps at which earlier attempts were continued."""
    notes: tuple[str, ...]
    """Sentences on what went wrong and was mended: an unreadable checkpoint, a batch that was left out."""
    peak_memory_bytes: int | None
    """The most that PyTorch's tensors took of the accelerator at once, in the last attempt and this process; None on a
    device that does not tell."""
    speed: Speed | None
    """Of the last attempt's steps, the median over its curve; None where it has fewer than two points behind them."""


class Clock:
    """Seconds used: by earlier attempts up to their checkpoints, and since."""

    def __init__(self, device: torch.device, earlier: Mapping[str, float] | None = None) -> None:
        self.earlier = {"wall": 0.0, "cpu": 0.0, "gpu": 0.0, "looks": 0.0, **(earlier or {})}
        self.on_gpu, self.looks = device.type != "cpu", 0.0
        self.wall, self.cpu = time.perf_counter(), time.process_time()

    @contextmanager
    def looking(self) -> Iterator[None]:
        """Inside, the training waits for a look at its network."""
        began = time.perf_counter()
        yield
        self.looks += time.perf_counter() - began

    def read(self, world: World) -> dict[str, float]:
        """Wall time of this process, and what of it were looks; what all of them used of processors and accelerators.
        All must ask."""
        wall, cpu = time.perf_counter() - self.wall, time.process_time() - self.cpu
        used = world.mean(torch.tensor([cpu, wall if self.on_gpu else 0.0], dtype=torch.float64)) * world.size
        since = dict(zip(("wall", "looks", "cpu", "gpu"), (wall, self.looks, *used.tolist()), strict=True))
        return {name: self.earlier[name] + value for name, value in since.items()}


@dataclass(frozen=True, kw_only=True, slots=True)
class Trained:
    model: nn.Module
    """With the averaged (EMA) weights, in evaluation mode, on the training's device."""
    snapshots: tuple[Path, ...]
    """The files of averages that `recipe.ema_spans` asked for; `harness.training.post_hoc` reads them."""
    curve: tuple[CurvePoint, ...]
    """train_loss (mean over the log interval), gradient_norm (likewise), learning_rate, validation_loss (EMA)."""
    validation_loss: float
    """Of the averaged weights after the last step."""
    steps: int
    effort: Effort


class Diverged(Exception):  # noqa: N818 (a state of a trial, not a programming error)
    """A bad step that the recipe has no going back from: see `harness.training.guard`."""

    def __init__(
        self,
        step: int,
        reason: str,
        last_good_loss: float | None,
        curve: tuple[CurvePoint, ...],
        effort: Effort,
        left_out: tuple[int, ...] = (),
    ) -> None:
        super().__init__(step, reason, last_good_loss, curve, effort, left_out)
        self.step, self.reason, self.last_good_loss = step, reason, last_good_loss
        self.curve, self.effort, self.left_out = curve, effort, left_out

    def __str__(self) -> str:
        loss = "there was none" if self.last_good_loss is None else f"it was {self.last_good_loss:.4g}"
        said = f"training diverged at step {self.step} ({self.reason}); the last good loss: {loss}"
        if not self.left_out:
            return said
        return f"{said}; left out before, as bad too: the batches of steps {', '.join(map(str, self.left_out))}"


class Interrupted(Exception):  # noqa: N818
    """The process was asked to stop; everything up to `step` is in a checkpoint."""

    def __init__(self, step: int) -> None:
        super().__init__(step)
        self.step = step

    def __str__(self) -> str:
        return f"interrupted after step {self.step}, which is saved; run the same command again to continue"
