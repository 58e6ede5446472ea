"""A frozen network that a student learns from, as objectives see it, whoever trained it.

It answers for the student's own samples: x_t on the straight path x_t = (1 - t) x_0 + t e, in the latent space that the
student is trained in, of classes by their numbers in the student's data. How it reads their prompts, what it predicts
and on which path is its own affair.

An implementation is one file in `harness/training/teachers/`, registered with its settings in `teacher_config`. It
first describes itself, from the heads of files, and refuses there what cannot be: a study does that before it begins,
and so does a dry run. Of others no text encoder runs for that; a network of ours reads its prompts at once, by which
its encoder is known. When a trial begins, one of its processes has the prompts read; then every one loads it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from harness.data.config import TextConfig
from harness.data.prompts import PromptTable
from harness.records.errors import UserError
from harness.records.plain import Plain, canonical_json
from harness.training.recipe import Recipe


@dataclass(frozen=True, kw_only=True, slots=True)
class Student:
    """For whom a teacher is wanted."""

    shape: tuple[int, int, int]
    """(C, h, w) of what it is trained on."""
    autoencoder: Mapping[str, Any] | None
    """What made its latents, as `harness.models.codec.Description.identity` says it; None: it sees pixels."""
    class_names: Sequence[str] | None
    """Of its data, by their numbers; None where the data is not here, as in a dry run for another machine."""
    text: TextConfig
    """What reads its prompts."""
    recipe: Recipe
    cache: Path
    """The folder of what can be computed again, as embedded prompts."""
    weights_of: Callable[[str], Path]
    """The file of weights of a network of ours, by whatever a user names it with. UserError where there is none."""


@dataclass(frozen=True, slots=True)
class TeacherOutput:
    velocity: Tensor
    """(B, C, H, W) float32, of the straight path, with the teacher's guidance."""
    features: Mapping[str, Tensor] = field(default_factory=dict)
    """(B, C', H', W') of each tap that was asked for, under the prompt, in the teacher's precision."""


class Teacher(Protocol):
    """Loaded, on the training's device, in evaluation mode. It has no parameter that is trained."""

    @property
    def identity(self) -> Plain:
        """All that its answers are a function of: hashes of contents, prediction, text, guidance; never paths."""
        ...

    @property
    def taps(self) -> Mapping[str, int]:
        """The features that can be asked for, by their place in the network, in forward order -> channels. The last one
        is the default."""
        ...

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
        """x_t (B, C, H, W) on the straight path, time (B,), labels (B,) class numbers of the student's data, drop (B,)
        True where the prompt is the empty one: there guidance does nothing. tapped: of `taps`, those whose features are
        asked for.

        guided: its velocity has the teacher's guidance, if any. Who asks for features alone does without, since they
        are the prompt's either way, and the empty prompt's pass is for the velocity.
        differentiable: gradients go through it to x_t. Else none do, and nothing is kept for them.
        """
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """What a teacher's text encoders have to do before it can teach, once."""

    prompts: int
    macs: int
    """About: a multiply-add for each weight and token."""
    size: int
    """Bytes in the cache."""


class TeacherDescription(Protocol):
    """What can be told of a teacher without its weights in memory."""

    @property
    def identity(self) -> Plain: ...

    @property
    def taps(self) -> Mapping[str, int]: ...

    def maps(self, places: Sequence[str]) -> Sequence[tuple[int, int, int]]:
        """(C', H', W') of the features at these of `taps`, of the student's samples."""
        ...

    @property
    def params(self) -> int: ...

    def precision(self, planned: str) -> str:
        """`float32` or `bfloat16`: of its forward pass, and of its weights in memory, where the recipe's is planned to
        be that."""
        ...

    @property
    def macs(self) -> int:
        """Multiply-adds of one pass over one sample; a guided call makes two."""
        ...

    @property
    def unread(self) -> Reading | None:
        """None where no prompts are left to read, or the data is not here."""
        ...

    def read_prompts(self) -> None:
        """Into the cache, unless they are there."""
        ...

    def prompts_bytes(self, planned: str) -> int:
        """Of its prompts in a process's memory, in the precision of the same plan; 0 where they stay on the disk, or
        the data is not here."""
        ...

    def example(self) -> tuple[nn.Module, tuple[Tensor, ...]]:
        """The network on the meta device, called with tensors alone, and these for one sample, its x_t the first."""
        ...

    def load(self, device: torch.device) -> Teacher:
        """Errors: UserError where the weights are not what the file says of them."""
        ...


def check_latent_space(name: str, autoencoder: Mapping[str, Any] | None, channels: int, student: Student) -> None:
    """UserError where a teacher of latents that `autoencoder` made (None: of pixels), of so many channels, is in
    another space than its student. `name` is what the sentence calls it."""
    own, theirs = _space(autoencoder), _space(student.autoencoder)
    if own is None or theirs is None:
        if own != theirs:
            seen = {True: "pixels", False: "an autoencoder's latents"}
            raise UserError(
                f"the teacher {name} sees {seen[own is None]}, and the student {seen[theirs is None]}; name a teacher "
                "of the student's space, or train on the teacher's"
            )
    elif differing := [key for key in own if key in theirs and _differ(own[key], theirs[key])]:
        shown = "; ".join(f"its {key} is {own[key]}, the student's {theirs[key]}" for key in differing[:3])
        raise UserError(
            f"the teacher {name} is of another autoencoder's latents than the student: {shown}; name a teacher of the "
            "same ones, or prepare the data with the teacher's autoencoder"
        )
    if channels != student.shape[0]:
        raise UserError(
            f"the teacher {name} takes {channels} channels, and the student has {student.shape[0]}; name a teacher of "
            "the same, or data of as many, as data=image_folder has with data.color"
        )


def check_recorded(name: str, prompts: PromptTable, device: torch.device, recipe: Recipe) -> None:
    """UserError where a recorded step would have to read a teacher's prompts, which are too many for the device: it
    asks for them while it computes."""
    if recipe.cuda_graph and prompts.embeddings.device.type != device.type:
        raise UserError(
            f"the teacher {name} reads its {len(prompts):,} prompts batch by batch from the disk, since they are too "
            "large for the device, and recipe.cuda_graph records steps that read nothing; leave it out"
        )


ENCODING = "encoding"
"""Whether an encoder's mean is taken or a sample is drawn: the same space either way."""


def _space(autoencoder: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return None if autoencoder is None else {key: value for key, value in autoencoder.items() if key != ENCODING}


def _differ(one: object, other: object) -> bool:
    return canonical_json(one) != canonical_json(other)
