"""The peers that the study's UNet is compared with (Tab. 1), as configurations: DiT and SiT, U-ViT, LDM.

The originals take a class from a table. In the study the class comes as text, and DiT and U-ViT get the mean of the
tokens through one linear layer in the place of the row of a table; LDM attends to the tokens. With `condition:
class_table` DiT and U-ViT have their table, as their published weights do (`published/` in the catalogue): the context
is then one token that is 1 at the class's place and 0 elsewhere, at the last place for no class.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from harness.architecture.family import ArchitectureConfig, Denoiser
from harness.architecture.kinds import kind_of
from harness.architecture.prediction import VELOCITY, Prediction
from harness.architecture.rules import SIZES, Rule, check
from harness.architecture.sizes import SIZE
from harness.records.plain import IDENTITY_UNLESS_DEFAULT, NOT_IDENTITY


@kind_of(ArchitectureConfig, built_by="harness.models.peers.dit:DiT")
@dataclass(frozen=True, kw_only=True, slots=True)
class DiTConfig(Denoiser):
    """Diffusion Transformer with adaLN-Zero (Peebles and Xie 2023, arXiv 2212.09748); SiT is the same network."""

    latent_channels: int = field(metadata=SIZE)
    """Of the input and the output."""
    context_width: int = field(metadata=SIZE)
    """Width of the text encoder's tokens; of a table of classes, their number and one more for no class."""
    context_length: int = field(metadata=SIZE)
    """Tokens of a prompt: no weight depends on it, counts and latencies do."""
    latent_size: int = field(metadata={**NOT_IDENTITY, **SIZE})
    """Height and width of the latents that it was published for; it runs at any."""
    patch_size: int = field(metadata=SIZE)
    """Height and width, in the latent, of what becomes one token."""
    width: int = field(metadata=SIZE)
    """Of a token."""
    depth: int = field(metadata=SIZE)
    """Blocks."""
    heads: int = field(metadata=SIZE)
    """Of every attention."""
    feed_forward_ratio: float
    """Hidden width of a feed-forward as a multiple of the token's."""
    time_features: int = field(metadata=SIZE)
    """Sines and cosines of the time."""
    predicts_variance: bool
    """The last layer has twice the channels, as in DiT and SiT as published; the second half is not used."""
    condition: Literal["text", "class_table"] = field(default="text", metadata=IDENTITY_UNLESS_DEFAULT)
    """What the context is: a prompt's tokens, whose mean passes a linear layer; or a class, which has a learned row."""
    prediction: Prediction = field(default=VELOCITY, metadata=IDENTITY_UNLESS_DEFAULT)
    """What its output means. Training is for the velocity; others are for weights that were trained elsewhere."""
    kind: Literal["dit"] = "dit"

    def __post_init__(self) -> None:
        check(self, DIT_RULES)

    @property
    def downsampling(self) -> int:
        return self.patch_size

    @property
    def native_latent(self) -> int | None:
        return self.latent_size


@kind_of(ArchitectureConfig, built_by="harness.models.peers.uvit:UViT")
@dataclass(frozen=True, kw_only=True, slots=True)
class UViTConfig(Denoiser):
    """A vision transformer with long skips; time and class are tokens (Bao et al. 2023, arXiv 2209.12152)."""

    latent_channels: int = field(metadata=SIZE)
    """Of the input and the output."""
    context_width: int = field(metadata=SIZE)
    """Width of the text encoder's tokens; of a table of classes, their number and one more for no class."""
    context_length: int = field(metadata=SIZE)
    """Tokens of a prompt: no weight depends on it, counts and latencies do."""
    latent_size: int = field(metadata=SIZE)
    """Height and width of its latents: it learns a position for every patch, so it runs at no other."""
    patch_size: int = field(metadata=SIZE)
    """Height and width, in the latent, of what becomes one token."""
    width: int = field(metadata=SIZE)
    """Of a token."""
    depth: int = field(metadata=SIZE)
    """Blocks without the middle one: half of them before it, half behind it with skips from the first half."""
    heads: int = field(metadata=SIZE)
    """Of every attention."""
    feed_forward_ratio: float
    """Hidden width of a feed-forward as a multiple of the token's."""
    final_convolution: bool = field(default=True, metadata=IDENTITY_UNLESS_DEFAULT)
    """Whether a 3 x 3 convolution follows the patches, as in U-ViT-L as published; U-ViT-H has none."""
    condition: Literal["text", "class_table"] = field(default="text", metadata=IDENTITY_UNLESS_DEFAULT)
    """What the context is: a prompt's tokens, whose mean passes a linear layer; or a class, which has a learned row."""
    prediction: Prediction = field(default=VELOCITY, metadata=IDENTITY_UNLESS_DEFAULT)
    """What its output means. Training is for the velocity; others are for weights that were trained elsewhere."""
    kind: Literal["uvit"] = "uvit"

    def __post_init__(self) -> None:
        check(self, UVIT_RULES)

    @property
    def downsampling(self) -> int:
        return self.patch_size

    @property
    def native_latent(self) -> int | None:
        return self.latent_size

    def why_not_latent(self, size: int) -> str:
        return (
            ""
            if size == self.latent_size
            else f"it takes no other height and width than its latent_size, {self.latent_size}"
        )


