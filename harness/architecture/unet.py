"""The study's UNet: every design choice of it, frozen and hashable, checked when it is made."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from math import lcm

from harness.architecture import rules
from harness.architecture.family import ArchitectureConfig, Denoiser, identity_without
from harness.architecture.kinds import kind_of
from harness.architecture.knobs import (
    Attention,
    AttentionSpan,
    Block,
    Convolution,
    Downsampling,
    FeedForward,
    MapNorm,
    Nearest,
    Position,
    ResidualTransformerConfig,
    Strided,
    TransformerBlockConfig,
    Upsampling,
    VectorNorm,
)
from harness.architecture.plan import unet_plan
from harness.architecture.sizes import SIZE
from harness.records.plain import IDENTITY_UNLESS_DEFAULT, Plain, identity


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """One resolution: half of the stage before it."""

    channels: int = field(metadata=SIZE)
    """Of its feature maps."""
    down_blocks: int = field(metadata=SIZE)
    """On the way down."""
    up_blocks: int = field(metadata=SIZE)
    """The up blocks take the down side's feature maps as skips, newest first. There are `down_blocks + 1` of them
    (the stage's input too): with fewer up blocks the oldest are left out, with more the last blocks take none."""
    block: Block


@dataclass(frozen=True, kw_only=True, slots=True)
class TransformerPlace:
    """One stage's transformers, or the middle's."""

    path: str
    """`stages.1.block`."""
    stage: int
    """The middle's is the number of stages."""
    channels: int
    transformer: TransformerBlockConfig | ResidualTransformerConfig


@kind_of(ArchitectureConfig, built_by="harness.models.unet:UNet")
@dataclass(frozen=True, kw_only=True, slots=True)
class UNetConfig(Denoiser):
    latent_channels: int = field(metadata=SIZE)
    """Of the input and the output."""
    context_width: int = field(metadata=SIZE)
    """Width of the text encoder's tokens."""
    context_length: int = field(metadata=SIZE)
    """Tokens of a prompt: no weight depends on it, every count and latency does."""
    stages: tuple[Stage, ...]
    """From the highest resolution to the lowest."""
    middle: Block | None
    """At the lowest resolution: one block; if a transformer follows it, a residual block behind that."""
    convolution: Convolution
    downsample: Downsampling = field(default=Strided(), metadata=IDENTITY_UNLESS_DEFAULT)
    """Between stages, on the way down."""
    upsample: Upsampling = field(default=Nearest(), metadata=IDENTITY_UNLESS_DEFAULT)
    """Between stages, on the way up."""
    norm: MapNorm
    """Of feature maps: in residual blocks, before transformers, before the output."""
    token_norm: VectorNorm
    """In transformer layers."""
    head_dim: int = field(metadata=SIZE)
    """Channels of an attention head; the number of heads is a stage's channels over it."""
    self_attention: Attention
    """How many heads share a key and a value where tokens attend to each other."""
    cross_attention: Attention
    """The same where they attend to the prompt."""
    qk_norm: VectorNorm | None
    """On queries and keys, head by head, in self- and cross-attention."""
    position: Position | None
    """In self-attention."""
    feed_forward: FeedForward
    time_features: int = field(metadata=SIZE)
    """Sines and cosines of the time."""
    time_width: int = field(metadata=SIZE)
    """Width of the time embedding that residual blocks receive."""

    def __post_init__(self) -> None:
        rules.check(self)

    def canonical(self) -> Plain:
        """Where nothing attends to itself, how it would have says nothing about the network; nor does the ratio of a
        place without a transformer, or a list of ratios that are all the same."""
        attends = any(place.transformer.self_attention for place in self.transformers())
        widths = ((block.c_in, block.c_out) for block in unet_plan(self).blocks() if block.kind.residual)
        convolution = identity_without(self.convolution, self.convolution.idle(widths))
        blocks = [identity(stage) | {"block": _block_identity(stage.block)} for stage in self.stages]  # type: ignore[operator]
        return identity_without(self, () if attends else ("self_attention", "position")) | {
            "convolution": convolution,
            "stages": blocks,
            "middle": _block_identity(self.middle),
            "feed_forward": identity_without(self.feed_forward, ()) | {"ratio": self._ratio_identity()},
        }

    def _ratio_identity(self) -> Plain:
        ratio, used = self.feed_forward.ratio, {place.stage for place in self.transformers()}
        if not isinstance(ratio, tuple):
            return ratio
        kept = [number if stage in used else None for stage, number in enumerate(ratio)]
        different = {number for number in kept if number is not None}
        return different.pop() if len(different) == 1 else list(kept)

    @property
    def downsampling(self) -> int:
        return 1 << (len(self.stages) - 1)

    @property
    def latent_multiple(self) -> int:
        """Every stage's map is halved from the one above, and is one that its self-attention's span takes."""
        lowest = len(self.stages) - 1
        return lcm(self.downsampling, *((1 << min(stage, lowest)) * span.multiple for stage, span in self._spans()))

    def why_not_latent(self, size: int) -> str:
        why = ArchitectureConfig.why_not_latent(self, size)
        sparse = self.latent_multiple > self.downsampling
        return f"{why}, for the blocks that its sparse self-attention cuts maps into" if why and sparse else why

    def _spans(self) -> Iterator[tuple[int, AttentionSpan]]:
        """Of self-attention that does not see all tokens: its stage, and what it sees."""
        for place in self.transformers():
            if place.transformer.self_attention and place.transformer.span is not None:
                yield place.stage, place.transformer.span

    def at(self, stage: int) -> "UNetConfig":
        """As its blocks at that stage see it: with the feed-forward ratio that they have. The middle comes behind the
        last stage."""
        ratio = self.feed_forward.ratio_at(stage)
        return (
            self
            if ratio == self.feed_forward.ratio
            else replace(
                self,
                feed_forward=replace(self.feed_forward, ratio=ratio),  # type: ignore[type-var]
            )
        )

    def transformers(self) -> Iterator[TransformerPlace]:
        """Every place that has transformers."""
        for index, stage in enumerate(self.stages):
            for transformer in stage.block.transformers():
                path = f"stages.{index}.block"
                yield TransformerPlace(path=path, stage=index, channels=stage.channels, transformer=transformer)
        for transformer in self.middle.transformers() if self.middle else ():
            channels = self.stages[-1].channels
            yield TransformerPlace(path="middle", stage=len(self.stages), channels=channels, transformer=transformer)


def _block_identity(block: Block | None) -> Plain:
    """Without the span of a self-attention that it does not have."""
    without_attention = block is not None and not getattr(block, "self_attention", True)
    return identity_without(block, ("span",)) if without_attention else identity(block)
