"""What a training minimises, as the loop sees it.

The loop has the network, its optimiser, the average of its weights, checkpoints and guards. An objective makes batches
of rows, tells the loss of a batch and the validation loss of a network, and may train modules of its own beside it: a
projection of features by the network's own loss, a discriminator by a loss of its own. It keeps no state of its own
from one step to the next but those modules and their optimisers, which the loop saves and restores; all else that is
random is drawn from `Draws`.

An implementation is one file in `harness/training/objectives/`, registered with its settings in `objective_config`; the
tasks that it suits name those (`harness.trials.task_config`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias, TypeVar

from torch import Tensor, nn

from harness.records.plain import Plain
from harness.records.record import CurvePoint
from harness.training.optimizer import AdamW
from harness.training.randomness import Draws


@dataclass(frozen=True, kw_only=True, slots=True)
class Losses:
    total: Tensor
    """() float32: what is minimised, a mean over the samples of the batch."""
    parts: Mapping[str, Tensor] = field(default_factory=dict)
    """What it is made of, (): for the curve, as `train_loss.NAME`. The same names for every batch."""


class TrainingBatch(Protocol):
    """Samples on the training's device, with all that is drawn for them."""

    def __len__(self) -> int: ...

    def __getitem__(self, samples: slice, /) -> "TrainingBatch": ...


Batch = TypeVar("Batch", bound=TrainingBatch)


Loss: TypeAlias = Callable[[nn.Module, Any], Losses]
"""Of the network and a batch."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Auxiliary:
    """A module that is trained beside the network and belongs to the objective: in its files, but not in its result."""

    name: str
    """In checkpoints, and in the curve: `NAME_loss`, `NAME_gradient_norm`."""
    module: nn.Module
    optimizer: AdamW
    loss: Loss | None = None
    """Minimised after each of the network's steps; the network stands still meanwhile, and the module in the network's.
    None: it is trained with the network, by the network's loss."""


class Objective(Protocol[Batch]):
    @property
    def identity(self) -> Plain:
        """All that its losses are a function of, beside the recipe, the data and the network."""
        ...

    @property
    def auxiliaries(self) -> Sequence[Auxiliary]:
        """Always the same ones, on the training's device, from their initial weights."""
        ...

    def batch(self, rows: Tensor, labels: Tensor, draws: Draws) -> Batch:
        """Of rows as the data stores them (B, ...), and their class numbers (B,), both on the CPU."""
        ...

    def loss(self, network: nn.Module, batch: Batch) -> Losses:
        """In training mode, under the recipe's precision. It may call the network several times."""
        ...

    def remark(self, curve: Sequence[CurvePoint], /) -> str | None:
        """What a person should know of the newest point of the curve, a sentence for the record's notes; asked after
        each, and a function of the curve alone."""
        ...

    @property
    def validation(self) -> Sequence[Batch]:
        """Held-out samples, with always the same draws, so that two numbers differ by the network only. UserError where
        there are none."""
        ...

    def validation_loss(self, network: nn.Module, batch: Batch) -> Tensor:
        """() of a network in evaluation mode: a mean over the samples, in float32."""
        ...
