"""The training loop. A run killed at any moment and called again ends, on the CPU, bit-identical to one never stopped.

Why it can: everything random is a function of (seed, step) (see `randomness`), and a checkpoint has the rest: weights,
averaged weights, optimiser moments, and the losses since the last point of the curve.
"""

import logging
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn

from harness.diffusion.flow_matching import Prompts, flow_matching_loss
from harness.models.parameters import weight_decays
from harness.records.errors import UserError
from harness.records.plain import fingerprint, identity
from harness.records.record import CurvePoint
from harness.training.batches import Batch, TrainingData, training_batches
from harness.training.checkpoint import Checkpoint, latest, named_tensors, restore, save
from harness.training.device import autocast, device_name, precision_name, resolve_device, resolve_precision
from harness.training.ema import Ema
from harness.training.outcomes import Diverged, Effort, Interrupted, Trained
from harness.training.randomness import stream_seed
from harness.training.recipe import Recipe
from harness.training.stopping import SigtermFlag
from harness.training.validation import validation_batches, validation_loss

log = logging.getLogger(__name__)

READ_AT_ONCE = ("cpu",)
"""Devices whose losses are read after every step; elsewhere that would wait for the device, so only when due."""

OnSteps: TypeAlias = Callable[[Literal["began", "saved", "ended"], int, int], None]
"""`began` AT AT: the first step is AT + 1; `saved` AFTER TO: these are in a checkpoint and never trained again;
`ended` AFTER TO: all that this call trained, however it ended."""


def train(
    model: nn.Module,
    data: TrainingData,
    prompts: Prompts,
    recipe: Recipe,
    *,
    architecture: str,
    seed: int,
    folder: Path,
    on_point: Callable[[CurvePoint], None] = lambda _point: None,
    on_progress: Callable[[int, int], None] = lambda _step, _of: None,
    on_steps: OnSteps = lambda _what, _after, _to: None,
) -> Trained:
    """Train `model` (initialised by the caller) by the recipe, or go on from the newest checkpoint in `folder`.

    `architecture` is the fingerprint of what the model is: networks of equal shapes can compute different things.

    `on_point` hears every point of the curve as it arises, first those of the checkpoint that it goes on from; after a
    kill it hears those behind the last checkpoint again, with equal values. `on_progress` hears (step, steps) after
    each step, `on_steps` which stretch of steps was trained and saved, so that a log of it proves that none was trained
    twice. Called again when all is done, it returns at once.

    Errors: Diverged; Interrupted on SIGTERM, after a checkpoint; UserError if the folder cannot be written, holds
    another training, or the device is missing.
    """
    device = resolve_device(recipe.device)
    with torch.random.fork_rng([device] if device.type == "cuda" else []), SigtermFlag() as stop:
        training = Training(
            model.to(device), data, prompts, recipe, architecture, seed, folder, device, on_point, on_steps
        )
        training.resume()
        began = training.step
        on_steps("began", began, began)
        try:
            for step, batch in enumerate(training.batches(), start=began + 1):
                training.advance(step, batch)
                on_progress(step, recipe.steps)
                if stop.requested:
                    training.save()
                    raise Interrupted(step)
            return training.result()
        finally:
            on_steps("ended", began, training.step)


