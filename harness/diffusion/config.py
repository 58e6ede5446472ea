"""How images are sampled: the settings. No torch."""

from dataclasses import dataclass

from harness.records.errors import UserError, unknown_name

EVALUATIONS: dict[str, int] = {"euler": 1, "heun": 2}
"""Of the network, a solver's step; the solvers are in `harness.diffusion.solvers`."""

LAST_SEED = 2**32 - 1  # of NumPy's RandomState, which draws the controls


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplingConfig:
    solver: str = "heun"
    """`euler` or `heun`: a name in `harness.diffusion.solvers.SOLVERS`."""
    steps: int = 20
    """Solver steps from noise to data."""
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
        if self.steps < 1:
            raise UserError(f"sampling.steps must be at least 1, not {self.steps}")
        if not self.guidance_scale >= 0 or self.guidance_scale == float("inf"):
            raise UserError(f"sampling.guidance_scale must be a number from 0 (1 is none), not {self.guidance_scale}")
        if self.micro_batch < 1:
            raise UserError(f"sampling.micro_batch must be at least 1, not {self.micro_batch}")
        if not 0 <= self.seed <= LAST_SEED:
            raise UserError(f"sampling.seed must be a whole number from 0 to {LAST_SEED}, not {self.seed}")

    @property
    def evaluations(self) -> int:
        """Evaluations of the network for one sample."""
        return self.steps * EVALUATIONS[self.solver] * (1 if self.guidance_scale in (0, 1) else 2)
