"""How a model is trained: every setting, checked when it is made. No torch at import."""

import math
from dataclasses import dataclass, field
from typing import Literal

from harness.records.errors import UserError
from harness.records.plain import IDENTITY_UNLESS_DEFAULT, NOT_IDENTITY

SPIKE_WINDOW = 20
ROUNDED_OTHERWISE = ("compile", "channels_last", "cuda_graph")


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    steps: int
    """The budget: optimiser steps."""
    batch_size: int
    """Images a step."""
    learning_rate: float = 1e-3
    """AdamW's peak learning rate."""
    schedule: Literal["constant", "cosine", "inverse_sqrt"] = "constant"
    """After the warm-up: stay at the peak; fall as half a cosine that would reach 0 one step after the last; or stay
    until `decay_start` and fall as 1 / sqrt(step) from there (Karras et al. 2024, arXiv 2312.02696, appendix B)."""
    decay_start: int | None = field(default=None, metadata=IDENTITY_UNLESS_DEFAULT)
    """The last step at the peak with schedule=inverse_sqrt, which needs one; null with the others."""
    cooldown: float = 0.0
    """The last share of the steps, over which the learning rate falls as 1 - sqrt (Hägele et al. 2024, arXiv
    2405.18392, section 3): warm-up, stable, decay. 0 leaves it as the schedule has it; a cosine takes none."""
    warmup_steps: int = 0
    """Steps over which the learning rate rises linearly."""
    betas: tuple[float, float] = (0.9, 0.99)
    """AdamW's decay rates of the first and second moments."""
    weight_decay: float = 0.0
    """AdamW's decoupled decay, on kernels and matrices; not on norms, biases, embeddings and positions."""
    clip: float | None = 1.0
    """The largest norm of the whole gradient; null does not clip."""
    ema_decay: float = 0.999
    """Decay a step of the averaged weights, at most; see `ema_warmup`."""
    ema_warmup: float = 9.0
    """While `ema_decay` is larger, the decay at step n is (1 + n) / (1 + n + ema_warmup): the average then spans about
    the last n / ema_warmup steps."""
    ema_spans: tuple[float, ...] = field(default=(), metadata=NOT_IDENTITY)
    """Spans of further averages, of which snapshots are kept: an average of any span can be made of those of two, such
    as [0.05, 0.1], once training is over (`harness.training.ema`). They take as much memory as the network, each."""
    ema_snapshot_every: int = field(default=1000, metadata=NOT_IDENTITY)
    """Steps between those snapshots; the last step has one."""
    depthwise_gain: float = 1.0
    """Depthwise kernels start as PyTorch's times this. Each of PyTorch's layers keeps a third of its input's variance,
    and a separable convolution is two layers; the square root of 3 has the depthwise one keep all of it."""
    cfg_dropout: float = 0.1
    """Probability that an image's prompt is replaced by the empty one, for classifier-free guidance."""
    noise: Literal["host", "indexed"] = field(default="host", metadata=IDENTITY_UNLESS_DEFAULT)
    """What draws times and noise. host: generators on the CPU, where every process draws the whole batch's; indexed: a
    function of each sample's number, on the device, for batches that take long to draw."""
    precision: Literal["float32", "bfloat16", "auto"] = "float32"
    """Of the forward pass; weights stay float32. `auto`: bfloat16 where the device computes in it, else float32; which
    of the two is decided where a study begins and is part of its trials' identity."""
    divergence: float = 20.0
    """Training stops as diverged when a step's loss is above this multiple of the first step's, unless `spike` calls
    that step bad before."""
    spike: float | None = field(default=None, metadata=IDENTITY_UNLESS_DEFAULT)
    """A step is bad when its loss is above this multiple of the median of the last `spike_window` good steps', as it is
    when a loss or a gradient's norm is not finite; null: no such rule."""
    spike_window: int = field(default=SPIKE_WINDOW, metadata=IDENTITY_UNLESS_DEFAULT)
    """Steps that `spike` compares with; before there are so many it calls none bad. The default where there is none."""
    max_rollbacks: int = field(default=0, metadata=IDENTITY_UNLESS_DEFAULT)
    """How often a training goes back to the checkpoint before a bad step, and on without that step's batch. After the
    next bad step it has diverged; with 0 after the first (`harness.training.guard`)."""
    log_every: int = 10
    """Steps between the points of the training curve; a point of `train_loss` is the mean over them."""
    validate_every: int = 100
    """Steps between validations of the averaged weights; the last step is always validated."""
    validation_images: int = 256
    """Held-out images in the validation loss, at most."""
    checkpoint_every: int = field(default=500, metadata=NOT_IDENTITY)
    """Steps between checkpoints. A continued run ends bit-identical whatever this is."""
    checkpoints_kept: int = field(default=2, metadata=NOT_IDENTITY)
    """How many of the newest checkpoints stay: one is there to go on from, others in case the disk damages it."""
    keep_checkpoint_every: int | None = field(default=None, metadata=NOT_IDENTITY)
    """Of its multiples of steps, checkpoints stay as long as the training's folder does; null: of none."""
    device: Literal["auto", "cpu", "cuda", "mps"] = field(default="auto", metadata=NOT_IDENTITY)
    """Where to train; `auto` is CUDA, else MPS, else the CPU. Recorded with the result, not part of its identity."""
    micro_batch: int | Literal["auto"] | None = field(default=None, metadata=NOT_IDENTITY)
    """Images computed together, whose gradients are added up to the batch's: less memory, the same training beyond
    rounding. null: the whole batch; `auto`: that, and half as many whenever memory does not suffice."""
    gradient_checkpointing: bool = field(default=False, metadata=NOT_IDENTITY)
    """Recompute every UNet block in the backward pass instead of keeping what it made: less memory, about a third more
    time, the same gradients."""
    compile: bool = field(default=False, metadata=NOT_IDENTITY)
    """Every block by `torch.compile`, in training; what it saves, and how long compiling takes, was not measured. The
    same function, rounded otherwise: in another order, and where operators are fused less often, since what is between
    them stays float32 in bfloat16 too. As the device it is recorded, and no part of the identity."""
    channels_last: bool = field(default=False, metadata=NOT_IDENTITY)
    """Kernels in the order (out, height, width, in), which tensor cores read as it is: other kernels of the same
    function, which add in another order. Recorded likewise."""
    cuda_graph: bool = field(default=False, metadata=NOT_IDENTITY)
    """On CUDA, in one process: a step's kernels are recorded once and replayed, which spares small networks the time
    that a processor takes to hand them over. The same kernels on the same numbers; recorded likewise."""
    data_workers: int = field(default=0, metadata=NOT_IDENTITY)
    """Processes that read images which do not fit in memory; 0 reads them in the training process."""

    def __post_init__(self) -> None:
        for name in _COUNTS:
            _check(getattr(self, name) >= 1, name, "at least 1", getattr(self, name))
        every = self.keep_checkpoint_every
        _check(every is None or every >= 1, "keep_checkpoint_every", "at least 1, or null", every)
        _check(self.spike is None or 1 < self.spike < math.inf, "spike", "a number above 1, or null", self.spike)
        for name in ("warmup_steps", "data_workers", "max_rollbacks"):
            _check(getattr(self, name) >= 0, name, "0 or more", getattr(self, name))
        _check(0 < self.learning_rate < math.inf, "learning_rate", "a number above 0", self.learning_rate)
        _check(1 < self.divergence < math.inf, "divergence", "a number above 1", self.divergence)
        _check(self.clip is None or 0 < self.clip < math.inf, "clip", "above 0, or null", self.clip)
        _check(0 <= self.weight_decay < math.inf, "weight_decay", "from 0", self.weight_decay)
        _check(0 <= self.cfg_dropout <= 1, "cfg_dropout", "from 0 to 1", self.cfg_dropout)
        _check(0 <= self.ema_decay < 1, "ema_decay", "from 0 to below 1", self.ema_decay)
        _check(1 <= self.ema_warmup < math.inf, "ema_warmup", "from 1", self.ema_warmup)
        rule = f"different spans above 0 and below {_WIDEST_SPAN:.4f}, to three digits behind the point"
        digits = {f"{span:.3f}" for span in self.ema_spans if 0.001 <= span < _WIDEST_SPAN and round(span, 3) == span}
        _check(len(digits) == len(self.ema_spans), "ema_spans", rule, list(self.ema_spans))
        _check(0 < self.depthwise_gain < math.inf, "depthwise_gain", "a number above 0", self.depthwise_gain)
        _check(0 <= self.cooldown < 1, "cooldown", "from 0 to below 1", self.cooldown)
        _check(all(0 <= beta < 1 for beta in self.betas), "betas", "two numbers from 0 to below 1", self.betas)
        if self.micro_batch not in (None, "auto"):
            fits = isinstance(self.micro_batch, int) and 1 <= self.micro_batch <= self.batch_size
            rule = f"from 1 to recipe.batch_size={self.batch_size}, auto or null"
            _check(fits, "micro_batch", rule, self.micro_batch)
        for name, choices in _CHOICES.items():
            _check(getattr(self, name) in choices, name, f"one of {', '.join(choices)}", getattr(self, name))
        _check(self.cooldown == 0 or self.schedule != "cosine", "cooldown", "0 with a cosine", self.cooldown)
        if self.schedule == "inverse_sqrt":
            _check((self.decay_start or 0) >= 1, "decay_start", "a step from 1 with inverse_sqrt", self.decay_start)
        else:
            _check(self.decay_start is None, "decay_start", f"null with schedule={self.schedule}", self.decay_start)
        compares = self.spike is not None or self.spike_window == SPIKE_WINDOW
        _check(compares, "spike_window", f"{SPIKE_WINDOW} with spike=null, which compares nothing", self.spike_window)

    def learning_rate_at(self, step: int) -> float:
        """The learning rate of step `step`, counted from 1."""
        if step <= self.warmup_steps:
            return self.learning_rate * step / self.warmup_steps
        if self.schedule != "cosine":
            falling = max(0, step - self.stable_steps) / (self.steps - self.stable_steps + 1)
            kept = 1.0 if self.decay_start is None else math.sqrt(self.decay_start / max(self.decay_start, step))
            return self.learning_rate * kept * (1 - math.sqrt(falling))
        progress = (step - self.warmup_steps) / max(1, self.steps - self.warmup_steps + 1)
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))

    @property
    def stable_steps(self) -> int:
        """The last step before the cool-down."""
        return self.steps - round(self.cooldown * self.steps)

    @property
    def is_extendable(self) -> bool:
        """Whether training by it to its end is, step by step, the beginning of training with more `steps`."""
        return self.is_extendable_at(self.steps)

    @property
    def most_checkpoints(self) -> int:
        """How many of them a training may have at once, beside one that is being written."""
        return self.checkpoints_kept + self.steps // (self.keep_checkpoint_every or self.steps + 1)

    @property
    def rounded_otherwise(self) -> dict[str, bool]:
        """The settings by which the same training is rounded otherwise, where they are on: conditions of all that it
        finds, and no part of its identity."""
        return {name: True for name in ROUNDED_OTHERWISE if getattr(self, name)}

    @property
    def named_schedule(self) -> str:
        """The settings that say where the learning rate falls, as they are written."""
        return f"recipe.cooldown={self.cooldown:g}" if self.cooldown else f"recipe.schedule={self.schedule}"

    def is_extendable_at(self, step: int) -> bool:
        """Whether the state after `step` is one that every longer training by it comes through: one with a cool-down
        does before it begins."""
        return self.schedule != "cosine" and step <= self.stable_steps

    def ema_decay_at(self, step: int) -> float:
        """The decay of the averaged weights after step `step`, counted from 1."""
        return min(self.ema_decay, (1 + step) / (1 + step + self.ema_warmup))


