"""The one way in for weights of other programs: read, renamed, checked against an architecture, written as our file.

    converted(Path("theirs.safetensors"), architecture("sdxl"), Path("ours.safetensors"), of="diffusers")

A converter says what another program's tensors are called here. A new one is a function and its line in CONVERTERS.
`harness convert` is this with what is needed to sample: the classes and the autoencoder.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from harness.architecture.config import ArchitectureConfig
from harness.architecture.unet import UNetConfig
from harness.models.convert_files import tensors_of
from harness.models.convert_peers import (
    DIFFUSERS_DIT_NAMES,
    DIT_NAMES,
    UVIT_NAMES,
    from_diffusers_dit,
    from_dit,
    from_uvit,
    original,
)
from harness.models.weights import Misfit, Training, misfit, write_weights
from harness.records.errors import UserError, unknown_name

TABLE = "text.rows"
"""A row for each class and one for none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Converter:
    """What one program's tensors are called here."""

    rename: Callable[[Mapping[str, Tensor], ArchitectureConfig], dict[str, Tensor]]
    mark: str
    """A tensor that its files have and no other program's."""
    names: tuple[tuple[str, str], ...] = ()
    """Theirs and ours, where they tell what a tensor of ours is called there."""


def converted(
    source: Path, architecture: ArchitectureConfig, to: Path, *, of: str | None = None, training: Training | None = None
) -> None:
    """Write the weights in `source`, a file of safetensors or of torch.save that the program `of` made, as a file of
    this project: weights of `architecture`, as the caller says, since the source itself does not.

    `of`: a name in CONVERTERS; None: by the names of the tensors. `training`: what sampling needs, as far as the caller
    knows it. Raises UserError where the source cannot be read, is another program's, or does not fit the architecture.
    """
    if of is not None and of not in CONVERTERS:
        raise unknown_name("converter of weights", of, CONVERTERS)
    theirs = tensors_of(source)
    try:
        converter = CONVERTERS[of or _program_of(theirs)]
        ours = converter.rename(theirs, architecture)
        if (wrong := misfit(ours, architecture)) is not None:
            raise _does_not_fit(wrong, _their_name(wrong.name, theirs, ours, converter), ours)
    except UserError as error:
        raise UserError(f"{source}: {error}") from error
    write_weights(to, ours, architecture, training)


def _program_of(theirs: Mapping[str, Tensor]) -> str:
    for name, converter in CONVERTERS.items():
        if converter.mark in theirs:
            return name
    marks = ", ".join(f"{name} ('{converter.mark}')" for name, converter in CONVERTERS.items() if converter.mark)
    raise UserError(f"its tensors are those of no program that is known, each of which has one: {marks}")


def _their_name(name: str, theirs: Mapping[str, Tensor], ours: Mapping[str, Tensor], converter: Converter) -> str:
    """What the tensor that is called `name` here is called in their file; if it is not there, would be."""
    own = ours.get(name)
    known = (key for key, tensor in theirs.items() if tensor is own)
    return next(known, None) or original(name, converter.names)


def _does_not_fit(wrong: Misfit, name: str, ours: Mapping[str, Tensor]) -> UserError:
    if wrong.is_value:
        return UserError(f"its weights are not finite: '{name}' {wrong.reason}; give another checkpoint")
    if wrong.name == TABLE and wrong.name in ours:
        rows = len(ours[wrong.name])
        return UserError(
            f"'{name}' {wrong.reason}: a table of {rows - 1} classes and a row for none is the architecture's with "
            f"`edits: {{context_width: {rows}}}` in a YAML, and then --names names its classes"
        )
    advice = "name the architecture that the weights are of, or fetch them again"
    return UserError(f"its weights do not fit the architecture: '{name}' {wrong.reason}; {advice}")


def _as_they_are(theirs: Mapping[str, Tensor], _architecture: ArchitectureConfig) -> dict[str, Tensor]:
    """A state_dict of one of our own modules, saved without its architecture."""
    return dict(theirs)


def _from_diffusers(theirs: Mapping[str, Tensor], architecture: ArchitectureConfig) -> dict[str, Tensor]:
    """diffusers' UNet2DConditionModel; keys and values are one matrix here, and `up` counts from the top."""
    if not isinstance(architecture, UNetConfig):
        raise UserError(f"diffusers' UNet is no {type(architecture).__name__}; name a UNet's architecture")
    ours = {_from_diffusers_name(key, len(architecture.stages)): tensor for key, tensor in theirs.items()}
    for key in [key for key in ours if ".to_k." in key]:
        ours[key.replace("to_k", "key_value")] = torch.cat([ours.pop(key), ours.pop(key.replace("to_k", "to_v"))])
    return ours


DIFFUSERS_NAMES = (
    ("down_blocks.", "down."),
    ("mid_block.", "middle."),
    ("up_blocks.", "up."),
    ("resnets.", "block."),
    ("attentions.", "attention."),
    ("downsamplers.0.conv", "downsample"),
    ("upsamplers.0.conv", "upsample.conv"),
    ("time_emb_proj", "time"),
    ("conv_shortcut", "shortcut"),
    ("linear_", "linear"),
    ("proj_in", "project_in"),
    ("proj_out", "project_out"),
    ("transformer_blocks.", "layer."),
    ("to_out.0", "out"),
    ("to_q", "query"),
    ("ff.net.0.proj", "feed_forward.expand"),
    ("ff.net.2", "feed_forward.contract"),
    ("conv_norm_out", "norm_out"),
)
DIFFUSERS_LAYER_NAMES = (
    ("attn1", "self_attention"),
    ("attn2", "cross_attention"),
    ("norm1", "self_norm"),
    ("norm2", "cross_norm"),
    ("norm3", "feed_norm"),
)


def _from_diffusers_name(key: str, stages: int) -> str:
    for theirs, ours in DIFFUSERS_NAMES:
        key = key.replace(theirs, ours)
    for theirs, ours in DIFFUSERS_LAYER_NAMES if ".layer." in key else ():
        key = key.replace(theirs, ours)
    parts = key.split(".")
    if parts[0] == "up":  # theirs counts from the lowest resolution
        parts[1] = str(stages - 1 - int(parts[1]))
    return ".".join(parts)


CONVERTERS: dict[str, Converter] = {
    "dit": Converter(rename=from_dit, mark="x_embedder.proj.weight", names=DIT_NAMES),
    "uvit": Converter(rename=from_uvit, mark="patch_embed.proj.weight", names=UVIT_NAMES),
    "diffusers_dit": Converter(rename=from_diffusers_dit, mark="pos_embed.proj.weight", names=DIFFUSERS_DIT_NAMES),
    "diffusers": Converter(rename=_from_diffusers, mark="down_blocks.0.resnets.0.conv1.weight"),
    "state_dict": Converter(rename=_as_they_are, mark=""),  # of our own names, which no name here tells apart
}
