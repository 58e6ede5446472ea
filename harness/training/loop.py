"""The training loop. A run killed at any moment and called again ends, on the CPU, bit-identical to one never stopped.

Why it can: everything random is a function of (seed, step) (see `randomness`), and a checkpoint has the rest: weights,
averaged weights, optimiser moments, what the objective trains beside the network, and the losses since the last point
of the curve.
"""

import contextlib
import copy
import logging
import math
from collections.abc import Generator
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from harness.records.errors import UserError
from harness.records.plain import Plain, fingerprint, identity
from harness.records.record import CurvePoint
from harness.training.batches import AHEAD, TrainingData, made_ahead, training_rows
from harness.training.checkpoint import Checkpoint, Kept, latest, load
from harness.training.device import (
    device_name,
    peak_memory,
    placed,
    precision_name,
    resolve_device,
    resolve_precision,
)
from harness.training.ema import Ema, PowerAverages
from harness.training.guard import BadStepError, Guard
from harness.training.listeners import Listeners
from harness.training.objective import Objective, TrainingBatch
from harness.training.outcomes import Clock, Diverged, Effort, Interrupted, Trained
from harness.training.parallel import check_world, current_world, parallelize
from harness.training.parallel_config import FsdpParallel, NoParallel, ParallelConfig
from harness.training.post_hoc import snapshots_in
from harness.training.randomness import DataOrder, draws_of, stream_seed
from harness.training.recipe import Recipe
from harness.training.saving import Checkpoints, NotFiniteError, held
from harness.training.speed import Pace, stated_peak
from harness.training.stopping import SigtermFlag
from harness.training.tensors import live_tensors, named_tensors, restore
from harness.training.update import Update

log = logging.getLogger(__name__)

READ_AT_ONCE = ("cpu",)
"""Devices whose losses are read after every step; elsewhere that would wait for the device, so only when due."""

MADE_AHEAD = ("cuda",)
"""Devices whose batches a thread makes while they compute; a processor would only be shared."""

SNAPSHOTS = "snapshots"
"""Of averages, in a training's folder."""


def train(
    model: nn.Module,
    objective: Objective[Any],
    data: TrainingData,
    recipe: Recipe,
    *,
    architecture: str,
    initial: Plain = None,
    seed: int,
    folder: Path,
    parallel: ParallelConfig | None = None,
    macs: int | None = None,
    listeners: Listeners | None = None,
) -> Trained:
    """Train `model` (initialised by the caller) by the recipe, or go on from the newest checkpoint in `folder`.

    `architecture` is the fingerprint of what the model is: networks of equal shapes can compute different things.
    `initial` says which weights it begins with, where they follow from more than the seed.
    `macs` are its multiply-adds for one sample, for the utilisation of the device. Called again when all is done, it
    returns at once.

    In several processes (`parallel`; the process group is there) all call it alike; the first writes and is heard.

    A bad step is undone and left out as `harness.training.guard` says, which `Effort.notes` tells.
    A checkpoint that cannot be written is told in `Effort.notes`, and the training goes on; not the last one.

    Errors: Diverged; Interrupted on SIGTERM, after a checkpoint; UserError if the folder cannot be written, holds
    another training or is held by another process, or the device is missing.
    """
    device, world = resolve_device(recipe.device), current_world()
    parallel = NoParallel() if parallel is None else parallel
    check_world(world, parallel, recipe.batch_size)
    listeners = (listeners or Listeners()).of_process(world)
    with (
        torch.random.fork_rng([device] if device.type == "cuda" else []),
        SigtermFlag() as stop,
        held(folder, world),
        Training(
            placed(model, recipe, device),
            objective, data, recipe, architecture, initial, seed, folder, device, parallel, macs, stop, listeners,
        ) as training,
    ):  # fmt: skip
        training.look_if_missed()
        while training.step < recipe.steps:
            try:
                training.go_on()
            except BadStepError as bad:
                training.roll_back(bad)
        training.save_at_once()
        return training.result()


