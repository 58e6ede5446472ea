"""The topology of a UNet and of a decoder: every block that a configuration stands for, in the order in which a
feature map meets it, with its channels. What is built and what is checked is read from here, so both are the same.

    UNet      conv_in, down.0, ..., down.N, middle, up.N, ..., up.0, norm_out, conv_out
    decoder   conv_in, middle, up.0, ..., up.N, norm_out, conv_out

`harness.models.unet` and `harness.models.decoder` make one module of each entry. The plans need no torch, since a
configuration that cannot be built is refused when it is made.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

from harness.architecture.knobs import Block, Convolution, ResidualBlockConfig, TransformerBlockConfig

if TYPE_CHECKING:
    from harness.architecture.decoder import DecoderConfig
    from harness.architecture.unet import Stage, UNetConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class BlockPlan:
    """One block, and where its kind has one the transformer behind it."""

    place: str
    """`down.1.block.0`: where the module stands, and its parameters' names begin so."""
    stage: int
    """The middle's is the number of stages."""
    kind: Block
    channels_before: int
    """Of the feature map that comes from the block, or the resampling layer, before it."""
    skip_channels: int = 0
    """Of the skip that is concatenated to it; 0: none."""
    c_out: int

    @property
    def c_in(self) -> int:
        return self.channels_before + self.skip_channels

    @property
    def transformer(self) -> TransformerBlockConfig | None:
        """What stands behind the block, with `c_out` channels in and out."""
        return self.kind.attention

    @property
    def transformer_place(self) -> str:
        """Where it stands: `down.1.attention.0`."""
        stage, _, index = self.place.rpartition(".block.")
        return f"{stage}.attention.{index}"


@dataclass(frozen=True, kw_only=True, slots=True)
class StagePlan:
    """The blocks of one resolution on one side, and behind them the layer that changes the size."""

    blocks: tuple[BlockPlan, ...]
    channels: int
    resample: Convolution | None
    """The convolution of the downsampling layer (down side) or the upsampling layer (up side); None behind the last."""


@dataclass(frozen=True, kw_only=True, slots=True)
class UNetPlan:
    """`down[i]` and `up[i]` have the same resolution: an image's, halved i times."""

    down: tuple[StagePlan, ...]
    middle: tuple[BlockPlan, ...]
    up: tuple[StagePlan, ...]

    def blocks(self) -> Iterator[BlockPlan]:
        """All of them, in the order of execution."""
        down, up = ((block for stage in side for block in stage.blocks) for side in (self.down, reversed(self.up)))
        return chain(down, self.middle, up)


def unet_plan(config: "UNetConfig") -> UNetPlan:
    """From knobs to blocks. SDXL's layout (Podell et al. 2023, arXiv 2307.01952), every part of it a knob."""
    down, skips = [], []  # skips: by stage, channels of its input and of every block's output, oldest first
    channels = config.stages[0].channels  # of the feature map on its way
    for index, stage in enumerate(config.stages):
        down.append(_down(config, index, stage, channels))
        skips.append([channels] + [stage.channels] * stage.down_blocks)
        channels = stage.channels
    middle = _middle(config, channels)
    up = []
    for index in reversed(range(len(config.stages))):
        up.append(_up(config, index, config.stages[index], channels, skips[index]))
        channels = config.stages[index].channels
    return UNetPlan(down=tuple(down), middle=middle, up=tuple(reversed(up)))


def _down(config: "UNetConfig", index: int, stage: "Stage", channels: int) -> StagePlan:
    """The first block changes the channels; behind the last one the size is halved, if there is a stage below."""
    blocks = []
    for j in range(stage.down_blocks):
        place = f"down.{index}.block.{j}"
        blocks.append(
            BlockPlan(place=place, stage=index, kind=stage.block, channels_before=channels, c_out=stage.channels)
        )
        channels = stage.channels
    is_lowest = index == len(config.stages) - 1
    resample = None if is_lowest else config.convolution.for_resampling("down")
    return StagePlan(blocks=tuple(blocks), channels=stage.channels, resample=resample)


def _middle(config: "UNetConfig", channels: int) -> tuple[BlockPlan, ...]:
    """One block at the lowest resolution; if a transformer follows it, a residual block behind that."""
    kind, behind = config.middle, len(config.stages)
    if kind is None:
        return ()
    kinds = [kind] if kind.attention is None else [kind, ResidualBlockConfig()]
    return tuple(
        BlockPlan(place=f"middle.block.{j}", stage=behind, kind=each, channels_before=channels, c_out=channels)
        for j, each in enumerate(kinds)
    )


def _up(config: "UNetConfig", index: int, stage: "Stage", channels: int, skips: list[int]) -> StagePlan:
    """Each block takes the newest skip that is left, if one is; behind the last the size is doubled, but at the top."""
    blocks = []
    for j in range(stage.up_blocks):
        block = BlockPlan(
            place=f"up.{index}.block.{j}",
            stage=index,
            kind=stage.block,
            channels_before=channels,
            skip_channels=skips[-1 - j] if j < len(skips) else 0,
            c_out=stage.channels,
        )
        blocks.append(block)
        channels = stage.channels
    resample = None if index == 0 else config.convolution.for_resampling("up")
    return StagePlan(blocks=tuple(blocks), channels=stage.channels, resample=resample)


@dataclass(frozen=True, kw_only=True, slots=True)
class DecoderBlockPlan:
    """A residual block of a decoder."""

    place: str
    normed: bool
    c_in: int
    c_out: int


@dataclass(frozen=True, kw_only=True, slots=True)
class DecoderStagePlan:
    """The blocks of one resolution, and behind them the upsampling layer."""

    blocks: tuple[DecoderBlockPlan, ...]
    channels: int
    upsample_to: int | None
    """Channels of the upsampling layer's output; None behind the last stage, which has none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DecoderPlan:
    middle: tuple[DecoderBlockPlan, ...]
    up: tuple[DecoderStagePlan, ...]

    def blocks(self) -> Iterator[DecoderBlockPlan]:
        return chain(self.middle, (block for stage in self.up for block in stage.blocks))


def decoder_plan(config: "DecoderConfig") -> DecoderPlan:
    """From knobs to blocks: Stable Diffusion's layout (Rombach et al. 2022, arXiv 2112.10752)."""
    channels = config.stages[0].channels  # of the feature map on its way
    middle = _decoder_middle(config, channels)
    up = []
    for index, (stage, after) in enumerate(zip(config.stages, [*config.stages[1:], None], strict=True)):
        blocks = []
        for j in range(stage.blocks):
            place = f"up.{index}.block.{j}"
            blocks.append(DecoderBlockPlan(place=place, normed=stage.norm, c_in=channels, c_out=stage.channels))
            channels = stage.channels
        if after is not None and config.width_change == "upsampling":
            channels = after.channels
        upsample_to = None if after is None else channels
        up.append(DecoderStagePlan(blocks=tuple(blocks), channels=stage.channels, upsample_to=upsample_to))
    return DecoderPlan(middle=middle, up=tuple(up))


def _decoder_middle(config: "DecoderConfig", channels: int) -> tuple[DecoderBlockPlan, ...]:
    if config.middle is None:
        return ()
    normed = config.middle.norm
    return tuple(
        DecoderBlockPlan(place=f"middle.block.{j}", normed=normed, c_in=channels, c_out=channels)
        for j in range(config.middle.blocks)
    )