_COUNTS = (
    "steps", "batch_size", "log_every", "validate_every", "validation_images", "checkpoint_every", "checkpoints_kept",
    "ema_snapshot_every", "spike_window",
)  # fmt: skip
_WIDEST_SPAN = 12**-0.5  # of the plain mean
_CHOICES = {
    "schedule": ("constant", "cosine", "inverse_sqrt"),
    "noise": ("host", "indexed"),
    "precision": ("float32", "bfloat16", "auto"),
    "device": ("auto", "cpu", "cuda", "mps"),
}


def check_recordable(recipe: Recipe, device: str, processes: int) -> None:
    """UserError where `recipe.cuda_graph` is on and a step cannot be recorded on a device of that kind; with `auto`,
    which is not known yet, the rest is checked."""
    if not recipe.cuda_graph:
        return
    if device not in ("auto", "cuda"):
        raise UserError(f"recipe.cuda_graph records what CUDA computes, and this training is on {device}; leave it out")
    if processes > 1:
        raise UserError(
            f"recipe.cuda_graph records what one process computes, and {processes} share this training; leave it out"
        )
    if recipe.gradient_checkpointing:
        raise UserError("recipe.cuda_graph records no block that is computed twice; leave out gradient_checkpointing")


def _check(holds: bool, name: str, rule: str, value: object) -> None:
    if not holds:
        raise UserError(f"recipe.{name} must be {rule}, not {value!r}")
