"""What is scored: pictures by index, whoever makes them, with what a score of them has to know.

`network`, `pipeline` and `pictures` make sources of a trained network, of a diffusers pipeline and of pictures at hand.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from harness.diffusion.config import SamplingConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """N pictures, the same ones in every process."""

    title: str
    """For people."""
    identity: Mapping[str, Any]
    """What makes the pictures and their classes what they are, plain and by content: never a name or a path."""
    read: Callable[[range], Tensor]
    """The pictures of a range that begins at a multiple of `micro_batch`, uint8 (len(range), C, H, W).

    NotFiniteError where they are no numbers."""
    count: int  # N
    shape: tuple[int, int, int]  # (C, H, W)
    labels: Tensor | None
    """(N,) the classes that they should show."""
    unlabelled: str = ""
    """Why there are none; it names nothing that the identity does not have, since it is stored."""
    micro_batch: int
    """What is made together."""
    conditions: Mapping[str, Any]
    """Of the scores: how the pictures were made."""
    remarks: tuple[str, ...] = ()
    """Said each time, and no part of a score: what was left out, or is not as one may think."""


def sampled_title(name: str, config: SamplingConfig) -> str:
    return f"{name}, guidance {config.guidance_scale:g}, {config.steps} steps"