@kind_of(ArchitectureConfig, built_by="harness.models.peers.ldm:LDM")
@dataclass(frozen=True, kw_only=True, slots=True)
class LDMConfig(Denoiser):
    """The UNet of latent diffusion models (Rombach et al. 2022, arXiv 2112.10752), by diffusers (extra `peers`)."""

    latent_channels: int = field(metadata=SIZE)
    """Of the input and the output."""
    context_width: int = field(metadata=SIZE)
    """Width of the text encoder's tokens."""
    context_length: int = field(metadata=SIZE)
    """Tokens of a prompt: no weight depends on it, counts and latencies do."""
    latent_size: int = field(metadata={**NOT_IDENTITY, **SIZE})
    """Height and width of the latents that it was published for; it runs at any."""
    channels: tuple[int, ...] = field(metadata=SIZE)
    """By stage, from the highest resolution to the lowest."""
    attention: tuple[bool, ...]
    """Which stages have a transformer layer behind every block."""
    blocks: int = field(metadata=SIZE)
    """Residual blocks of a stage on the way down; one more on the way up."""
    heads: int = field(metadata=SIZE)
    """Of every attention."""
    norm_groups: int = field(metadata=SIZE)
    """Of every group norm."""
    kind: Literal["ldm"] = "ldm"

    def __post_init__(self) -> None:
        check(self, LDM_RULES)

    @property
    def downsampling(self) -> int:
        return 1 << (len(self.channels) - 1)

    @property
    def native_latent(self) -> int | None:
        return self.latent_size


def _heads_do_not_fit(config: Any) -> Iterator[str]:
    if config.width % config.heads:
        yield f"width is {config.width}, heads is {config.heads}"


def _width_not_by_four(config: DiTConfig) -> Iterator[str]:
    if config.width % 4:
        yield f"width is {config.width}"


def _odd_time_features(config: DiTConfig) -> Iterator[str]:
    if config.time_features % 2:
        yield f"time_features is {config.time_features}"


def _odd_depth_or_width(config: UViTConfig) -> Iterator[str]:
    for name in ("depth", "width"):
        if getattr(config, name) % 2:
            yield f"{name} is {getattr(config, name)}"


def _feed_forward_not_whole(config: Any) -> Iterator[str]:
    if not float(config.width * config.feed_forward_ratio).is_integer():
        yield f"width is {config.width}, feed_forward_ratio is {config.feed_forward_ratio}"


def _cut_patches(config: UViTConfig) -> Iterator[str]:
    if config.latent_size % config.patch_size:
        yield f"latent_size is {config.latent_size}, patch_size is {config.patch_size}"


def _long_class(config: Any) -> Iterator[str]:
    if config.condition == "class_table" and config.context_length != 1:
        yield f"context_length is {config.context_length}"


def _no_class(config: Any) -> Iterator[str]:
    if config.condition == "class_table" and config.context_width < 2:
        yield f"context_width is {config.context_width}"


def _stages_disagree(config: LDMConfig) -> Iterator[str]:
    if len(config.channels) != len(config.attention) or len(config.channels) < 2:
        yield f"channels has {len(config.channels)} entries, attention {len(config.attention)}"


def _channels_do_not_fit(config: LDMConfig) -> Iterator[str]:
    for index, channels in enumerate(config.channels):
        for name in ("heads", "norm_groups"):
            if channels % getattr(config, name):
                yield f"channels.{index} is {channels}, {name} is {getattr(config, name)}"


HEADS = Rule("heads divide the width", _heads_do_not_fit)
FEED_FORWARD = Rule("a feed-forward's hidden width is whole", _feed_forward_not_whole)
CLASS_TABLE = (
    Rule("a table of classes reads one token, so its context_length is 1 (text=class_table)", _long_class),
    Rule("a table of classes has a row for no class beside theirs, so its context_width is 2 or more", _no_class),
)
DIT_RULES = (
    SIZES,
    HEADS,
    FEED_FORWARD,
    *CLASS_TABLE,
    Rule("positions are sines and cosines by row and by column, so 4 divides the width", _width_not_by_four),
    Rule("time features are pairs of sine and cosine, so their number is even", _odd_time_features),
)
UVIT_RULES = (
    SIZES,
    HEADS,
    FEED_FORWARD,
    *CLASS_TABLE,
    Rule("every second block has a skip, and time is pairs of sine and cosine, so both are even", _odd_depth_or_width),
    Rule("patches cover the latent", _cut_patches),
)
LDM_RULES = (
    SIZES,
    Rule("every stage has channels and says whether it attends, and there are at least 2", _stages_disagree),
    Rule("heads and norm groups divide every stage's channels", _channels_do_not_fit),
)
