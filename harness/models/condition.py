"""What every block may look at besides the feature map."""

from typing import NamedTuple

from torch import Tensor


class Condition(NamedTuple):
    time: Tensor  # (B, time_width), after its SiLU
    context: Tensor  # (B, T, context_width)
    mask: Tensor | None  # (B, 1, 1, T) bool, True where there is a token; None: all of them
