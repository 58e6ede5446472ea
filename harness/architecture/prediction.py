"""What a network's output means, and on which path between data and noise: part of an architecture.

    velocity   v = dx_t/dt of the straight path      x_t = (1 - t) x_0 + t e               flow matching
    epsilon    the noise e of the curved path        x_n = alpha_n x_0 + sigma_n e         DDPM, and so DiT, U-ViT
    v          alpha_n e - sigma_n x_0 on the same                                         Salimans and Ho 2022

Networks are trained here to predict the default, the velocity. The others are for what others trained: the sampler
turns every output into the velocity of the straight path (`harness.diffusion.prediction`), so that one set of solvers
serves all.
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias

TIMESTEPS = 1000
"""Of a variance-preserving path, as everybody has it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Velocity:
    """dx_t/dt on x_t = (1 - t) x_0 + t e (Lipman et al. 2023, arXiv 2210.02747)."""

    kind: Literal["velocity"] = "velocity"
    time: Literal["from_data", "from_noise"] = "from_data"
    """At which end the network's time is 0: at data, as everywhere here; at noise, as in SiT, whose velocity points to
    the data."""
    time_scale: float = float(TIMESTEPS)
    """What its sinusoids see where its time is 1: SiT's see 1."""


@dataclass(frozen=True, kw_only=True, slots=True)
class VariancePreserving:
    """x_n = alpha_n x_0 + sigma_n e with alpha_n^2 = prod_{i <= n} (1 - beta_i) = 1 - sigma_n^2, n = 1 to 1,000
    (Ho et al. 2020, arXiv 2006.11239, eq. 4)."""

    beta_schedule: Literal["linear", "scaled_linear"]
    """By diffusers' names; linear: beta from 1e-4 to 0.02, as DDPM and DiT; scaled_linear: its root from the root of
    0.00085 to that of 0.012, as Stable Diffusion and U-ViT."""
    timesteps: Literal["from_0", "from_1"] = "from_0"
    """What the network sees of the first of the 1,000 noise levels: 0, as DDPM, DiT and diffusers count; or 1, as U-ViT
    does."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Epsilon(VariancePreserving):
    """The noise (Ho et al. 2020, arXiv 2006.11239, eq. 14)."""

    kind: Literal["epsilon"] = "epsilon"


@dataclass(frozen=True, kw_only=True, slots=True)
class VPrediction(VariancePreserving):
    """alpha e - sigma x_0 (Salimans and Ho 2022, arXiv 2202.00512, section 4)."""

    kind: Literal["v"] = "v"


Prediction: TypeAlias = Velocity | Epsilon | VPrediction
VELOCITY = Velocity()
"""What networks are trained to predict here."""
