"""Averages of the weights over training: the one that is evaluated, and snapshots of which others are made afterwards.

The first is exponential (Polyak and Juditsky 1992), with the decay of `Recipe.ema_decay_at`. The others have the
power-function profile of Karras et al. 2024 (arXiv 2312.02696, section 3.1), whose width grows with training:

    average_t = sum over k <= t of p_t(k) weights_k,   p_t(k) = (g + 1) k^g / t^(g + 1)           (eq. 121)
              = b_t average_(t-1) + (1 - b_t) weights_t,   b_t = (1 - 1/t)^(g + 1)               (eq. 127)
    span      = sqrt(g + 1) / ((g + 2) sqrt(g + 3))                                             (eq. 123)

t counts steps. The span is the standard deviation of p_t as a share of t; the paper calls it sigma_rel.
"""

import copy
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from harness.records.errors import UserError
from harness.training.parallel import World
from harness.training.post_hoc import Profile, write_snapshot
from harness.training.tensors import live_tensors, named_tensors


class Ema:
    """A second copy of the model whose weights follow: ema <- d ema + (1 - d) weights."""

    def __init__(self, model: nn.Module) -> None:
        self.model = copy.deepcopy(model).requires_grad_(False).eval()

    @torch.no_grad()
    def update(self, model: nn.Module, decay: float) -> None:
        torch._foreach_lerp_(list(self.model.parameters()), list(model.parameters()), 1 - decay)
        if buffers := list(self.model.buffers()):
            torch._foreach_copy_(buffers, list(model.buffers()))


class PowerAverages:
    """Those that snapshots are kept of."""

    def __init__(self, model: nn.Module, spans: Sequence[float]) -> None:
        self._by_span = {span: (Ema(model), Profile(1, span).exponent) for span in spans}

    @property
    def models(self) -> list[nn.Module]:
        return [average.model for average, _ in self._by_span.values()]

    def update(self, model: nn.Module, step: int) -> None:
        for average, exponent in self._by_span.values():
            average.update(model, (1 - 1 / step) ** (exponent + 1))

    def write(self, folder: Path, step: int, architecture: str, world: World) -> None:
        """A snapshot of each, by the first process. UserError where they cannot be written."""
        for span, (average, _) in self._by_span.items():
            tensors = named_tensors(average.model)
            if world.is_first:
                write_snapshot(folder, Profile(step, span), tensors, architecture)

    def tensors(self) -> dict[str, Tensor]:
        """For a checkpoint: `average-SPAN.NAME`, themselves."""
        tensors: dict[str, Tensor] = {}
        for span, (average, _) in self._by_span.items():
            tensors |= live_tensors(average.model, _prefix(span))
        return tensors

    def check_names(self, names: Iterable[str], step: int) -> None:
        """UserError where a training began without some of these averages."""
        for span in self._by_span:
            if not any(name.startswith(_prefix(span)) for name in names):
                raise UserError(
                    f"recipe.ema_spans asks for an average of span {span:g} from the first step on, and this training "
                    f"was without one up to step {step}; leave it out, or train anew in another folder"
                )


def _prefix(span: float) -> str:
    return f"average-{span:.3f}."
