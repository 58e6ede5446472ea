"""A file of weights that teaches: a small network, its table of classes, and what a student asks it."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harness.architecture.catalogue import architecture
from harness.architecture.edits import with_edits
from harness.data.config import ClassTableText
from harness.data.prompts import class_table
from harness.models.build import build
from harness.models.parameters import filled_copy
from harness.models.weights import Training, write_weights
from harness.training.recipe import Recipe
from harness.training.teacher import Student

NAMES = ("one", "two", "three", "four")
DIT = with_edits(
    architecture("laptop/dit"),
    {"depth": 2, "width": 16, "heads": 2, "condition": "class_table", "context_length": 1, "context_width": 5},
)
STUDENT = Student(
    shape=(1, 8, 8), autoencoder=None, class_names=("three", "one"), text=ClassTableText(),
    recipe=Recipe(steps=1, batch_size=4), cache=Path("nowhere"), weights_of=Path,
)  # fmt: skip
CPU = torch.device("cpu")
LATENTS = {"kind": "kl", "weights": "abc", "channels": 1, "scale": 0.5, "shift": 0.0, "encoding": "mean"}


def written(folder: Path, config: Any = DIT, **training: Any) -> Path:
    torch.manual_seed(0)
    network = filled_copy(build(config))
    said = {"trial": "0" * 16, "latent": 8, "text": class_table(NAMES).identity} | training
    path = folder / "teacher.safetensors"
    write_weights(path, network.state_dict(), config, Training(**said))
    return path


def samples() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x_t, times, classes of the student's data, and which prompts are the empty one."""
    random = torch.Generator().manual_seed(1)
    times = torch.tensor([0.9, 0.5, 0.1, 0.3])
    return (
        torch.randn(4, 1, 8, 8, generator=random),
        times,
        torch.tensor([0, 1, 1, 0]),
        torch.tensor([False] * 3 + [True]),
    )