class Training:
    """The state of a training after `step` steps, and how it gets from one step to the next."""

    def __init__(
        self,
        model: nn.Module,
        data: TrainingData,
        prompts: Prompts,
        recipe: Recipe,
        architecture: str,
        seed: int,
        folder: Path,
        device: torch.device,
        on_point: Callable[[CurvePoint], None],
        on_steps: OnSteps,
    ) -> None:
        self.model, self.data, self.prompts, self.recipe = model.train(), data, prompts.to(device), recipe
        self.architecture = architecture
        self.seed, self.folder, self.device, self.on_point, self.on_steps = seed, folder, device, on_point, on_steps
        self.precision = resolve_precision(recipe, device)
        self.ema = Ema(model)
        self.parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.optimizer = _adamw(model, recipe)
        self.validation = validation_batches(data, self.prompts, recipe.validation_images, recipe.batch_size, device)
        self.step = 0
        self.saved_step = 0
        self.curve: list[CurvePoint] = []
        self.unread: list[Tensor] = []  # (loss, gradient norm) of the newest steps, still on the device
        self.interval: list[tuple[float, float]] = []  # the same since the last point of the curve
        self.first_loss: float | None = None
        self.last_good_loss: float | None = None
        self.continued_from: list[int] = []
        self.notes: list[str] = []
        self.clock = _Clock(device)

    def batches(self) -> Any:
        return training_batches(self.data, self.prompts, self.recipe, self.seed, self.step + 1, self.device)

    def advance(self, step: int, batch: Batch) -> None:
        """One optimiser step, then what is due after it."""
        torch.manual_seed(stream_seed(self.seed, "module", step))  # for modules that draw, as dropout does
        self.unread.append(self._optimise(step, batch))
        self.step = step
        due = {name: self._due(name) for name in ("log_every", "validate_every", "checkpoint_every")}
        if self.device.type in READ_AT_ONCE or any(due.values()):
            self._read_losses()
        if due["log_every"]:
            self._log()
        if due["validate_every"]:
            self._validate()
        if due["checkpoint_every"]:
            self.save()

    def _due(self, setting: str) -> bool:
        return self._due_at(self.step, setting)

    def _due_at(self, step: int, setting: str) -> bool:
        return step == self.recipe.steps or step % getattr(self.recipe, setting) == 0

    def _optimise(self, step: int, batch: Batch) -> Tensor:
        """Forward, backward, clip, AdamW, EMA; (2,) the loss and the gradient's norm before clipping."""
        with autocast(self.device, self.precision):
            loss = flow_matching_loss(self.model, *batch.arguments())
        loss.backward()  # type: ignore[no-untyped-call]
        limit = math.inf if self.recipe.clip is None else self.recipe.clip
        norm = nn.utils.clip_grad_norm_(self.parameters, limit)
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.learning_rate_at(step)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.ema.update(self.model, self.recipe.ema_decay_at(step))
        return torch.stack([loss.detach(), norm])

    def _read_losses(self) -> None:
        """Move the newest losses to the host and stop at the first bad one."""
        if not self.unread:
            return
        values = torch.stack(self.unread).tolist()
        first_step = self.step - len(values) + 1
        self.unread.clear()
        for step, (loss, norm) in enumerate(values, start=first_step):
            self.first_loss = loss if self.first_loss is None else self.first_loss
            finite = math.isfinite(loss) and math.isfinite(norm)
            if not finite or loss > self.recipe.divergence * self.first_loss:
                raise self._diverged(step)
            self.last_good_loss = loss
            self.interval.append((loss, norm))

    def _log(self) -> None:
        """A point of the curve. Where only the last step asks for it, a longer training still needs the interval."""
        n = len(self.interval)
        self._point("train_loss", math.fsum(loss for loss, _ in self.interval) / n)
        self._point("gradient_norm", math.fsum(norm for _, norm in self.interval) / n)
        self._point("learning_rate", self.recipe.learning_rate_at(self.step))
        if self.step % self.recipe.log_every == 0:
            self.interval.clear()

    def _validate(self) -> None:
        if not self.validation:
            raise UserError("the data has no held-out images to validate on; raise the held-out share")
        loss = validation_loss(self.ema.model, self.validation)
        if not math.isfinite(loss):
            raise self._diverged(self.step)
        self._point("validation_loss", loss)

    def _diverged(self, step: int) -> Diverged:
        return Diverged(step, self.last_good_loss, tuple(self.curve), self._effort())

    def _point(self, name: str, value: float) -> None:
        point = CurvePoint(step=self.step, name=name, value=value)
        self.curve.append(point)
        self.on_point(point)

    def save(self) -> None:
        """Write a checkpoint of this step, unless there is one. A state that is not finite is never written."""
        self._read_losses()
        if self.saved_step == self.step:
            return
        tensors = named_tensors(self.model, "model.") | named_tensors(self.ema.model, "ema.")
        tensors |= _optimizer_tensors(self.optimizer)
        if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values()):
            raise self._diverged(self.step)
        save(self.folder, Checkpoint(step=self.step, tensors=tensors, state=self._state()))
        self.on_steps("saved", self.saved_step, self.step)
        self.saved_step = self.step

    def _state(self) -> dict[str, Any]:
        return {
            "identity": self._identity(self.step),
            "curve": [[point.step, point.name, point.value] for point in self.curve],
            "interval": self.interval,
            "first_loss": self.first_loss,
            "last_good_loss": self.last_good_loss,
            "continued_from": self.continued_from,
            "notes": self.notes,
            "seconds": self.clock.read(),
        }

    def resume(self) -> None:
        """Go on from the newest whole checkpoint, if there is one: of this training, or of a shorter one like it."""
        checkpoint, notes = latest(self.folder, at_most=self.recipe.steps)
        for note in notes:
            log.warning(note)
        if checkpoint is not None:
            self._restore(checkpoint)
            for point in self.curve:
                self.on_point(point)
        self.notes.extend(notes)

    def _restore(self, checkpoint: Checkpoint) -> None:
        state = checkpoint.state
        if state["identity"] != self._identity(checkpoint.step):
            raise UserError(
                f"{self.folder} holds a training of another model, recipe, data, seed or precision; choose another "
                "folder, or remove it to start anew"
            )
        restore(self.model, checkpoint.tensors, "model.")
        restore(self.ema.model, checkpoint.tensors, "ema.")
        _restore_optimizer(self.optimizer, checkpoint.tensors)
        self.step = self.saved_step = checkpoint.step
        self.curve = [
            CurvePoint(step=step, name=name, value=value)
            for step, name, value in state["curve"]
            if self._due_at(step, "validate_every" if name == "validation_loss" else "log_every")
        ]
        self.interval = [(loss, norm) for loss, norm in state["interval"]]
        self.first_loss, self.last_good_loss = state["first_loss"], state["last_good_loss"]
        self.notes = list(state["notes"])
        is_complete = checkpoint.step == self.recipe.steps
        self.continued_from = [*state["continued_from"], *([] if is_complete else [checkpoint.step])]
        self.clock = _Clock(self.device, state["seconds"])

    def _identity(self, step: int) -> str:
        """What a checkpoint of `step` must have in common with a training that goes on from it."""
        weights = {name: list(tensor.shape) for name, tensor in self.model.state_dict().items()}
        recipe: Any = identity(self.recipe)
        if self.recipe.is_extendable_at(step):
            recipe = {name: value for name, value in recipe.items() if name != "steps"}
        parts = [recipe, str(self.precision), self.seed, self.data.fingerprint, self.architecture, weights]
        return fingerprint(parts, schema="training-4")

    def result(self) -> Trained:
        validation = [point.value for point in self.curve if point.name == "validation_loss"]
        return Trained(
            model=self.ema.model,
            curve=tuple(self.curve),
            validation_loss=validation[-1],
            steps=self.step,
            effort=self._effort(),
        )

    def _effort(self) -> Effort:
        seconds = self.clock.read()
        return Effort(
            device=device_name(self.device),
            precision=precision_name(self.precision),
            seconds=seconds["wall"],
            cpu_seconds=seconds["cpu"],
            gpu_seconds=seconds["gpu"],
            continued_from=tuple(self.continued_from),
            notes=tuple(self.notes),
        )


