"""Flow matching: the velocity on the straight path, at logit-normal times (`harness.diffusion.flow_matching`)."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from harness.diffusion.flow_matching import Prompts, flow_matching_loss, logit_normal_times
from harness.records.errors import UserError
from harness.records.plain import Plain, identity
from harness.records.record import CurvePoint
from harness.training.batches import TrainingData, stacked
from harness.training.device import to_device
from harness.training.objective import Auxiliary, Losses
from harness.training.objective_config import ObjectiveConfig
from harness.training.randomness import Draws, generator, normals
from harness.training.recipe import Recipe

FIXED_SEED = 0
"""Of the validation: the same for every trial, whatever its own seed."""


@dataclass(frozen=True, slots=True)
class NoisedImages:
    """The arguments of `flow_matching_loss` behind the network, on the training's device."""

    x0: Tensor  # (B, C, H, W), of a size of about 1
    noise: Tensor  # (B, C, H, W)
    time: Tensor  # (B,)
    context: Tensor  # (B, T, D)
    context_mask: Tensor | None  # (B, T)

    def __len__(self) -> int:
        return len(self.x0)

    def __getitem__(self, samples: slice) -> "NoisedImages":
        mask = None if self.context_mask is None else self.context_mask[samples]
        return NoisedImages(self.x0[samples], self.noise[samples], self.time[samples], self.context[samples], mask)

    def arguments(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None]:
        return self.x0, self.noise, self.time, self.context, self.context_mask


class FlowMatching:
    auxiliaries: tuple[Auxiliary, ...] = ()

    def __init__(
        self,
        config: ObjectiveConfig,
        data: TrainingData,
        prompts: Prompts,
        recipe: Recipe,
        device: torch.device,
    ) -> None:
        self.identity: Plain = identity(config)
        self.data, self.prompts, self.recipe, self.device = data, prompts.to(device), recipe, device

    def batch(self, rows: Tensor, labels: Tensor, draws: Draws) -> NoisedImages:
        time = logit_normal_times(draws.normal(()))
        drop = self._drop(draws)
        x0 = self._x0(rows, draws)
        return self._with_prompts(x0, labels, draws.normal(x0.shape[1:]), time, drop)

    def _drop(self, draws: Draws) -> Tensor:
        """(B,) whose prompt is the empty one, for classifier-free guidance (arXiv 2207.12598)."""
        return draws.uniform() < self.recipe.cfg_dropout

    def _x0(self, rows: Tensor, draws: Draws) -> Tensor:
        """On the device."""
        return self.data.network_inputs(
            to_device(rows, self.device), lambda row: to_device(draws.encoding(row), self.device)
        )

    def loss(self, network: nn.Module, batch: NoisedImages) -> Losses:
        return Losses(total=flow_matching_loss(network, *batch.arguments()))

    def validation_loss(self, network: nn.Module, batch: NoisedImages) -> Tensor:
        return flow_matching_loss(network, *batch.arguments())

    @cached_property
    def validation(self) -> list[Any]:
        return self.heldout_batches()

    def remark(self, _curve: Sequence[CurvePoint], /) -> str | None:
        return None

    def heldout_batches(self) -> list[Any]:
        """Held-out images spread evenly over the data, with their times and noise.

        The times are the logit-normal's quantiles (i + 1/2) / n, shuffled: its stratified sample.
        """
        images, size = self.data.heldout, self.recipe.batch_size
        count = min(self.recipe.validation_images, len(images))
        if count == 0:
            raise UserError("the data has no held-out images to validate on; raise the held-out share")
        random = generator(FIXED_SEED, "validation", 0)
        quantiles = (torch.randperm(count, generator=random) + 0.5) / count
        times = logit_normal_times(torch.special.ndtri(quantiles))
        batches = []
        for start in range(0, count, size):
            numbers = [number * len(images) // count for number in range(start, min(start + size, count))]
            rows, labels = stacked(images, numbers)
            encoding = normals(generator(FIXED_SEED, "validation-encoding", start), len(numbers))
            x0 = self.data.network_inputs(rows.to(self.device), encoding)
            noise = torch.randn(x0.shape, generator=random)
            keep = torch.zeros(len(numbers), dtype=torch.bool)
            batches.append(self._with_prompts(x0, labels, noise, times[start : start + len(numbers)], keep))
        return batches

    def _with_prompts(self, x0: Tensor, labels: Tensor, noise: Tensor, time: Tensor, drop: Tensor) -> NoisedImages:
        """All parts on the device, where x0 already is; `drop` is True where the prompt is the empty one. Labels are on
        the CPU, as prompts that stay on the disk are."""
        noise, time, drop = (to_device(each, self.device) for each in (noise, time, drop))
        context, mask = self.prompts.context(labels, drop)
        return NoisedImages(x0, noise, time, context, mask)
