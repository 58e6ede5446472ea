"""A training small enough to run hundreds of times: a toy network, toy images, and a way to be killed.

Run as a program it trains into the folder argv[1] and dies by SIGKILL: `step N`, after step N; `writing N`, while the
checkpoint of step N is half written.
"""

import dataclasses
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from toy_teacher import ToyTeacher

from harness.diffusion.flow_matching import interpolate, velocity
from harness.models.pixels import to_model_range
from harness.training import saving
from harness.training.listeners import Listeners
from harness.training.loop import train
from harness.training.objective import Auxiliary, Losses, Objective
from harness.training.objective_config import (
    DiscriminatorConfig,
    DistillationConfig,
    FlowMatchingConfig,
    StepDistillationConfig,
)
from harness.training.objectives.distillation import Distillation, Learner
from harness.training.objectives.flow_matching import FlowMatching, NoisedImages
from harness.training.objectives.step_distillation import StepDistillation
from harness.training.optimizer import AdamW
from harness.training.outcomes import Trained
from harness.training.parallel_config import ParallelConfig
from harness.training.recipe import Recipe
from harness.training.teacher_config import TrainedTeacher

SEED = 11
LEARNER = Learner(taps={"enter": 8}, seed=SEED)
RECIPE = Recipe(
    steps=14,
    batch_size=8,
    learning_rate=5e-3,
    warmup_steps=3,
    schedule="cosine",
    weight_decay=0.01,
    ema_decay=0.9,
    log_every=4,
    validate_every=6,
    validation_images=10,
    checkpoint_every=5,
    device="cpu",
)


class TinyImages:
    """Gradients in a direction that the class gives, with noise."""

    def __init__(self, count: int, seed: int, n_classes: int = 3) -> None:
        random = torch.Generator().manual_seed(seed)
        self.labels = torch.arange(count) % n_classes
        ramp = torch.linspace(0, 200, 4).expand(4, 4)
        turned = torch.stack([torch.rot90(ramp, int(label)) for label in self.labels])
        noise = torch.randint(0, 55, (count, 1, 4, 4), generator=random)
        self.pixels = (turned[:, None] + noise).to(torch.uint8)

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.pixels[index], int(self.labels[index])


class TinyData:
    """21 images: no multiple of the batch, so that batches reach over the end of an epoch."""

    def __init__(self) -> None:
        self.train, self.heldout = TinyImages(21, seed=0), TinyImages(12, seed=1)
        self.fingerprint = "tiny"

    def network_inputs(self, rows: Tensor, _normal: Callable[[Sequence[int]], Tensor]) -> Tensor:
        return to_model_range(rows)


class TinyPrompts:
    def __init__(self, n_classes: int = 3) -> None:
        self.table = torch.randn(n_classes + 1, 2, 5, generator=torch.Generator().manual_seed(2))

    def to(self, _device: torch.device) -> "TinyPrompts":
        return self

    def context(self, labels: Tensor, drop: Tensor) -> tuple[Tensor, Tensor | None]:
        return self.table[torch.where(drop, len(self.table) - 1, labels)], None


