"""Pictures as numbers that a network sees, and back: grey levels 0..255 as -1..1."""

from collections.abc import Callable

import torch
from torch import Tensor


def to_model_range(images: Tensor) -> Tensor:
    """uint8 0..255 -> float32 -1..1."""
    return images.to(torch.float32) / 127.5 - 1.0


class NotFiniteError(Exception):
    """A network made images with values that are NaN or infinite; the message counts them."""


def to_uint8(images: Tensor, rounding: str = "nearest") -> Tensor:
    """float -1..1 -> uint8 0..255, clamped, by a rule of ROUNDING; NotFiniteError for NaN and infinity."""
    if not bool(torch.isfinite(images).all()):
        bad = int((~torch.isfinite(images)).flatten(1).any(1).sum())
        raise NotFiniteError(f"{bad} of {len(images)} images have values that are NaN or infinite")
    return ROUNDING[rounding](images.to(torch.float32)).clamp(0, 255).to(torch.uint8)  # which drops the fraction


ROUNDING: dict[str, Callable[[Tensor], Tensor]] = {
    "nearest": lambda x: ((x + 1.0) * 127.5).round(),
    "dit": lambda x: 127.5 * x + 128.0,
    "truncate": lambda x: (x + 1.0) * 127.5,
}
"""-1..1 -> levels whose fractions are dropped. Published scores were computed with each of them: `nearest` and `dit`
differ where a value lies in the middle between two levels only, `truncate` from both by half a level in the mean."""
