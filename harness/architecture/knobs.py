"""The design choices that have kinds: convolution, resampling, attention, feed-forward, norms, positions, blocks.

Every knob's docstring says what its builder is called with; every kind's says what it is.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from math import lcm
from typing import ClassVar, Literal

from harness.architecture.kinds import kind_of
from harness.architecture.sizes import SIZE, SIZE_OF_KIND
from harness.records.plain import IDENTITY_UNLESS_DEFAULT


class Convolution:
    """Of residual blocks and of up- and downsampling layers. Builder: (spec, c_in, c_out, stride) -> module."""

    __slots__ = ()
    forms: ClassVar[dict[str, type]] = {}
    kernel_size: int

    def hidden_width(self, c_in: int, c_out: int) -> float:
        """The width between the two convolutions of a residual block; must come out whole."""
        raise NotImplementedError

    def for_resampling(self, direction: Literal["up", "down"]) -> "Convolution":
        """The convolution that the upsampling or the downsampling layers have."""
        raise NotImplementedError

    def idle(self, widths: Iterable[tuple[int, int]]) -> set[str]:  # noqa: ARG002
        """Settings that cannot matter where residual blocks have these input and output channels."""
        return set()


@kind_of(Convolution, built_by="harness.models.blocks:regular")
@dataclass(frozen=True, kw_only=True, slots=True)
class Regular(Convolution):
    """K x K over all channels at once."""

    kernel_size: int = 3
    """Odd."""
    kind: Literal["regular"] = "regular"

    def hidden_width(self, c_in: int, c_out: int) -> float:  # noqa: ARG002
        return c_out

    def for_resampling(self, direction: Literal["up", "down"]) -> Convolution:  # noqa: ARG002
        return self


@kind_of(Convolution, built_by="harness.models.blocks:separable")
@dataclass(frozen=True, kw_only=True, slots=True)
class Separable(Convolution):
    """Depthwise K x K, then pointwise 1 x 1."""

    kernel_size: int = 3
    expansion: float = 1.0
    """Width between a block's two convolutions, as a multiple of what `relative_to` names."""
    relative_to: Literal["output", "widest"] = "output"
    """The block's output channels, or the larger of its input and output channels."""
    resampling: Literal["none", "up", "down", "both"] = "up"
    """Which resampling convolutions are separable too; the others stay regular, 3 x 3."""
    kind: Literal["separable"] = "separable"

    def hidden_width(self, c_in: int, c_out: int) -> float:
        return self.expansion * (c_out if self.relative_to == "output" else max(c_in, c_out))

    def for_resampling(self, direction: Literal["up", "down"]) -> Convolution:
        return self if self.resampling in (direction, "both") else Regular()

    def idle(self, widths: Iterable[tuple[int, int]]) -> set[str]:
        return {"relative_to"} if all(c_in <= c_out for c_in, c_out in widths) else set()


class Upsampling:
    """How a feature map's sides are doubled between stages. Builder: (spec, Convolution, c_in, c_out) -> module."""

    __slots__ = ()
    forms: ClassVar[dict[str, type]] = {}
    convolves_larger: ClassVar[bool]
    """Whether its convolution is at the doubled size."""


@kind_of(Upsampling, built_by="harness.models.resampling:NearestUpsample")
@dataclass(frozen=True, kw_only=True, slots=True)
class Nearest(Upsampling):
    """Every pixel becomes four, then a convolution."""

    convolves_larger: ClassVar[bool] = True
    kind: Literal["nearest"] = "nearest"


@kind_of(Upsampling, built_by="harness.models.resampling:PixelShuffleUpsample")
@dataclass(frozen=True, kw_only=True, slots=True)
class PixelShuffle(Upsampling):
    """A convolution makes four times the channels, which become a pixel's four (Shi et al. 2016, arXiv 1609.05158)."""

    convolves_larger: ClassVar[bool] = False
    kind: Literal["pixel_shuffle"] = "pixel_shuffle"


class Downsampling:
    """How a feature map's sides are halved between stages. Builder: (spec, Convolution, c_in, c_out) -> module."""

    __slots__ = ()
    forms: ClassVar[dict[str, type]] = {}


@kind_of(Downsampling, built_by="harness.models.resampling:strided")
@dataclass(frozen=True, kw_only=True, slots=True)
class Strided(Downsampling):
    """A convolution with stride 2."""

    kind: Literal["strided"] = "strided"


@kind_of(Downsampling, built_by="harness.models.resampling:PixelUnshuffleDownsample")
@dataclass(frozen=True, kw_only=True, slots=True)
class PixelUnshuffle(Downsampling):
    """Four pixels become one of four times the channels, then a convolution."""

    kind: Literal["pixel_unshuffle"] = "pixel_unshuffle"


class Attention:
    """How many heads share a key and a value. Builder: (spec, AttentionPlace) -> module."""

    __slots__ = ()
    forms: ClassVar[dict[str, type]] = {}

    def groups_of(self, heads: int) -> float:
        """The number of key-value heads beside `heads` query heads; must divide it."""
        raise NotImplementedError


