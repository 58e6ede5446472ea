"""How images are sampled: the settings. No torch."""

from dataclasses import dataclass
from typing import Literal

from harness.records.errors import UserError, unknown_name

LABELS = ("proportional", "balanced", "random")
TIMES = ("uniform", "shifted")
EVALUATIONS: dict[str, int] = {"euler": 1, "heun": 2}
"""Of the network, a solver's step except its last, which is Euler's; they are in `harness.diffusion.solvers`."""

LAST_SEED = 2**32 - 1  # of NumPy's RandomState, which draws the controls


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplingConfig:
    solver: str = "heun"
    """`euler` or `heun`: a name in `harness.diffusion.solvers.SOLVERS`."""
    steps: int = 20
    """Solver steps from noise to data."""
    times: Literal["uniform", "shifted"] = "uniform"
    """Where the steps lie: equally spaced in t, or these times shifted towards noise by `shift`."""
    shift: float = 1.0
    """s of t' = s t / (1 + (s - 1) t) (Esser et al. 2024, arXiv 2403.03206, eq. 23): above 1 for larger images, which
    need more noise to lose as much; SD3 samples 1024 px with 3."""
    labels: Literal["proportional", "balanced", "random"] = "proportional"
    """Which classes are asked for: `harness.diffusion.labels` has the rules."""
    guidance_scale: float = 1.0
    """Classifier-free guidance w: v = v_empty + w (v_prompt - v_empty); 1 is none and costs one evaluation."""
    micro_batch: int = 64
    """Samples computed together. It can change a grey level by one, so it belongs to the protocol."""
    seed: int = 0
    """Sample i starts from noise x_i ~ N(0, I), a function of (seed, i) alone: the same in every trial, so what differs
    between two grids is the network. Another seed is other samples, independent of these; no part of training."""

    def __post_init__(self) -> None:
        if self.solver not in EVALUATIONS:
            raise unknown_name("solver", self.solver, EVALUATIONS)
        if self.labels not in LABELS:
            raise unknown_name("sampling.labels", self.labels, LABELS)
        if self.times not in TIMES:
            raise unknown_name("sampling.times", self.times, TIMES)
        if self.steps < 1:
            raise UserError(f"sampling.steps must be at least 1, not {self.steps}")
        if not 0 < self.shift < float("inf"):
            raise UserError(f"sampling.shift must be a number above 0, not {self.shift}")
        if (self.times == "shifted") == (self.shift == 1):
            raise UserError(
                f"sampling.shift {self.shift} does not fit sampling.times={self.times}; give times=shifted with a "
                "shift other than 1, or times=uniform with shift=1"
            )
        if not self.guidance_scale >= 0 or self.guidance_scale == float("inf"):
            raise UserError(f"sampling.guidance_scale must be a number from 0 (1 is none), not {self.guidance_scale}")
        if self.micro_batch < 1:
            raise UserError(f"sampling.micro_batch must be at least 1, not {self.micro_batch}")
        if not 0 <= self.seed <= LAST_SEED:
            raise UserError(f"sampling.seed must be a whole number from 0 to {LAST_SEED}, not {self.seed}")

    @property
    def evaluations(self) -> int:
        """Evaluations of the network for one sample (NFE)."""
        return ((self.steps - 1) * EVALUATIONS[self.solver] + 1) * (1 if self.guidance_scale in (0, 1) else 2)
