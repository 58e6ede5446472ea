"""What tasks have in common that make a picture again: which pictures, how they are scored and shown.

train -> reconstruct -> score: held-out pictures, whole, against what a network makes of them or of their latents.
Beside the record lie some of them for people: originals, reconstructions, and eight times their difference.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from harness.architecture.kinds import builder_of
from harness.data.images import ImageData, Images
from harness.data.pairs import Pairs, stacked_rows
from harness.launch.events import report_progress
from harness.measure.reconstruction import ReconstructionScorer
from harness.measure.reconstruction_controls import PairsOfTensors
from harness.models.extractor_config import extractor_identity
from harness.models.feature_extractor import check_extractor
from harness.models.perceptual import check_perceptual
from harness.models.perceptual_config import perceptual_identity
from harness.models.pixels import to_uint8
from harness.records.quantity import Quantity
from harness.training.device import resolve_device
from harness.training.objective import Objective
from harness.training.objectives.reconstruction import Reconstructed, check_patch, judged_by
from harness.training.outcomes import Trained
from harness.training.reconstruction_config import ReconstructionConfig
from harness.trials.samples import write_grid
from harness.trials.settings import Settings
from harness.trials.task import Work
from harness.trials.task_config import ReconstructingConfig
from harness.trials.watching import Hear, Keep

AT_ONCE, VALUES_AT_ONCE = 64, 2**22
"""Pictures that are made together, and values of pixels in them, at most."""
FITTED, FITTED_VALUES = 2048, 2**26
"""Training pictures that controls are fitted to, and values of pixels in them, at most."""
SHOWN = 12
MAGNIFIED = 8
ROUNDING = "nearest"

Make = Callable[[Tensor], Tensor]
"""What a network sees (B, C, h, w), on the device -> pictures (B, C, H, W) in -1..1."""
Own = TypeVar("Own", bound="Reconstructing")


def check_judges(task: ReconstructingConfig) -> None:
    """Refuse weights that are missing, before anything is trained."""
    check_extractor(task.extractor)
    if task.perceptual is not None:
        check_perceptual(task.perceptual)


@dataclass(frozen=True, kw_only=True)
class Reconstructing:
    """What of `harness.trials.task.Task` such tasks share."""

    settings: Settings
    images: ImageData
    pairs: Pairs
    last: str
    """The place of a network's last convolution."""

    teacher = None

    @property
    def data(self) -> Pairs:
        return self.pairs

    @property
    def pictures(self) -> int:
        return len(self.pairs.train)

    @property
    def samples(self) -> int:
        return len(self.heldout)

    @property
    def config(self) -> ReconstructingConfig:
        assert isinstance(self.settings.task, ReconstructingConfig)
        return self.settings.task

    @property
    def minimised(self) -> ReconstructionConfig:
        assert isinstance(self.settings.objective, ReconstructionConfig)
        return self.settings.objective

    @property
    def side(self) -> int:
        """Of a picture, or of a patch, that is trained on."""
        return check_patch(self.minimised, self.pairs)

    @property
    def originals(self) -> Images:
        """What scores are of."""
        return self.pairs.heldout

    @property
    def heldout(self) -> list[int]:
        """The numbers of those that scores are of, spread evenly."""
        return _spread(len(self.originals), self.config.pictures)

    @property
    def warning(self) -> str | None:
        return self.images.warning

    @property
    def judged(self) -> dict[str, Any]:
        """What judges a picture, by its content: in the loss, and in the scores."""
        scores = {"extractor": extractor_identity(self.config.extractor)}
        if self.config.perceptual is not None:
            scores["perceptual"] = perceptual_identity(self.config.perceptual)
        return {"loss": judged_by(self.minimised), "scores": scores}

    @property
    def scored_by(self) -> dict[str, Any]:
        return {}

    def under(self: Own, settings: Settings) -> Own:
        return replace(self, settings=settings)

    def objective(self, _architecture: object, seed: int) -> Objective[Any]:
        recipe = self.settings.recipe
        device = resolve_device(recipe.device)
        given = Reconstructed(data=self.pairs, recipe=recipe, device=device, seed=seed, last=self.last)
        built: Objective[Any] = builder_of(self.minimised)(self.minimised, given)
        return built

    def watcher(self, _keep: Keep, _hear: Hear) -> None:
        return None

    # scores

    def score(self, trained: Trained, work: Work) -> dict[str, Quantity]:
        device = next(trained.model.parameters()).device
        under = {"training_device": trained.effort.device, "precision": trained.effort.precision}
        with work.phase("reconstruct"):
            scorer, shown = self.scorer(device), list[tuple[Tensor, Tensor]]()
            for done, decoded, originals in self.decoded(trained.model, device):
                scorer.add(decoded, originals)
                shown += zip(decoded[: SHOWN - len(shown)], originals[: SHOWN - len(shown)], strict=True)
                report_progress(work.folder, "reconstruct", done, self.samples)
        with work.phase("score"):
            quantities = scorer.quantities({**under, **self.settings.recipe.rounded_otherwise, **self.conditions})
        rows = side_by_side(*(torch.stack(each) for each in zip(*shown, strict=True)))
        write_grid(rows, work.artifact(self.config.judging.picture), columns=len(shown))
        return quantities

    def scored(self, make: Make, **conditions: Any) -> dict[str, Quantity]:
        """Of something that is not trained, with its own conditions."""
        device = resolve_device(self.settings.recipe.device)
        scorer = self.scorer(device)
        for _, decoded, originals in self.decoded(make, device):
            scorer.add(decoded, originals)
        return scorer.quantities({**self.conditions, **conditions})

    @property
    def conditions(self) -> dict[str, Any]:
        return {"rounding": ROUNDING, "data": self.images.kind}

    def scorer(self, device: torch.device) -> ReconstructionScorer:
        labels = torch.from_numpy(self.originals.labels[np.array(self.heldout)])
        return ReconstructionScorer(labels, self.config.extractor, self.config.perceptual, device)

    def decoded(self, make: Make, device: torch.device) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Of the held-out pictures, part by part: how many are done, what is made of them, and they; uint8."""
        done = 0
        for seen, pictures in self.scored_parts(self.heldout, device):
            with torch.no_grad(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
                decoded = to_uint8(make(seen), ROUNDING).cpu()
            done += len(decoded)
            yield done, decoded, to_uint8(pictures).cpu()

    @property
    def fitted_to(self) -> list[int]:
        """The numbers of the training pictures that controls are fitted to, spread evenly."""
        most = min(FITTED, max(1, FITTED_VALUES // (self.pairs.channels * self.pairs.side**2)))
        return _spread(len(self.pairs.train), most)

    def training_pairs(self, device: torch.device) -> PairsOfTensors:
        """Of those; of latents the means."""
        return self.parts(self.pairs.train, self.fitted_to, device)

    def scored_parts(self, numbers: list[int], device: torch.device) -> PairsOfTensors:
        return self.parts(self.originals, numbers, device)

    def parts(self, images: Images, numbers: list[int], device: torch.device) -> PairsOfTensors:
        loaded = self.pairs.on(device)
        for some in self.together(numbers):
            yield loaded.pairs(stacked_rows(images, some).to(device), None)

    def together(self, numbers: list[int]) -> Iterator[list[int]]:
        """As many pictures at once as memory is meant to hold."""
        size = max(1, min(AT_ONCE, VALUES_AT_ONCE // (self.pairs.channels * self.pairs.side**2)))
        return (numbers[start : start + size] for start in range(0, len(numbers), size))


def _spread(there: int, most: int) -> list[int]:
    count = min(there, most)
    return [number * there // count for number in range(count)]


def side_by_side(decoded: Tensor, originals: Tensor) -> Tensor:
    """Three rows: originals, reconstructions, and eight times the difference about grey."""
    difference = 128 + MAGNIFIED * (decoded.to(torch.int16) - originals.to(torch.int16))
    return torch.cat([originals, decoded, difference.clamp(0, 255).to(torch.uint8)])
