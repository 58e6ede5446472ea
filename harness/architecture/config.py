"""Every family of architectures: importing this module makes all of them known to `from_plain(ArchitectureConfig)`."""

from harness.architecture import autoencoder, decoder, peers, unet  # noqa: F401  # each registers its families
from harness.architecture.family import ArchitectureConfig, Denoiser

__all__ = ["ArchitectureConfig", "Denoiser"]
