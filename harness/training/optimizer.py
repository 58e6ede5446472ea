"""AdamW of one module, with what a checkpoint needs of it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from harness.models.parameters import weight_decays
from harness.training.parallel import like, whole


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
        """`PREFIXNUMBER.NAME` -> the moments of a parameter, on the CPU."""
        state = self._adamw.state_dict()["state"]
        return {
            f"{prefix}{number}.{name}": whole(tensor).cpu().contiguous()
            for number, tensors in state.items()
            for name, tensor in tensors.items()
        }

    def restore(self, tensors: Mapping[str, Tensor], prefix: str) -> None:
        states: dict[int, dict[str, Tensor]] = {}
        for path, tensor in tensors.items():
            if path.startswith(prefix):
                number, name = path.removeprefix(prefix).split(".")
                of = self._numbered[int(number)]
                states.setdefault(int(number), {})[name] = tensor.clone() if tensor.ndim == 0 else _moment(tensor, of)
        self._adamw.load_state_dict({"state": states, "param_groups": self._adamw.state_dict()["param_groups"]})


def _moment(tensor: Tensor, of: Tensor) -> Tensor:
    """A parameter's, as that is sharded and in the order of its numbers."""
    return torch.empty_like(of).copy_(like(tensor, of))
