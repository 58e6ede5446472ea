"""How a decoder learns to make a picture of its latent: the settings. No torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from harness.architecture.kinds import kind_of
from harness.models.perceptual_config import PerceptualConfig, StLpips
from harness.records.errors import UserError, unknown_name
from harness.records.plain import NOT_IDENTITY, Plain
from harness.training.objective_config import ADVERSARIAL_LOSSES, ObjectiveConfig, Passes, refuse_unread


@dataclass(frozen=True, kw_only=True, slots=True)
class PatchDiscriminatorConfig:
    """What tells real pictures from reconstructed ones, patch by patch: `harness.models.patch_discriminator`."""

    width: int = 64
    """Channels behind its first layer; a multiple of 8."""
    layers: int = 3
    """Each doubles what a logit sees: 16, 34, 70 pixels with 1, 2, 3."""
    learning_rate: float = 2e-4
    """Its own, which warms up and falls as the recipe's does."""
    betas: tuple[float, float] = (0.5, 0.9)
    window: int = field(default=100, metadata=NOT_IDENTITY)
    """Steps over which it wins always, or loses always, before that is told."""

    def __post_init__(self) -> None:
        if self.width < 8 or self.width % 8:
            raise UserError(f"objective.discriminator.width must be a multiple of 8, not {self.width}")
        if self.window < 1:
            raise UserError(f"objective.discriminator.window must be at least 1, not {self.window}")
        if not 1 <= self.layers <= 6:
            raise UserError(f"objective.discriminator.layers are 1 to 6, not {self.layers}")
        if not 0 < self.learning_rate < float("inf"):
            raise UserError(f"objective.discriminator.learning_rate must be above 0, not {self.learning_rate}")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise UserError(f"objective.discriminator.betas are from 0 to below 1, not {list(self.betas)}")


@kind_of(ObjectiveConfig, built_by="harness.training.objectives.reconstruction:Reconstruction")
@dataclass(frozen=True, kw_only=True, slots=True)
class ReconstructionConfig(ObjectiveConfig):
    """Pictures from their latents: squared error, how unlike they look, and what a discriminator says.

    Builder: (config, `harness.training.objectives.reconstruction.Reconstructed`)."""

    leaves_unread: ClassVar[Mapping[str, Mapping[object, tuple[str, ...]]]] = {
        "adversarial_weight": {0.0: ("adversarial_loss", "adversarial_start", "adaptive_weight", "discriminator")},
        "perceptual_weight": {0.0: ("perceptual",)},
    }

    kind: Literal["reconstruction"] = "reconstruction"
    patch: int | None = None
    """Side of the random patches, in pixels, that a training sees of each picture; null: the whole picture."""
    mse_weight: float = 1.0
    """Of the squared error of pixels in -1..1, a mean over them."""
    perceptual_weight: float = 1.0
    """Of how unlike a picture looks; 0: nothing of it is loaded."""
    perceptual: PerceptualConfig = field(default_factory=StLpips)
    """By which network's features that is told."""
    adversarial_weight: float = 0.5
    """Of the discriminator's verdict; 0: there is none."""
    adversarial_loss: Literal["hinge", "softplus"] = "hinge"
    adversarial_start: int = 0
    """Steps before the discriminator is trained and heard. Latent diffusion's autoencoders have 50,000."""
    adaptive_weight: bool = True
    """Whether the verdict is also weighed by the ratio of the norms of the two gradients at the last layer: of the
    other losses' over its own."""
    discriminator: PatchDiscriminatorConfig = field(default_factory=PatchDiscriminatorConfig)

    def __post_init__(self) -> None:
        if self.adversarial_loss not in ADVERSARIAL_LOSSES:
            raise unknown_name("objective.adversarial_loss", self.adversarial_loss, ADVERSARIAL_LOSSES)
        if self.patch is not None and self.patch < 1:
            raise UserError(f"objective.patch is a side in pixels, or null for whole pictures, not {self.patch}")
        if self.adversarial_start < 0:
            raise UserError(f"objective.adversarial_start is a number of steps from 0, not {self.adversarial_start}")
        for name, weight in {**self.weights, "adversarial_weight": self.adversarial_weight}.items():
            if not 0 <= weight < float("inf"):
                raise UserError(f"objective.{name} must be a number from 0, not {weight}")
        if not any(self.weights.values()):
            raise UserError(f"{' and '.join(f'objective.{name}' for name in self.weights)} are 0; give one of them")
        refuse_unread(self)

    @property
    def weights(self) -> dict[str, float]:
        """Of the losses that compare a picture with its own."""
        return {"mse_weight": self.mse_weight, "perceptual_weight": self.perceptual_weight}

    @property
    def validated_by(self) -> dict[str, Plain]:
        return {"validation": "mean squared error of pixels in -1..1"}

    @property
    def passes(self) -> Passes:
        return Passes(forward=1 if self.adversarial_weight > 0 else 0)
