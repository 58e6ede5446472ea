"""How a training can end: trained, diverged, or interrupted."""

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from harness.records.record import CurvePoint
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
    continued_from: tuple[int, ...]
    """The steps at which earlier attempts were continued."""
    notes: tuple[str, ...]
    """Sentences on what went wrong and was mended: an unreadable checkpoint."""
    peak_memory_bytes: int | None
    """The most that PyTorch's tensors took of the accelerator at once, in the last attempt and this process; None on a
    device that does not tell."""
    speed: Speed | None
    """Of the last attempt's steps, the median over its curve; None where it has fewer than two points behind them."""


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
    """The loss or the gradient became NaN or infinite, or the loss rose above `recipe.divergence` times the first."""

    def __init__(self, step: int, last_good_loss: float | None, curve: tuple[CurvePoint, ...], effort: Effort) -> None:
        super().__init__(step, last_good_loss, curve, effort)
        self.step, self.last_good_loss, self.curve, self.effort = step, last_good_loss, curve, effort

    def __str__(self) -> str:
        loss = "there was none" if self.last_good_loss is None else f"it was {self.last_good_loss:.4g}"
        return f"training diverged at step {self.step}; the last good loss: {loss}"


class Interrupted(Exception):  # noqa: N818
    """The process was asked to stop; everything up to `step` is in a checkpoint."""

    def __init__(self, step: int) -> None:
        super().__init__(step)
        self.step = step

    def __str__(self) -> str:
        return f"interrupted after step {self.step}, which is saved; run the same command again to continue"