@kind_of(Attention, built_by="harness.models.attention:SharedHeadAttention")
@dataclass(frozen=True, kw_only=True, slots=True)
class MultiHead(Attention):
    """Every query head has its own key and value."""

    kind: Literal["mhsa"] = "mhsa"

    def groups_of(self, heads: int) -> float:
        return heads


@kind_of(Attention, built_by="harness.models.attention:SharedHeadAttention")
@dataclass(frozen=True, kw_only=True, slots=True)
class GroupedQuery(Attention):
    """The query heads of a group share a key and a value (Ainslie et al. 2023, arXiv 2305.13245)."""

    groups: int = field(metadata=SIZE)
    """How many groups, that is, key-value heads."""
    kind: Literal["gqa"] = "gqa"

    def groups_of(self, heads: int) -> float:  # noqa: ARG002
        return self.groups


@kind_of(Attention, built_by="harness.models.attention:SharedHeadAttention")
@dataclass(frozen=True, kw_only=True, slots=True)
class MultiQuery(Attention):
    """All query heads share one key and one value (Shazeer 2019, arXiv 1911.02150)."""

    kind: Literal["mqa"] = "mqa"

    def groups_of(self, heads: int) -> float:  # noqa: ARG002
        return 1


class AttentionSpan:
    """Which tokens of its map a query attends to in self-attention, where it is not all of them. Builder: (spec,
    Attention, AttentionPlace) -> module, called with the map's size."""

    __slots__ = ()
    forms: ClassVar[dict[str, type]] = {}

    @property
    def multiple(self) -> int:
        """A map's height and width are multiples of it."""
        return 1

    def why_not(self) -> str:
        """Why its settings do not go together; "" if they do."""
        return ""


@kind_of(AttentionSpan, built_by="harness.models.sparse_attention:sparse_attention")
@dataclass(frozen=True, kw_only=True, slots=True)
class AdaptiveSparse(AttentionSpan):
    """All of them compressed, and those of nearby blocks as they are, interpolated head by head: ASSA (Hu et al. 2026,
    SnapGen++, arXiv 2601.08303, 3.1 C). Defaults are those of its supplement D, for 64 x 64 tokens."""

    compression: int = 2
    """Sides of the square of tokens that become one key and one value, by a convolution with that stride."""
    blocks: int = field(default=16, metadata=SIZE)
    """Bands of whole rows that the map is cut into."""
    radius: int = 1
    """A query attends to its own block and to so many before and behind it; at the map's edge there are fewer."""
    kind: Literal["assa"] = "assa"

    @property
    def multiple(self) -> int:
        return lcm(self.compression, self.blocks)

    def why_not(self) -> str:
        whole = self.blocks <= self.radius + 1
        return f"blocks is {self.blocks} and radius {self.radius}, so that some block sees the whole map" * whole


class FeedForward:
    """A transformer layer's feed-forward part. Builder: (spec, width) -> module; the ratio is a number there."""

    __slots__ = ()
    forms: ClassVar[dict[str, type]] = {}
    ratio: float | tuple[float, ...]

    def ratio_at(self, stage: int) -> float:
        """At that stage; the middle comes behind the last one."""
        return self.ratio[stage] if isinstance(self.ratio, tuple) else self.ratio


@kind_of(FeedForward, built_by="harness.models.feed_forward:geglu")
@dataclass(frozen=True, kw_only=True, slots=True)
class GEGLU(FeedForward):
    """Linear, gated by a GELU of another linear (Shazeer 2020, arXiv 2002.05202)."""

    ratio: float | tuple[float, ...] = 4.0
    """Hidden width as a multiple of the layer's; the gate comes on top, as wide again. A list has a number for each
    stage, from the highest resolution to the lowest, and one for the middle (SnapGen++ has 4 outside, 3 inside)."""
    kind: Literal["geglu"] = "geglu"


@kind_of(FeedForward, built_by="harness.models.feed_forward:swiglu")
@dataclass(frozen=True, kw_only=True, slots=True)
class SwiGLU(FeedForward):
    """Linear, gated by a SiLU of another linear (Shazeer 2020, arXiv 2002.05202)."""

    ratio: float | tuple[float, ...] = 4.0
    kind: Literal["swiglu"] = "swiglu"


@kind_of(FeedForward, built_by="harness.models.feed_forward:gelu")
@dataclass(frozen=True, kw_only=True, slots=True)
class GELU(FeedForward):
    """Linear, GELU, linear; no gate."""

    ratio: float | tuple[float, ...] = 4.0
    kind: Literal["gelu"] = "gelu"


class MapNorm:
    """The norm of feature maps (B, C, H, W). Builder: (spec, channels, eps) -> module."""

    __slots__ = ()
    forms: ClassVar[dict[str, type]] = {}
    of_all_pixels: ClassVar[bool] = False
    """Whether its statistics are of more than one pixel."""


@kind_of(MapNorm, built_by="harness.models.norms:group_norm")
@dataclass(frozen=True, kw_only=True, slots=True)
class GroupNormConfig(MapNorm):
    """Over H, W and the channels of a group."""

    of_all_pixels: ClassVar[bool] = True
    groups: int = field(default=32, metadata=SIZE)
    """Divides the channels of every feature map that is normalised."""
    kind: Literal["group"] = "group"


