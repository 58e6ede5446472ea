"""What every architecture has, whatever its family: the UNet of the study, its peers, the decoders.

A family is a frozen dataclass registered with what builds it; catalogue, edits, ladders, search spaces, counting and
export then work with it, and training too if it is a `Denoiser`:

    @kind_of(ArchitectureConfig, built_by="harness.models.peers.dit:DiT")
    @dataclass(frozen=True, kw_only=True, slots=True)
    class DiTConfig(Denoiser):
        ...
        kind: Literal["dit"] = "dit"

In YAML the family is the value of `kind`; without one it is the study's UNet. Builder: (config) -> module.
"""

from collections.abc import Collection
from typing import Any, ClassVar

from harness.architecture.prediction import VELOCITY, Prediction
from harness.records.plain import Plain, fingerprint, identity

SCHEMA = "architecture-1"


class ArchitectureConfig:
    """Frozen and hashable; refuses wrong values when it is made."""

    __slots__ = ()
    forms: ClassVar[dict[str, type]] = {}
    latent_channels: int

    @property
    def fingerprint(self) -> str:
        """Equal for two configurations that differ in nothing but knobs that cannot matter (`canonical`)."""
        return fingerprint(self.canonical(), schema=SCHEMA)

    def canonical(self) -> Plain:
        """The plain configuration without the knobs that cannot matter in it."""
        return identity(self)

    @property
    def input_channels(self) -> int:
        """Of what its module is called with: a latent, where it is no whole autoencoder."""
        return self.latent_channels

    @property
    def downsampling(self) -> int:
        """By how much its coarsest feature map is smaller than a latent, along each side."""
        return 1

    @property
    def latent_multiple(self) -> int:
        """A latent's height and width are multiples of it."""
        return self.downsampling

    def why_not_latent(self, size: int) -> str:
        """Why it takes no latent of that height and width; "" if it does."""
        return f"height and width must be multiples of {self.latent_multiple}" if size % self.latent_multiple else ""

    @property
    def native_latent(self) -> int | None:
        """Height and width of the latent that it is made for; None if it is made for any."""
        return None


class Denoiser(ArchitectureConfig):
    """Predicts the velocity of noisy latents, given the time and the text: what is trained and sampled from. Of weights
    that others trained it may predict something else: `harness.architecture.prediction`.

    Its module is called with x (B, C, H, W), time (B,) in [0, 1], context (B, T, D), context_mask (B, T) bool or None.
    """

    __slots__ = ()
    context_width: int
    """Width of the text encoder's tokens."""
    context_length: int
    """Tokens of a prompt: no weight depends on it, counts and latencies do."""

    @property
    def condition(self) -> str:
        """What the context is; where a family has no choice, a text's tokens."""
        return "text"

    @property
    def prediction(self) -> Prediction:
        """What the output means; where a family has no choice, the velocity."""
        return VELOCITY


def identity_without(config: Any, settings: Collection[str]) -> dict[str, Plain]:
    """The plain form of what identifies `config`, without the settings that cannot matter in it."""
    plain = identity(config)
    assert isinstance(plain, dict)
    return {name: value for name, value in plain.items() if name not in settings}
