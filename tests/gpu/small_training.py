"""Trainings of networks from the catalogue on random pictures, by the loop itself."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from harness.architecture.catalogue import architecture
from harness.architecture.config import ArchitectureConfig
from harness.architecture.edits import with_edits
from harness.architecture.kinds import builder_of
from harness.architecture.prediction import VELOCITY
from harness.data.prompts import PromptTable
from harness.diffusion.flow_matching import Prompts
from harness.diffusion.prediction import velocity_of
from harness.models.build import build
from harness.models.pixels import to_model_range
from harness.models.taps import Tap, taps_of
from harness.training.device import resolve_precision, to_device
from harness.training.listeners import Listeners
from harness.training.loop import train
from harness.training.objective_config import (
    DiscriminatorConfig,
    DistillationConfig,
    FlowMatchingConfig,
    ObjectiveConfig,
    StepDistillationConfig,
    teacher_of,
)
from harness.training.objectives.distillation import Learner
from harness.training.objectives.flow_matching import FlowMatching
from harness.training.outcomes import Trained
from harness.training.recipe import Recipe
from harness.training.teacher_config import TrainedTeacher
from harness.training.teachers.guided import GuidedTeacher

CUDA = pytest.param(
    "cuda", marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")]
)
ON_BOTH = pytest.mark.parametrize("device", ["cpu", CUDA])
ON_CUDA = pytest.mark.parametrize("device", [CUDA])

LAPTOP = with_edits(architecture("laptop/thin_sdxl"), {"context_length": 3, "context_width": 5})
DIT = with_edits(architecture("laptop/dit"), {"context_length": 3, "context_width": 5, "depth": 2})
RECIPE = Recipe(
    steps=10, batch_size=6, learning_rate=1e-3, log_every=2, validate_every=10, validation_images=6, checkpoint_every=4
)


class Rows:
    """Pictures of a ramp in a direction that the class gives, with noise: something to learn."""

    def __init__(self, count: int, shape: tuple[int, int, int], classes: int) -> None:
        random = torch.Generator().manual_seed(count)
        self.labels = torch.arange(count) % classes
        ramp = torch.linspace(0, 200, shape[-1]).expand(shape[-1], shape[-1])
        turned = torch.stack([torch.rot90(ramp, int(label)) for label in self.labels])
        self.pixels = (turned[:, None] + torch.randint(0, 55, (count, *shape), generator=random)).to(torch.uint8)

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.pixels[index], int(self.labels[index])


class Data:
    fingerprint = "random"

    def __init__(self, shape: tuple[int, int, int], count: int = 64, classes: int = 4) -> None:
        self.train, self.heldout = Rows(count, shape, classes), Rows(16, shape, classes)

    def network_inputs(self, rows: Tensor, _normal: Callable[[Sequence[int]], Tensor]) -> Tensor:
        return to_model_range(rows)


class Table:
    """Prompts: random tokens for each class, the last for none."""

    def __init__(self, config: Any, classes: int = 4) -> None:
        random = torch.Generator().manual_seed(2)
        self.rows = torch.randn(classes + 1, config.context_length, config.context_width, generator=random)

    def to(self, device: torch.device | str) -> "Prompts":
        self.rows = self.rows.to(device)
        return self

    def context(self, labels: Tensor, drop: Tensor) -> tuple[Tensor, Tensor | None]:
        return self.rows[torch.where(drop, len(self.rows) - 1, to_device(labels, drop.device))], None

    @property
    def table(self) -> PromptTable:
        """The same as a study has them."""
        mask = torch.ones(self.rows.shape[:2], dtype=torch.bool)
        return PromptTable(
            embeddings=self.rows[:-1], mask=mask[:-1], empty=self.rows[-1:], empty_mask=mask[-1:], mask_padding=False,
            identity={},
        )  # fmt: skip


class EnoughError(Exception):
    """Ends a training after so many steps, before what its end costs."""


def network_of(config: ArchitectureConfig, device: str = "cpu") -> nn.Module:
    """The same weights every time on a device; the last layer is no zero, so that all others have gradients."""
    torch.manual_seed(0)
    with torch.device(device):
        network = build(config)
        for parameter in network.parameters():
            if not parameter.any():
                nn.init.normal_(parameter, std=0.02)
    return network


TEACHER = TrainedTeacher(name="random")
OBJECTIVES: dict[str, ObjectiveConfig] = {
    "flow_matching": FlowMatchingConfig(),
    "distillation": DistillationConfig(teacher=TEACHER),
    "step_distillation": StepDistillationConfig(
        teacher=TEACHER, steps=2, teacher_steps=1, validation_steps=2, discriminator=DiscriminatorConfig(width=8)
    ),
}


OF_EACH_OBJECTIVE = pytest.mark.parametrize("objective", OBJECTIVES)
CLOSE = {"flow_matching": 1e-3, "distillation": 1e-2, "step_distillation": 1e-2}
"""How near losses are that are computed otherwise: a ratio of two, and a discriminator, carry rounding further."""
TEACHING = with_edits(DIT, {"depth": 1})


def objective_of(
    config: ObjectiveConfig,
    network: ArchitectureConfig,
    data: Data,
    prompts: Prompts,
    recipe: Recipe,
    on: torch.device,
    teacher: ArchitectureConfig | None = None,
) -> FlowMatching:
    """Of a student of that architecture; its teacher is TEACHING, unless it is told."""
    given = (config, data, prompts, recipe, on)
    if teacher_of(config) is None:
        return FlowMatching(*given)
    taught = random_teacher(teacher or TEACHING, resolve_precision(recipe, on), on)
    built: FlowMatching = builder_of(config)(*given, taught, Learner(taps=taps_of(network), seed=0))
    return built


def random_teacher(config: ArchitectureConfig, precision: torch.dtype, on: torch.device) -> GuidedTeacher:
    """A network of random weights, as one that was trained here teaches."""
    network, prompts = network_of(config).to(on, precision).eval().requires_grad_(False), Table(config).to(on)
    of_prompts = velocity_of(network, VELOCITY)
    return GuidedTeacher(
        network, lambda x_t, time, labels, drop: of_prompts(x_t, time, *prompts.context(labels, drop)),
        functools.partial(Tap, network), identity="random", taps=taps_of(config), guidance_scale=1.0,
        computes_in=precision,
    )  # fmt: skip


def trained(
    folder: Path,
    device: str,
    config: ArchitectureConfig = LAPTOP,
    *,
    latent: int = 8,
    network: nn.Module | None = None,
    data: Data | None = None,
    stop_after: int | None = None,
    listeners: Any = None,
    macs: int | None = None,
    objective: str = "flow_matching",
    prompts: Prompts | None = None,
    **settings: Any,
) -> Trained:
    """By RECIPE with other `settings`; `objective` is of OBJECTIVES. `stop_after`: EnoughError behind that step."""
    recipe = dataclasses.replace(RECIPE, device=device, **settings)
    data = data or Data((config.latent_channels, latent, latent))
    listeners = listeners or {}
    heard = listeners.pop("on_progress", lambda _step, _of: None)

    def on_progress(step: int, of: int) -> None:
        heard(step, of)
        if step == stop_after:
            raise EnoughError

    return train(
        network_of(config) if network is None else network,
        objective_of(OBJECTIVES[objective], config, data, prompts or Table(config), recipe, torch.device(device)),
        data,
        recipe,
        architecture=config.fingerprint,
        seed=3,
        folder=folder,
        macs=macs,
        listeners=Listeners(on_progress=on_progress, **listeners),
    )


def first_losses(
    folder: Path, device: str, steps: int, config: ArchitectureConfig = LAPTOP, **more: Any
) -> list[float]:
    """The loss of each of the first steps of a training that goes on for far longer: it validates and saves nothing."""
    losses: list[float] = []
    hear = {"on_point": lambda point: losses.append(point.value) if point.name == "train_loss" else None}
    longer = {"steps": 10**6, "validate_every": 10**6, "checkpoint_every": 10**6, "log_every": 1}
    with pytest.raises(EnoughError):
        trained(folder, device, config, stop_after=steps, listeners=hear, **{**longer, **more})
    return losses


def curve(result: Trained, name: str = "train_loss") -> list[float]:
    return [point.value for point in result.curve if point.name == name]


def continued_alike(tmp_path: Path, device: str, near: float, **settings) -> None:
    unbroken = trained(tmp_path / "unbroken", device, **settings)
    with pytest.raises(EnoughError):
        trained(tmp_path / "broken", device, stop_after=7, **settings)
    continued = trained(tmp_path / "broken", device, **settings)
    assert continued.effort.continued_from == (4,)
    tolerance = 0 if device == "cpu" else near
    assert curve(continued) == pytest.approx(curve(unbroken), rel=tolerance)
    assert continued.validation_loss == pytest.approx(unbroken.validation_loss, rel=tolerance)