class Training:
    """The state of a training after `step` steps, and how it gets from one step to the next.

    With it as a context it goes on from the newest checkpoint, and ends when the last one is written."""

    def __init__(
        self,
        model: nn.Module,
        objective: Objective[Any],
        data: TrainingData,
        recipe: Recipe,
        architecture: str,
        initial: Plain,
        seed: int,
        folder: Path,
        device: torch.device,
        parallel: ParallelConfig,
        macs: int | None,
        stop: SigtermFlag,
        listeners: Listeners,
    ) -> None:
        self.model, self.objective, self.data, self.recipe = model.train(), objective, data, recipe
        self.architecture, self.initial = architecture, initial
        self.seed, self.folder, self.device = seed, folder, device
        self.stop, self.listeners, self.watcher = stop, listeners, listeners.watcher
        self.snapshots = folder / SNAPSHOTS
        self.precision = resolve_precision(recipe, device)
        self.world = current_world()
        sharded = self.world.size > 1 and isinstance(parallel, FsdpParallel)
        self.unsharded = copy.deepcopy(model).cpu() if sharded else None
        self.ema = Ema(model)
        self.averages = PowerAverages(model, recipe.ema_spans)
        self.update = Update(model, objective, recipe, device, self.precision, parallel, self.world)
        if sharded:
            for average in (self.ema.model, *self.averages.models):
                parallelize(average, parallel, self.world, is_trained=False)
        kept = Kept(newest=recipe.checkpoints_kept, every=recipe.keep_checkpoint_every)
        self.checkpoints = Checkpoints(folder, kept, self.world, self._stands)
        self.update.before_change = self.checkpoints.copied
        self.step = 0
        self.began = self.saved_step = 0
        self.curve: list[CurvePoint] = []
        self.unread: dict[int, dict[str, Tensor]] = {}  # of the newest steps, losses and gradient norms on the device
        self.interval: list[dict[str, float]] = []  # the same since the last point of the curve
        self.guard = Guard(recipe)
        self.continued_from: list[int] = []
        self.notes: list[str] = []
        self.is_failing_to_save = False
        self.clock = Clock(device)
        peak = stated_peak(device_name(device), precision_name(self.precision))
        self.pace = Pace(recipe.batch_size, macs, None if peak is None else peak * self.world.size)

    def __enter__(self) -> "Training":
        self.resume()
        if self.step == 0 and self.recipe.max_rollbacks > 0:
            self.save_at_once()  # to go back to
        self.began = self.step
        self.listeners.on_steps("began", self.step, self.step)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.checkpoints.close()
        self.listeners.on_steps("ended", self.began, self.step)

    def look_if_missed(self) -> None:
        """Where an earlier attempt ended before it had looked at its last checkpoint. Raises Interrupted."""
        if self.watcher.is_due(self.step) and not self.world.first(self.watcher.has_seen(self.step)):
            self._look()
            self._end_if_asked()

    def go_on(self) -> None:
        """Train the steps that are left. Raises BadStepError; Diverged; Interrupted, after a checkpoint."""
        with contextlib.closing(self.batches()) as batches:
            for step, batch in enumerate(batches, start=self.step + 1):
                self.advance(step, batch)
                self.listeners.on_progress(step, self.recipe.steps)
                self._end_if_asked()

    def _end_if_asked(self) -> None:
        if self.world.any(self.stop.requested):
            self.save_at_once()
            raise Interrupted(self.step)

    def batches(self) -> Generator[TrainingBatch, None, None]:
        """Of the steps that are left, this process's shares."""
        batches = self._batches()
        return made_ahead(batches, AHEAD, self.device) if self.device.type in MADE_AHEAD else batches

    def _batches(self) -> Generator[TrainingBatch, None, None]:
        own = self.world.share(self.recipe.batch_size)
        rows_of_steps = training_rows(self.data, self.recipe, self.seed, self.step + 1, own)
        for step, (rows, labels) in enumerate(rows_of_steps, start=self.step + 1):
            yield self.objective.batch(rows, labels, draws_of(self.recipe, self.seed, step, own, self.device))

    def advance(self, step: int, batch: TrainingBatch) -> None:
        """One optimiser step, unless it is left out, then what is due after it. Raises BadStepError; Diverged."""
        if step not in self.guard.left_out:
            torch.manual_seed(stream_seed(self.seed, "module", step))  # for modules that draw, as dropout does
            self.unread[step] = self.update(step, batch)
        self.checkpoints.copied()
        self.ema.update(self.model, self.recipe.ema_decay_at(step))
        self.averages.update(self.model, step)
        self.step = step
        due = {name: self._due(name) for name in ("log_every", "validate_every", "checkpoint_every")}
        due["look"] = self.watcher.is_due(step)
        if self.device.type in READ_AT_ONCE or any(due.values()):
            self._read_losses()
        if any(due.values()):
            self.pace.end(step)
        if due["log_every"]:
            self._log()
        if due["validate_every"]:
            self._validate()
        if self._due("ema_snapshot_every"):
            self.averages.write(self.snapshots, step, self.architecture, self.world)
        if due["checkpoint_every"]:
            self.save()
        if due["look"]:  # last: whatever becomes of it, the steps are saved
            self._look()
        if any(due.values()):
            self.pace.begin(step)

    def _due(self, setting: str) -> bool:
        return self._due_at(self.step, setting)

    def _due_at(self, step: int, setting: str) -> bool:
        return step == self.recipe.steps or step % getattr(self.recipe, setting) == 0

    def _read_losses(self) -> None:
        """Move the newest losses to the host and stop at the first bad step."""
        if not self.unread:
            return
        steps, names = list(self.unread), list(self.unread[next(iter(self.unread))])
        values_of_steps = torch.stack([torch.stack(list(values.values())) for values in self.unread.values()])
        self.unread.clear()
        for step, row in zip(steps, self.world.mean(values_of_steps).tolist(), strict=True):
            values = dict(zip(names, row, strict=True))
            self.guard.check(step, values)
            self.interval.append(values)

    def roll_back(self, bad: BadStepError) -> None:
        """Go back to the newest checkpoint before the bad step, whose batch is left out from now on; or Diverged."""
        if bad.is_last:
            raise self._diverged(bad.step, bad.reason)
        self._settle()
        self.listeners.on_steps("ended", self.began, self.step)
        checkpoint, notes = latest(self.folder, at_most=bad.step - 1, world=self.world)
        if checkpoint is None:
            raise self._diverged(bad.step, f"{bad.reason}, and there is no checkpoint to go back to")
        self.guard.leave_out(bad.step)
        self.unread.clear()
        self._restore(checkpoint)
        rows = DataOrder(len(self.data.train), self.recipe.batch_size, self.seed).told(bad.step)
        left_out = f"step {bad.step} is left out, with {rows}: {bad.reason}"
        for note in (*notes, f"{left_out}; the training went back to step {checkpoint.step}"):
            self.notes.append(note)
            log.warning(note)
        self.began = self.step
        self.listeners.on_steps("began", self.step, self.step)
        self.pace.begin(self.step)

    def _log(self) -> None:
        """A point of the curve. Where only the last step asks for it, a longer training still needs the interval."""
        for name in self.interval[0] if self.interval else ():  # none: all its steps are left out
            self._point(name, math.fsum(values[name] for values in self.interval) / len(self.interval))
        self._point("learning_rate", self.recipe.learning_rate_at(self.step))
        if (remark := self.objective.remark(self.curve)) is not None:
            self.notes.append(remark)
            log.warning(remark)
        if self.pace.newest is not None:
            self.listeners.on_speed(self.step, self.pace.newest)
        if self.step % self.recipe.log_every == 0:
            self.interval.clear()

    def _validate(self) -> None:
        loss = self.update.validation_loss(self.ema.model)
        if not math.isfinite(loss):
            raise self._diverged(self.step, f"validation_loss is {loss}")
        self._point("validation_loss", loss)

    def _look(self) -> None:
        self.listeners.on_look(self.step, self.recipe.steps)
        with self.clock.looking(), torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
            self.watcher.look(self.step, self._whole_average(), self.world, lambda: self.stop.requested)
        if self.unsharded is not None:
            self.unsharded.cpu()  # until it is needed again

    def _diverged(self, step: int, reason: str) -> Diverged:
        guard = self.guard
        return Diverged(step, reason, guard.last_good_loss, tuple(self.curve), self._effort(), guard.left_out)

    def _point(self, name: str, value: float) -> None:
        point = CurvePoint(step=self.step, name=name, value=value)
        self.curve.append(point)
        self.listeners.on_point(point)

    def save(self) -> None:
        """Begin a checkpoint of this step, unless there is one. A state that is not finite is never written."""
        self._read_losses()
        if self.checkpoints.step == self.step:
            return
        self._settle()
        self.checkpoints.begin(self.step, self._tensors(), self._state(), changing=self.update.changing)

    def save_at_once(self) -> None:
        """Have a checkpoint of this step on the disk. UserError if it cannot be written."""
        self.save()
        if (failure := self._settled()) is not None:
            raise failure

    def _settle(self) -> None:
        """Wait for the checkpoint that is being written, which the training can do without."""
        failure = self._settled()
        if failure is not None and not self.is_failing_to_save:
            self.notes.append(f"a checkpoint was left out, and the training went on: {failure}")
        self.is_failing_to_save = failure is not None

    def _settled(self) -> UserError | None:
        """Wait for the checkpoint that is being written; why it does not stand."""
        failure = self.checkpoints.settle()
        if isinstance(failure, NotFiniteError):
            raise self._diverged(failure.step, "a weight or moment is not finite")
        return failure

    def _stands(self, step: int) -> None:
        if step > 0:
            self.listeners.on_steps("saved", self.saved_step, step)
        self.saved_step = step

    def _tensors(self) -> dict[str, Tensor]:
        """All that a checkpoint has, themselves."""
        return self.update.tensors() | live_tensors(self.ema.model, "ema.") | self.averages.tensors()

    def _state(self) -> dict[str, Any]:
        return {
            "identity": self._identity(self.step),
            "curve": [[point.step, point.name, point.value] for point in self.curve],
            "interval": self.interval,
            "guard": self.guard.state(),
            "continued_from": self.continued_from,
            "notes": [*self.notes, *self.update.notes],
            "seconds": self.clock.read(self.world),
        }

    def resume(self) -> None:
        """Go on from the newest whole checkpoint, if there is one: of this training, or of a shorter one like it."""
        self.world.check_alike("model, recipe, data or seed", self._identity(0))
        checkpoint, notes = latest(self.folder, at_most=self.recipe.steps, world=self.world)
        for note in notes:
            log.warning(note)
        if checkpoint is None:
            self.watcher.begin(0, self.world)
        else:
            self._restore(checkpoint)
            state, goes_on = checkpoint.state, 0 < checkpoint.step < self.recipe.steps
            self.notes = list(state["notes"])
            self.continued_from = [*state["continued_from"], *([checkpoint.step] if goes_on else [])]
            self.clock = Clock(self.device, state["seconds"])
            for point in self.curve:
                self.watcher.retell(point.step)
                self.listeners.on_point(point)
            self.watcher.retell(self.step + 1)
        self.notes.extend(notes)

    def _restore(self, checkpoint: Checkpoint) -> None:
        """Be what the training was when that was saved."""
        state = checkpoint.state
        if state["identity"] != self._identity(checkpoint.step):
            raise UserError(
                f"{self.folder} holds a training of another model, recipe, data, seed or precision; choose another "
                "folder, or remove it to start anew"
            )
        names = checkpoint.names
        self.averages.check_names(names, checkpoint.step)
        self.update.allocate(names)
        load(checkpoint, self._tensors(), self.world)
        self.step = self.saved_step = self.checkpoints.step = checkpoint.step
        self.curve = [
            CurvePoint(step=step, name=name, value=value)
            for step, name, value in state["curve"]
            if self._due_at(step, "validate_every" if name == "validation_loss" else "log_every")
        ]
        self.interval = [dict(values) for values in state["interval"]]
        self.guard.restore(state["guard"])
        self.watcher.begin(self.step, self.world)

    def _identity(self, step: int) -> str:
        """What a checkpoint of `step` must have in common with a training that goes on from it."""
        weights = {name: list(tensor.shape) for name, tensor in self.model.state_dict().items()}
        recipe: Any = identity(self.recipe)
        if self.recipe.is_extendable_at(step):
            recipe = {name: value for name, value in recipe.items() if name != "steps"}
        model = [self.architecture, weights, self.objective.identity]
        if self.initial is not None:
            model.append(self.initial)
        return fingerprint([recipe, str(self.precision), self.seed, self.data.fingerprint, *model], schema="training-5")

    def result(self) -> Trained:
        validation = [point.value for point in self.curve if point.name == "validation_loss"]
        return Trained(
            model=self._averaged(),
            snapshots=tuple(snapshots_in(self.snapshots)),
            curve=tuple(self.curve),
            validation_loss=validation[-1],
            steps=self.step,
            effort=self._effort(),
        )

    def _averaged(self) -> nn.Module:
        """The averaged model, whole; its kernels row by row."""
        return self._whole_average().to(memory_format=torch.contiguous_format)

    def _whole_average(self) -> nn.Module:
        """The averaged model; where the processes have shares of it, a copy of all of it."""
        if self.unsharded is None:
            return self.ema.model
        restore(self.unsharded, named_tensors(self.ema.model))
        return self.unsharded.requires_grad_(False).eval().to(self.device)

    def _effort(self) -> Effort:
        seconds = self.clock.read(self.world)
        return Effort(
            device=device_name(self.device),
            precision=precision_name(self.precision),
            seconds=seconds["wall"],
            cpu_seconds=seconds["cpu"],
            gpu_seconds=seconds["gpu"],
            look_seconds=seconds["looks"],
            continued_from=tuple(self.continued_from),
            notes=(*self.notes, *self.update.notes),
            peak_memory_bytes=peak_memory(self.device),
            speed=self.pace.typical,
        )
