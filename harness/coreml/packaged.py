"""A package in its network's place: called as the network is, it runs the package's program.

The program takes one image; many at once are one run of it under `torch.vmap`.
"""

from pathlib import Path

import torch
from torch import Tensor, nn

from harness.coreml.interpreter import Mode, run_program
from harness.coreml.mil_program import Program, kept, read_program
from harness.records.errors import UserError


class OnPhone(nn.Module):
    """A denoiser as a package takes it: the mask as numbers, which Core ML has no truth values for."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, latent: Tensor, time: Tensor, context: Tensor, mask: Tensor | None = None) -> Tensor:
        """latent (1, C, h, w), time (1,), context (1, T, D), mask (1, T), 1 on tokens."""
        out: Tensor = self.network(latent, time, context, None if mask is None else mask > 0.5)
        return out


class PackagedNetwork(nn.Module):
    """x (B, C, H, W), time (B,), context (B, T, D), mask (B, T) or None -> (B, C, H, W).

    By `mode` what the program declares fp16 is rounded to it (`harness.coreml.interpreter`). UserError for a package of
    something else.
    """

    def __init__(self, package: Path, mode: Mode = "float16", like: nn.Module | None = None) -> None:
        super().__init__()
        self.program, self.mode = kept(_denoiser(package)), mode
        self.config = getattr(like, "config", None)  # which says what the network predicts
        self.place = nn.Parameter(torch.empty(0), requires_grad=False)  # tells on which device it runs

    @property
    def takes_mask(self) -> bool:
        return len(self.program.inputs) == len(NAMES)

    def forward(self, x: Tensor, time: Tensor, context: Tensor, mask: Tensor | None = None) -> Tensor:
        given = [x, time, context]
        if self.takes_mask:
            given.append(torch.ones(context.shape[:2]) if mask is None else mask.float())
        elif mask is not None and not bool(mask.all()):
            raise UserError(
                "the prompts are padded and the package takes no mask, so that it would read the padding; export it "
                "anew from its trial's weights"
            )
        out: Tensor = torch.vmap(self._one)(*(each[:, None] for each in given))
        return out[:, 0]

    def _one(self, *given: Tensor) -> Tensor:
        (out,) = run_program(self.program, self.program.named(given), self.mode).values()
        return out


NAMES = ("latent", "time", "context", "mask")


def _denoiser(package: Path) -> Program:
    program = read_program(package)
    ranks = [len(variable.shape) for variable in program.inputs]
    if ranks not in ([4, 1, 3], [4, 1, 3, 2]) or len(program.outputs) != 1:
        shapes = ", ".join(f"{each.name} {each.shape}" for each in program.inputs)
        raise UserError(
            f"{package} takes {shapes} and gives {len(program.outputs)} outputs; a network that makes pictures takes "
            f"{', '.join(NAMES[:3])} and perhaps {NAMES[3]}, and gives one"
        )
    return program
