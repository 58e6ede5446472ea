"""Decoders of latents into images: Stable Diffusion's, and what makes the tiny one of it (Tab. 2), knob by knob."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from math import ceil
from typing import Literal

from harness.architecture.family import ArchitectureConfig, identity_without
from harness.architecture.kinds import kind_of
from harness.architecture.knobs import Convolution, MapNorm, Nearest, Upsampling
from harness.architecture.plan import decoder_plan
from harness.architecture.rules import KERNELS, SIZES, Rule, check, groups_left_over, not_whole_inside
from harness.architecture.sizes import SIZE
from harness.records.plain import IDENTITY_UNLESS_DEFAULT, Plain, tag_of

EDGE_KERNEL = 3
"""Side of the first and of the last convolution."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DecoderStage:
    """One resolution: double of the stage before it."""

    channels: int = field(metadata=SIZE)
    """Of its feature maps."""
    blocks: int = field(metadata=SIZE)
    """Residual blocks."""
    norm: bool
    """Whether its residual blocks normalise."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DecoderMiddle:
    """Residual blocks before the first stage, at the latent's resolution and with the first stage's channels."""

    blocks: int = field(metadata=SIZE)
    """Residual blocks."""
    attention: bool
    """One head, behind the first block."""
    norm: bool
    """Whether its residual blocks normalise."""


@kind_of(ArchitectureConfig, built_by="harness.models.decoder:Decoder")
@dataclass(frozen=True, kw_only=True, slots=True)
class DecoderConfig(ArchitectureConfig):
    """Its module is called with latents (B, C, H, W) alone; `task=decode` trains it."""

    latent_channels: int = field(metadata=SIZE)
    """Of the input."""
    image_channels: int = field(metadata=SIZE)
    """Of the output: 3 for colours."""
    stages: tuple[DecoderStage, ...]
    """From the latent's resolution to the image's."""
    middle: DecoderMiddle | None
    """Before the first stage."""
    convolution: Convolution
    """Of residual blocks and upsampling layers; the first and the last convolution stay regular."""
    width_change: Literal["shortcut", "upsampling"]
    """Where channels change between stages: in the next stage's first block, whose shortcut is then a 1 x 1
    convolution; or in the upsampling layer between them, so that no block needs one."""
    upsample: Upsampling = field(default=Nearest(), metadata=IDENTITY_UNLESS_DEFAULT)
    """Between stages."""
    norm: MapNorm
    """Wherever something normalises."""
    norm_out: bool
    """Whether the image's feature map is normalised before the last convolution."""
    kind: Literal["decoder"] = "decoder"

    def __post_init__(self) -> None:
        check(self, DECODER_RULES)

    @property
    def upsampling(self) -> int:
        """The picture's side over the latent's."""
        return int(2 ** (len(self.stages) - 1))

    @property
    def sees_all(self) -> tuple[str, ...]:
        """What in it makes every pixel depend on the whole latent, by its kind: so that a part of a latent, decoded by
        itself, comes out otherwise."""
        attends = self.middle is not None and self.middle.attention
        normed = self.norm.of_all_pixels and any(True for _ in _normed_widths(self))
        return (*(("attention",) if attends else ()), *((f"{tag_of(type(self.norm))} norm",) if normed else ()))

    @property
    def reach(self) -> int:
        """How many cells of the latent a pixel depends on to each side of its own, but for what `sees_all`: the sum of
        what its convolutions see, in cells."""
        plan, kernel, up = decoder_plan(self), self.convolution.kernel_size, self.convolution.for_resampling("up")
        cells = Fraction(EDGE_KERNEL // 2 + 2 * len(plan.middle) * (kernel // 2))
        for level, stage in enumerate(plan.up):
            cells += Fraction(2 * len(stage.blocks) * (kernel // 2), 2**level)
            if stage.upsample_to is not None:
                cells += Fraction(up.kernel_size // 2, 2 ** (level + self.upsample.convolves_larger))
        return ceil(cells + Fraction(EDGE_KERNEL // 2, self.upsampling))

    def canonical(self) -> Plain:
        """Where nothing normalises, the kind of norm says nothing; where all widths are equal, what changes them; where
        there is one stage, how stages grow."""
        idle = set() if any(True for _ in _normed_widths(self)) else {"norm"}
        if len({stage.channels for stage in self.stages}) == 1:
            idle.add("width_change")
        if len(self.stages) == 1:
            idle.add("upsample")
        widths = ((block.c_in, block.c_out) for block in decoder_plan(self).blocks())
        convolution = identity_without(self.convolution, self.convolution.idle(widths))
        return identity_without(self, idle) | {"convolution": convolution}


def _no_stages(config: DecoderConfig) -> Iterator[str]:
    if not config.stages:
        yield "stages is empty"


def _hidden_not_whole(config: DecoderConfig) -> Iterator[str]:
    yield from not_whole_inside(config.convolution, decoder_plan(config).blocks())


def _norm_groups_do_not_fit(config: DecoderConfig) -> Iterator[str]:
    yield from groups_left_over(config.norm, _normed_widths(config))


def _normed_widths(config: DecoderConfig) -> Iterator[tuple[str, int]]:
    for block in decoder_plan(config).blocks():
        if block.normed:
            yield block.place, block.c_in
            yield block.place, int(config.convolution.hidden_width(block.c_in, block.c_out))
    if config.middle is not None and config.middle.attention:
        yield "middle.attention", config.stages[0].channels
    if config.norm_out:
        yield "norm_out", config.stages[-1].channels


DECODER_RULES = (
    SIZES,
    KERNELS,
    Rule("a decoder has at least 1 stage", _no_stages),
    Rule("the width inside a residual block is whole", _hidden_not_whole),
    Rule("a group norm's groups divide every feature map's channels", _norm_groups_do_not_fit),
)
