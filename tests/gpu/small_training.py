"""Trainings of networks from the catalogue on random pictures, by the loop itself."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from harness.architecture.catalogue import architecture
from harness.architecture.config import ArchitectureConfig
from harness.architecture.edits import with_edits
from harness.diffusion.flow_matching import Prompts
from harness.models.build import build
from harness.models.pixels import to_model_range
from harness.training.listeners import Listeners
from harness.training.loop import train
from harness.training.objective_config import FlowMatchingConfig
from harness.training.objectives.flow_matching import FlowMatching
from harness.training.outcomes import Trained
from harness.training.recipe import Recipe

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
        return self.rows[torch.where(drop, len(self.rows) - 1, labels)], None


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
    **settings: Any,
) -> Trained:
    """By RECIPE with other `settings`. `stop_after`: EnoughError behind that step."""
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
        FlowMatching(FlowMatchingConfig(), data, Table(config), recipe, torch.device(device)),
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
