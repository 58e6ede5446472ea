"""A loaded teacher, of whichever kind: guidance, features, gradients, and its own precision."""

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TypeAlias

import torch
from torch import Tensor, nn

from harness.models.taps import Tap, all_open
from harness.records.plain import Plain
from harness.training.device import autocast, resolve_precision
from harness.training.recipe import Recipe
from harness.training.teacher import TeacherOutput

Velocity: TypeAlias = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""x_t (B, C, H, W), time (B,), labels (B,), drop (B,) -> (B, C, H, W): of the straight path, without guidance."""


class GuidedTeacher:
    """See `harness.training.teacher.Teacher`."""

    def __init__(
        self,
        network: nn.Module,
        velocity: Velocity,
        tap: Callable[[str], Tap],
        *,
        identity: Plain,
        taps: Mapping[str, int],
        guidance_scale: float,
        computes_in: torch.dtype = torch.float32,
    ) -> None:
        """computes_in: what its operators are autocast to; float32: to nothing, as weights and inputs are."""
        self.network, self.velocity, self._tap_at = network, velocity, functools.cache(tap)
        self.identity, self.taps, self.guidance_scale = identity, taps, guidance_scale
        self.computes_in = computes_in

    def __call__(
        self,
        x_t: Tensor,
        time: Tensor,
        labels: Tensor,
        drop: Tensor,
        tapped: Sequence[str] = (),
        *,
        guided: bool = True,
        differentiable: bool = False,
    ) -> TeacherOutput:
        kept = {place: self._tap_at(place) for place in tapped}
        with (
            torch.set_grad_enabled(differentiable and torch.is_grad_enabled()),
            self._computing(x_t.device),
            all_open(kept.values()),
        ):
            ask = self._guided if guided and self.guidance_scale != 1 else self.velocity
            velocity = ask(x_t, time, labels, drop).to(x_t.dtype)
        features = {place: tap.take(x_t)[: len(x_t)] for place, tap in kept.items()}
        self._whole_for_gradients_of(features.values())
        return TeacherOutput(velocity, features)

    def _whole_for_gradients_of(self, features: Iterable[Tensor]) -> None:
        """FSDP gathers what is in no block when a gradient comes to the network's output; one that comes by a feature
        alone passes that by. What is gathered so is shards again at the backward pass's end, as the rest."""
        unshard = getattr(self.network, "unshard", None)
        for feature in features:
            if unshard is not None and feature.requires_grad:
                feature.register_hook(lambda _gradient: unshard())  # type: ignore[no-untyped-call]

    def _guided(self, x_t: Tensor, time: Tensor, labels: Tensor, drop: Tensor) -> Tensor:
        """v_empty + scale (v_prompt - v_empty), both in one batch, the prompt's first."""
        dropped = torch.cat([drop, torch.ones_like(drop)])
        both = self.velocity(x_t.repeat(2, 1, 1, 1), time.repeat(2), labels.repeat(2), dropped)
        prompted, empty = both.to(x_t.dtype).chunk(2)
        return torch.lerp(empty, prompted, self.guidance_scale)

    def _computing(self, device: torch.device) -> AbstractContextManager[object]:
        """In the teacher's precision, whatever the student's is."""
        if self.computes_in == torch.float32:
            return torch.autocast(device.type, enabled=False)
        return autocast(device, self.computes_in)


def precision_on(device: torch.device, chosen: str, recipe: Recipe) -> torch.dtype:
    """Of a teacher's weights: its setting, or the recipe's."""
    own = {"bfloat16": torch.bfloat16, "float32": torch.float32}
    return resolve_precision(recipe, device) if chosen == "recipe" else own[chosen]