class _Clock:
    """Seconds used: by earlier attempts up to their checkpoints, and since."""

    def __init__(self, device: torch.device, earlier: Mapping[str, float] | None = None) -> None:
        self.earlier = earlier or {"wall": 0.0, "cpu": 0.0, "gpu": 0.0}
        self.on_gpu = device.type != "cpu"
        self.wall, self.cpu = time.perf_counter(), time.process_time()

    def read(self) -> dict[str, float]:
        wall, cpu = time.perf_counter() - self.wall, time.process_time() - self.cpu
        since = {"wall": wall, "cpu": cpu, "gpu": wall if self.on_gpu else 0.0}
        return {name: self.earlier[name] + value for name, value in since.items()}


def _adamw(model: nn.Module, recipe: Recipe) -> torch.optim.AdamW:
    """AdamW (arXiv 1711.05101); weight decay on kernels and matrices, as `weight_decays` tells them from the rest."""
    decays = weight_decays(model)
    trained = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for name, p in trained if decays[name]], "weight_decay": recipe.weight_decay},
        {"params": [p for name, p in trained if not decays[name]], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=recipe.betas, fused=True)


def _optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """`optimizer.NUMBER.NAME` -> tensor, on the CPU."""
    state = optimizer.state_dict()["state"]
    return {
        f"optimizer.{number}.{name}": tensor.cpu().contiguous()
        for number, tensors in state.items()
        for name, tensor in tensors.items()
    }


def _restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    states: dict[int, dict[str, Tensor]] = {}
    for path, tensor in tensors.items():
        if path.startswith("optimizer."):
            _, number, name = path.split(".")
            states.setdefault(int(number), {})[name] = tensor.clone()
    optimizer.load_state_dict({"state": states, "param_groups": optimizer.state_dict()["param_groups"]})