@kind_of(MapNorm, built_by="harness.models.norms:map_layer_norm")
@dataclass(frozen=True, kw_only=True, slots=True)
class MapLayerNormConfig(MapNorm):
    """Over the channels of each pixel."""

    kind: Literal["layer"] = "layer"


@kind_of(MapNorm, built_by="harness.models.norms:map_rms_norm")
@dataclass(frozen=True, kw_only=True, slots=True)
class MapRMSNormConfig(MapNorm):
    """Over the channels of each pixel, without subtracting the mean."""

    kind: Literal["rms"] = "rms"


class VectorNorm:
    """A norm over the last axis: of tokens, of queries and keys. Builder: (spec, width) -> module."""

    __slots__ = ()
    forms: ClassVar[dict[str, type]] = {}


@kind_of(VectorNorm, built_by="harness.models.norms:layer_norm")
@dataclass(frozen=True, kw_only=True, slots=True)
class LayerNormConfig(VectorNorm):
    kind: Literal["layer"] = "layer"


@kind_of(VectorNorm, built_by="harness.models.norms:rms_norm")
@dataclass(frozen=True, kw_only=True, slots=True)
class RMSNormConfig(VectorNorm):
    """x / sqrt(mean(x^2) + eps), with a weight per channel (Zhang and Sennrich 2019, arXiv 1910.07467)."""

    kind: Literal["rms"] = "rms"


class Position:
    """How self-attention learns where a token stands. Builder: (spec, head_dim) -> module (H, W) -> rotation."""

    __slots__ = ()
    forms: ClassVar[dict[str, type]] = {}


@kind_of(Position, built_by="harness.models.embeddings:Rope2d")
@dataclass(frozen=True, kw_only=True, slots=True)
class Rope2dConfig(Position):
    """Rotary embedding, half of a head's width by row and half by column (Su et al. 2021, arXiv 2104.09864)."""

    base: float = 10000.0
    """The slowest pair of channels turns by about 1/base of a radian from one token to the next."""
    kind: Literal["rope_2d"] = "rope_2d"


class Block:
    """What a stage consists of. Builder of one block: (spec, UNetConfig, c_in, c_out) -> module."""

    __slots__ = ()
    forms: ClassVar[dict[str, type]] = {}

    @property
    def residual(self) -> bool:
        """Whether the block itself is a residual block of convolutions."""
        return True

    @property
    def attention(self) -> "TransformerBlockConfig | None":
        """The transformer that follows every block, if any."""
        return None

    def transformers(self) -> Iterator["TransformerBlockConfig | ResidualTransformerConfig"]:
        """The block's transformer, wherever it stands; nothing if it has none."""
        return iter(())


@kind_of(Block, built_by="harness.models.blocks:residual_block")
@dataclass(frozen=True, kw_only=True, slots=True)
class ResidualBlockConfig(Block):
    """Two convolutions with the time embedding between them, and a shortcut."""

    kind: Literal["residual"] = "residual"


@kind_of(Block, built_by="harness.models.blocks:residual_block")
@dataclass(frozen=True, kw_only=True, slots=True)
class ResidualTransformerConfig(Block):
    """A residual block, and behind it a transformer of `depth` layers."""

    depth: int = field(metadata=SIZE_OF_KIND)
    """Layers of the transformer."""
    self_attention: bool = True
    """Whether its layers have self-attention; cross-attention and feed-forward they always have."""
    span: AttentionSpan | None = field(default=None, metadata=IDENTITY_UNLESS_DEFAULT)
    """What a query of its self-attention sees, if it has some: null for all tokens; assa for all of them compressed,
    and those nearby as they are (SnapGen++, arXiv 2601.08303)."""
    kind: Literal["residual_transformer"] = "residual_transformer"

    @property
    def attention(self) -> "TransformerBlockConfig | None":
        return TransformerBlockConfig(depth=self.depth, self_attention=self.self_attention, span=self.span)

    def transformers(self) -> Iterator["TransformerBlockConfig | ResidualTransformerConfig"]:
        return iter((self,))


@kind_of(Block, built_by="harness.models.transformer:transformer")
@dataclass(frozen=True, kw_only=True, slots=True)
class TransformerBlockConfig(Block):
    """A transformer in the place of the residual block: cross-attention and feed-forward, self-attention if asked."""

    depth: int = field(default=1, metadata=SIZE_OF_KIND)
    self_attention: bool = False
    span: AttentionSpan | None = field(default=None, metadata=IDENTITY_UNLESS_DEFAULT)
    projections: bool = True
    """A norm and a linear before the layers, a linear behind them and a shortcut around all, as SDXL has them. Without
    them there are the layers alone, after a 1 x 1 convolution where the block changes the channels."""
    kind: Literal["transformer"] = "transformer"

    @property
    def residual(self) -> bool:
        return False

    def transformers(self) -> Iterator["TransformerBlockConfig | ResidualTransformerConfig"]:
        return iter((self,))
