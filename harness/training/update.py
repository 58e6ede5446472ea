"""One optimiser step: of the network, and of what the objective trains beside it.

gradients of the network's loss    -> AdamW of the network, and of the modules that are trained by its loss
gradients of a module's own loss   -> AdamW of that module; the network stands still
"""

import contextlib
import functools
import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from harness.records.errors import UserError
from harness.training.device import autocast, compile_blocks, device_name
from harness.training.objective import Loss, Objective, TrainingBatch
from harness.training.optimizer import AdamW, Optimizer
from harness.training.parallel import World, at_rest, check_independent, gradients_kept, parallelize
from harness.training.parallel_config import ParallelConfig
from harness.training.recipe import Recipe, check_recordable
from harness.training.recorded import Recorded
from harness.training.tensors import live_tensors

log = logging.getLogger(__name__)


class Update:
    """Called with each step and this process's share of its batch. What it returns is on the device: () the losses by
    name, whose means over processes are means over the batch, and the norms of the gradients before clipping."""

    def __init__(
        self,
        network: nn.Module,
        objective: Objective[Any],
        recipe: Recipe,
        device: torch.device,
        precision: torch.dtype,
        parallel: ParallelConfig,
        world: World,
    ) -> None:
        self.objective, self.recipe = objective, recipe
        self.device, self.precision, self.world = device, precision, world
        beside = objective.auxiliaries
        self.modules = {"model": network} | {each.name: each.module for each in beside}
        if world.size > 1 or recipe.micro_batch is not None:
            what = "recipe.micro_batch" if world.size == 1 else f"parallel={parallel.kind}"
            for module in self.modules.values():
                check_independent(module, what)
        check_recordable(recipe, device.type, world.size)
        if recipe.compile:
            compile_blocks(network)
        self.network = parallelize(network, parallel, world)
        settings = {"model": _adamw(recipe)} | {each.name: each.optimizer for each in beside}
        self.optimizers = {name: Optimizer(module, settings[name]) for name, module in self.modules.items()}
        self.with_network = [each for each in beside if each.loss is None]
        self.alone = [(each, each.loss) for each in beside if each.loss is not None]
        largest = world.largest_share(recipe.batch_size)
        self.micro_batch = recipe.micro_batch if isinstance(recipe.micro_batch, int) else largest
        self.notes: list[str] = []
        self.before_change: Callable[[], None] = lambda: None
        """Called before weights and moments change; a forward and a backward pass change buffers alone."""
        self.recorded: dict[str, Recorded] = {}

    def __call__(self, step: int, batch: TrainingBatch) -> dict[str, Tensor]:
        with standing_still(*(each.module for each, _ in self.alone)):
            values = self._backward("train_loss", self.objective.loss, batch, step)
        values["gradient_norm"] = self._step("model", step)
        for each in self.with_network:
            values[f"{each.name}_gradient_norm"] = self._step(each.name, step)
        for each, own_loss in self.alone:
            with standing_still(self.network):
                values |= self._backward(f"{each.name}_loss", own_loss, batch, step)
            at_rest(self.network)
            values[f"{each.name}_gradient_norm"] = self._step(each.name, step)
        return values

    def _step(self, name: str, step: int) -> Tensor:
        self.before_change()
        optimizer = self.optimizers[name]
        if name != "model":
            self.world.mean_gradients(self.modules[name])
        share = optimizer.settings.learning_rate / self.recipe.learning_rate
        return optimizer.step(share * self.recipe.learning_rate_at(step))

    def _backward(self, name: str, loss: Loss, batch: TrainingBatch, step: int) -> dict[str, Tensor]:
        """Add the gradients of the loss. Where `recipe.micro_batch` is `auto`, in smaller micro-batches from here on
        when memory does not suffice."""
        while True:
            try:
                return self._pass(name, loss)(batch)
            except torch.OutOfMemoryError as error:
                if self.recipe.micro_batch != "auto" or self.micro_batch == 1 or self.world.size > 1:
                    raise UserError(
                        f"{device_name(self.device)} has no memory for {self.micro_batch} images at once; set "
                        "recipe.micro_batch=auto, recipe.gradient_checkpointing=true, or a smaller network"
                    ) from error
            self.recorded.clear()
            for module in self.modules.values():
                module.zero_grad()
            self.micro_batch = -(-self.micro_batch // 2)
            self.notes.append(f"from step {step} on in micro-batches of {self.micro_batch}, which fit")
            log.warning(self.notes[-1])

    def _pass(self, name: str, loss: Loss) -> Callable[[Any], dict[str, Tensor]]:
        """Forward and back, by that loss."""
        run = functools.partial(self._in_micro_batches, name, loss)
        if not self.recipe.cuda_graph:
            return run
        if name not in self.recorded:
            parameters = (each for module in self.modules.values() for each in module.parameters())
            self.recorded[name] = Recorded(run, parameters)
        return self.recorded[name]

    def _in_micro_batches(self, name: str, loss: Loss, batch: TrainingBatch) -> dict[str, Tensor]:
        means: dict[str, Tensor] = {}
        parts = list(self.cut(batch, self.recipe.batch_size))
        for number, (part, samples) in enumerate(parts, start=1):
            share = self.world.size * samples / self.recipe.batch_size
            with gradients_kept(self.network, number < len(parts)):
                with autocast(self.device, self.precision):
                    losses = loss(self.network, part)
                (share * losses.total).backward()  # type: ignore[no-untyped-call]
            named = {name: losses.total} | {f"{name}.{each}": value for each, value in losses.parts.items()}
            for each, value in named.items():
                means[each] = means.get(each, 0) + share * value.detach()
        return means

    def cut(self, own: TrainingBatch, batch_size: int) -> Iterator[tuple[TrainingBatch, int]]:
        """Micro-batches of this process's samples of a batch, and how many samples of each count. As many micro-batches
        in every process, since they wait for each other: one without samples has the first again, which counts 0."""
        parts = -(-self.world.largest_share(batch_size) // self.micro_batch)
        for number in range(parts):
            start, stop = number * len(own) // parts, (number + 1) * len(own) // parts
            yield (own[start:stop], stop - start) if stop > start else (own[:1], 0)

    @torch.no_grad()
    def validation_loss(self, network: nn.Module) -> float:
        """Of a network that processes have as they have the trained one, over all held-out samples."""
        total, batches = 0.0, self.objective.validation
        for batch in batches:
            own = self.world.share(len(batch))
            own_samples = batch[own.start : own.stop] if own else batch[:1]
            for part, samples in self.cut(own_samples, len(batch)):
                loss = self.objective.validation_loss(network, part)
                total += float(loss) * (samples if own else 0)
        mean = self.world.mean(torch.tensor(total, dtype=torch.float64))
        return float(mean) * self.world.size / sum(map(len, batches))

    def tensors(self) -> dict[str, Tensor]:
        """For a checkpoint: `MODULE.NAME` the weights, `optimizer.MODULE.NUMBER.NAME` the moments, themselves."""
        tensors: dict[str, Tensor] = {}
        for name, module in self.modules.items():
            tensors |= live_tensors(module, f"{name}.") | self.optimizers[name].tensors(f"optimizer.{name}.")
        return tensors

    @property
    def changing(self) -> frozenset[str]:
        """Of `tensors`, the names of those that a forward pass may change."""
        buffers = {name: module.named_buffers() for name, module in self.modules.items()}
        return frozenset(f"{name}.{buffer}" for name, named in buffers.items() for buffer, _ in named)

    def allocate(self, names: Iterable[str]) -> None:
        """Have `tensors` be those of a checkpoint with these names, to be filled."""
        for name, optimizer in self.optimizers.items():
            optimizer.allocate(names, f"optimizer.{name}.")


def _adamw(recipe: Recipe) -> AdamW:
    """Of the network."""
    return AdamW(
        learning_rate=recipe.learning_rate, betas=recipe.betas, weight_decay=recipe.weight_decay, clip=recipe.clip
    )


@contextlib.contextmanager
def standing_still(*modules: nn.Module) -> Iterator[None]:
    """Inside, gradients go through the modules, and not to their parameters that are trained."""
    trained = [parameter for module in modules for parameter in module.parameters() if parameter.requires_grad]
    try:
        for parameter in trained:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)
