"""A second task, in one file: a linear network learns to undo a fixed blur of the digits, and a critic beside it to
tell restored digits from sharp ones. Its one quantity is `sharpness`, of which more is better.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.architecture.edits import with_edits
from harness.architecture.family import ArchitectureConfig
from harness.architecture.kinds import builder_of, kind_of
from harness.architecture.sizes import SIZE
from harness.data.dataset import load_dataset
from harness.data.images import ImageData
from harness.models.pixels import to_uint8
from harness.models.weights import Training
from harness.records.judging import Floor, Judging
from harness.records.quantities import KnownQuantity, score
from harness.records.quantity import Measured
from harness.training.batches import stacked
from harness.training.device import resolve_device
from harness.training.objective import Auxiliary, Losses
from harness.training.objective_config import ObjectiveConfig
from harness.training.optimizer import AdamW
from harness.trials.samples import write_grid
from harness.trials.spec import cache_folder
from harness.trials.task_config import Scoring, TaskConfig

BLUR = torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]]).view(1, 1, 3, 3) / 16


@dataclass(frozen=True, kw_only=True, slots=True)
class FilterConfig(ArchitectureConfig):
    """One convolution, which begins as one that changes nothing."""

    latent_channels: int = field(metadata=SIZE)
    kernel: int
    """Its height and width, odd."""
    kind: Literal["filter"] = "filter"


class Filter(nn.Module):
    def __init__(self, config: FilterConfig) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(config.latent_channels, 1, config.kernel, padding=config.kernel // 2)
        nn.init.dirac_(self.convolution.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.convolution(x)


@dataclass(frozen=True, kw_only=True, slots=True)
class RestoringConfig(ObjectiveConfig):
    """The squared error, and what a critic says."""

    critic: float = 0.01
    kind: Literal["restoring"] = "restoring"


@dataclass(frozen=True, slots=True)
class Pairs:
    blurred: Tensor
    sharp: Tensor

    def __len__(self) -> int:
        return len(self.sharp)

    def __getitem__(self, samples: slice) -> "Pairs":
        return Pairs(self.blurred[samples], self.sharp[samples])


class Restoring:
    def __init__(self, config: RestoringConfig, data: ImageData, device: torch.device) -> None:
        self.config, self.data, self.device = config, data, device
        self.identity = {"kind": config.kind, "critic": config.critic}
        torch.manual_seed(0)
        self.critic = nn.Conv2d(1, 1, 3).to(device)
        own = AdamW(learning_rate=1e-2, clip=1.0)
        self.auxiliaries = (Auxiliary(name="critic", module=self.critic, optimizer=own, loss=self.critic_loss),)

    def batch(self, rows: Tensor, _labels: Tensor, draws: Any) -> Pairs:
        return self.pairs(self.data.network_inputs(rows.to(self.device), draws.encoding))

    def pairs(self, sharp: Tensor) -> Pairs:
        return Pairs(blurred(sharp), sharp)

    def loss(self, network: nn.Module, batch: Pairs) -> Losses:
        restored = network(batch.blurred)
        error, fooled = F.mse_loss(restored, batch.sharp), -self.critic(restored).mean()
        return Losses(total=error + self.config.critic * fooled, parts={"error": error, "fooled": fooled})

    def critic_loss(self, network: nn.Module, batch: Pairs) -> Losses:
        restored = network(batch.blurred)
        return Losses(total=F.relu(1 + self.critic(restored)).mean() + F.relu(1 - self.critic(batch.sharp)).mean())

    @property
    def validation(self) -> list[Pairs]:
        return [self.pairs(sharp_digits(self.data, 16).to(self.device))]

    def remark(self, _curve: Any, /) -> None:
        """Nothing to tell."""

    def validation_loss(self, network: nn.Module, batch: Pairs) -> Tensor:
        return F.mse_loss(network(batch.blurred), batch.sharp)


@dataclass(frozen=True, kw_only=True, slots=True)
class UnblurConfig(TaskConfig):
    """A filter that undoes a blur."""

    pictures: int = 32
    """Held-out ones that a score is of."""
    kind: Literal["unblur"] = "unblur"

    takes: ClassVar[type[ArchitectureConfig]] = FilterConfig
    objectives: ClassVar[tuple[type[ObjectiveConfig], ...]] = (RestoringConfig,)
    groups: ClassVar[tuple[str, ...]] = ("data",)
    quantities: ClassVar[Mapping[str, KnownQuantity]] = {
        "sharpness": score("Sharpness", "Signal to noise of restored digits. More is better.", more_is_better=True)
    }
    judging: ClassVar[Judging] = Judging(
        scores=("sharpness",),
        controls={"blurred": "the blurred digits as they are; what needs no network"},
        must_beat=("blurred",),
        floor=Floor(control="blurred", what="the blurred picture"),
        picture="restored.png",
        caption="The same digits, restored by each network.",
    )

    def scoring(self, _settings: Any) -> Scoring:
        return Scoring(scores=self.judging.scores, samples=self.pictures)


@dataclass(frozen=True, kw_only=True)
class Unblur:
    settings: Any
    data: ImageData
    warning: str | None = None
    scored_by: Mapping[str, Any] = field(default_factory=dict)

    @property
    def pictures(self) -> int:
        return sum(self.data.class_sizes)

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.data.channels, self.data.size, self.data.size

    @property
    def samples(self) -> int:
        return self.settings.task.pictures

    @property
    def trained_on(self) -> dict[str, Any]:
        return {"data": self.data.identity}

    @property
    def device(self) -> torch.device:
        return resolve_device(self.settings.recipe.device)

    def under(self, settings: Any) -> "Unblur":
        return replace(self, settings=settings)

    def fitted(self, architecture: ArchitectureConfig) -> ArchitectureConfig:
        return with_edits(architecture, {"latent_channels": self.data.channels})

    teacher = None

    def objective(self, _architecture, _seed) -> Any:
        return builder_of(self.settings.objective)(self.settings.objective, self.data, self.device)

    def watcher(self, _keep: Any, _hear: Any) -> None:
        return None

    def score(self, trained: Any, work: Any) -> dict[str, Measured]:
        sharp = sharp_digits(self.data, self.samples).to(self.device)
        with work.phase("restore"), torch.no_grad():
            restored = trained.model(blurred(sharp))
            shown = to_uint8(restored).cpu()
        with work.phase("score"):
            quantity = psnr(restored, sharp)
        write_grid(shown, work.artifact("restored.png"))
        return {"sharpness": quantity}

    def told(self, trial: str) -> Training:
        return Training(trial=trial, latent=self.data.size, text={}, task="unblur")

    def control_identity(self, _name: str, _base: ArchitectureConfig) -> dict[str, Any]:
        return {}

    def control(self, _name: str, _base: ArchitectureConfig) -> dict[str, Measured]:
        sharp = sharp_digits(self.data, self.samples)
        return {"sharpness": psnr(blurred(sharp), sharp)}


def load(settings: Any) -> Unblur:
    return Unblur(settings=settings, data=load_dataset(settings.data, cache=cache_folder(settings.out)))


def sharp_digits(data: ImageData, count: int) -> Tensor:
    rows, _ = stacked(data.heldout, range(count))
    return data.network_inputs(rows, lambda row: torch.zeros(count, *row))


def blurred(sharp: Tensor) -> Tensor:
    return F.conv2d(sharp, BLUR.to(sharp), padding=1)


def psnr(restored: Tensor, sharp: Tensor) -> Measured:
    """In dB; pictures go from -1 to 1."""
    error = float(F.mse_loss(restored, sharp))
    return Measured(value=float(10 * torch.log10(torch.tensor(4 / error))), unit="dB", conditions={"N": len(sharp)})


def register() -> None:
    kind_of(ArchitectureConfig, built_by=Filter)(FilterConfig)
    kind_of(ObjectiveConfig, built_by=Restoring)(RestoringConfig)
    kind_of(TaskConfig, built_by=load)(UnblurConfig)
