"""AdamW of one module, with what a checkpoint needs of it."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from harness.models.parameters import weight_decays
from harness.training.parallel import whole


@dataclass(frozen=True, kw_only=True, slots=True)
class AdamW:
    """Its settings."""

    learning_rate: float
    """At its peak; it rises and falls as the recipe's."""
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.0
    clip: float | None = None
    """The largest norm of the module's whole gradient; None does not clip."""


class Optimizer:
    """AdamW (arXiv 1711.05101); weight decay on kernels and matrices, as `weight_decays` tells them from the rest."""

    def __init__(self, module: nn.Module, settings: AdamW) -> None:
        decays = weight_decays(module)
        trained = [(name, parameter) for name, parameter in module.named_parameters() if parameter.requires_grad]
        self.settings, self.parameters = settings, [parameter for _, parameter in trained]
        groups = [
            {"params": [p for name, p in trained if decays[name]], "weight_decay": settings.weight_decay},
            {"params": [p for name, p in trained if not decays[name]], "weight_decay": 0.0},
        ]
        self._adamw = torch.optim.AdamW(
            [group for group in groups if group["params"]], betas=settings.betas, fused=True
        )

    @property
    def _numbered(self) -> list[Tensor]:
        """The parameters in the order of the optimiser's state."""
        return [parameter for group in self._adamw.param_groups for parameter in group["params"]]

    def step(self, learning_rate: float) -> Tensor:
        """Clip the gradients, step, and clear them; () their norm before clipping."""
        limit = math.inf if self.settings.clip is None else self.settings.clip
        norm = whole(nn.utils.clip_grad_norm_(self.parameters, limit))
        for group in self._adamw.param_groups:
            group["lr"] = learning_rate
        self._adamw.step()
        self._adamw.zero_grad()
        return norm

    def tensors(self, prefix: str) -> dict[str, Tensor]:
        """`PREFIXNUMBER.NAME` -> the moments of a parameter, themselves."""
        state = self._adamw.state_dict()["state"]
        return {f"{prefix}{number}.{name}": moment for number, named in state.items() for name, moment in named.items()}

    def allocate(self, names: Iterable[str], prefix: str) -> None:
        """Moments for the parameters that these names are of, to be filled; none for the others."""
        numbers = {int(name.removeprefix(prefix).split(".")[0]) for name in names if name.startswith(prefix)}
        self._adamw.state.clear()
        for number in sorted(numbers):
            parameter = self._numbered[number]
            self._adamw.state[parameter] = {
                "step": torch.zeros((), device=parameter.device),
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": torch.zeros_like(parameter),
            }
