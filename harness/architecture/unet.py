"""The study's UNet: every design choice of it, frozen and hashable, checked when it is made."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from harness.architecture import rules
from harness.architecture.family import ArchitectureConfig, Denoiser, identity_without
from harness.architecture.kinds import kind_of
from harness.architecture.knobs import (
    Attention,
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
from harness.records.plain import IDENTITY_UNLESS_DEFAULT, Plain


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
        """Where nothing attends to itself, how it would have says nothing about the network."""
        attends = any(transformer.self_attention for _, _, transformer in self.transformers())
        widths = ((block.c_in, block.c_out) for block in unet_plan(self).blocks() if block.kind.residual)
        convolution = identity_without(self.convolution, self.convolution.idle(widths))
        return identity_without(self, () if attends else ("self_attention", "position")) | {"convolution": convolution}

    @property
    def downsampling(self) -> int:
        return 1 << (len(self.stages) - 1)

    def transformers(self) -> Iterator[tuple[str, int, TransformerBlockConfig | ResidualTransformerConfig]]:
        """Path, channels and settings of every place that has transformers."""
        for index, stage in enumerate(self.stages):
            for transformer in stage.block.transformers():
                yield f"stages.{index}.block", stage.channels, transformer
        for transformer in self.middle.transformers() if self.middle else ():
            yield "middle", self.stages[-1].channels, transformer