class TinyNetwork(nn.Module):
    """With dropout and a buffer, which a continued run has to repeat too."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.leave = nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.Conv2d(8, 1, 3, padding=1)
        self.condition = nn.Linear(6, 8)
        self.norm: nn.Module = nn.BatchNorm2d(8)
        self.dropout = nn.Dropout(0.2)

    def forward(self, x: Tensor, time: Tensor, context: Tensor, _mask: Tensor | None) -> Tensor:
        condition = self.condition(torch.cat([context.mean(1), time[:, None]], 1))
        return self.leave(self.dropout(F.silu(self.norm(self.enter(x)) + condition[:, :, None, None])))


def tiny_network() -> TinyNetwork:
    torch.manual_seed(0)
    return TinyNetwork()


def flow_matching(recipe: Recipe = RECIPE, data: TinyData | None = None) -> FlowMatching:
    return FlowMatching(FlowMatchingConfig(), data or TinyData(), TinyPrompts(), recipe, torch.device(recipe.device))


def distillation(recipe: Recipe = RECIPE, *, teacher: Any = None, **config: Any) -> Distillation:
    """From the toy teacher, by output and features."""
    return Distillation(
        DistillationConfig(teacher=TrainedTeacher(name="toy"), **config), TinyData(),
        TinyPrompts(), recipe, torch.device(recipe.device), teacher or ToyTeacher(), LEARNER,
    )  # fmt: skip


def step_distillation(
    recipe: Recipe = RECIPE, *, teacher: Any = None, guidance_scale: float = 1.0, **config: Any
) -> StepDistillation:
    """In four steps, judged by all that the toy teacher shows."""
    chosen = {"discriminator": DiscriminatorConfig(width=8, window=8), "validation_steps": 3, "teacher_steps": 2}
    return StepDistillation(
        StepDistillationConfig(
            teacher=TrainedTeacher(name="toy", guidance_scale=guidance_scale), **{**chosen, **config}
        ), TinyData(),
        TinyPrompts(), recipe, torch.device(recipe.device), teacher or ToyTeacher(), LEARNER,
    )  # fmt: skip


class Judged(FlowMatching):
    """Beside the velocity: a weight of the loss, learnt with the network (Kendall et al. 2018, arXiv 1705.07115), and a
    judge of velocities, which has a loss of its own and whose verdict is part of the network's."""

    def __init__(self, recipe: Recipe = RECIPE) -> None:
        super().__init__(FlowMatchingConfig(), TinyData(), TinyPrompts(), recipe, torch.device("cpu"))
        self.identity = "judged"
        torch.manual_seed(3)
        self.uncertainty, self.judge = nn.Linear(1, 1), nn.Conv2d(1, 1, 3)
        self.auxiliaries = (
            Auxiliary(name="uncertainty", module=self.uncertainty, optimizer=AdamW(learning_rate=1e-3)),
            Auxiliary(name="judge", module=self.judge, optimizer=AdamW(learning_rate=1e-2, clip=1.0), loss=self.judged),
        )

    def loss(self, network: nn.Module, batch: NoisedImages) -> Losses:
        x_t = interpolate(batch.x0, batch.noise, batch.time)
        predicted = network(x_t, batch.time, batch.context, batch.context_mask)
        errors = (predicted - velocity(batch.x0, batch.noise)).square().mean((1, 2, 3))  # (B,)
        fooled = -self.judge(self._denoised(network, batch)).mean()
        log_variance = self.uncertainty(batch.time[:, None])[:, 0]
        return Losses(
            total=(torch.exp(-log_variance) * errors + log_variance).mean() + 0.1 * fooled,
            parts={"velocity": errors.mean(), "fooled": fooled},
        )

    def judged(self, network: nn.Module, batch: NoisedImages) -> Losses:
        with torch.no_grad():
            denoised = self._denoised(network, batch)
        return Losses(total=F.relu(1 + self.judge(denoised)).mean() + F.relu(1 - self.judge(batch.x0)).mean())

    def _denoised(self, network: nn.Module, batch: NoisedImages) -> Tensor:
        ones = torch.ones_like(batch.time)
        return batch.noise - network(batch.noise, ones, batch.context, batch.context_mask)


def undropped(network: TinyNetwork) -> TinyNetwork:
    """Without what depends on how a batch is cut: dropout's bits, and the statistics of a batch."""
    network.dropout.p, network.norm = 0.0, nn.GroupNorm(2, 8)
    return network


def in_float64(objective: FlowMatching) -> FlowMatching:
    """The same in float64."""
    batch = objective.batch
    objective.batch = lambda *arguments: doubled(batch(*arguments))
    objective.validation = [doubled(pairs) for pairs in objective.validation]
    for each in objective.auxiliaries:
        each.module.double()
    return objective


def doubled(batch: NoisedImages) -> NoisedImages:
    parts = {each.name: getattr(batch, each.name) for each in dataclasses.fields(batch)}
    floats = {name: part for name, part in parts.items() if part is not None and part.is_floating_point()}
    return dataclasses.replace(batch, **{name: part.double() for name, part in floats.items()})


OBJECTIVES: dict[str, Callable[..., FlowMatching]] = {
    "flow_matching": flow_matching,
    "judged": Judged,
    "distillation": distillation,
    "step_distillation": step_distillation,
}
"""By name: each is trained, killed, continued, cut over processes and in micro-batches alike."""


def run(
    folder: Path,
    recipe: Recipe = RECIPE,
    *,
    model: nn.Module | None = None,
    objective: Objective[Any] | None = None,
    data: TinyData | None = None,
    architecture: str = "tiny",
    initial: Any = None,
    macs: int | None = None,
    parallel: ParallelConfig | None = None,
    **listeners: Any,
) -> Trained:
    """Train, or go on, in the folder."""
    return train(
        tiny_network() if model is None else model,
        flow_matching(recipe, data) if objective is None else objective,
        TinyData() if data is None else data,
        recipe,
        architecture=architecture,
        initial=initial,
        seed=SEED,
        folder=folder,
        macs=macs,
        parallel=parallel,
        listeners=Listeners(**listeners),
    )


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def main(folder: Path, moment: str, step: int) -> None:
    if moment == "step":
        run(folder, on_progress=lambda at, _of: die() if at == step else None)
    whole_write = saving.write_state

    def half_write(into: Path, at: int, *what: Any) -> None:
        if at == step:
            die()
        whole_write(into, at, *what)

    saving.write_state = half_write
    run(folder)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
