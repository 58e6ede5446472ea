"""How images are sampled: the settings. No torch."""

from dataclasses import dataclass, field, replace
from typing import Literal

from harness.records.errors import UserError, unknown_name
from harness.records.plain import IDENTITY_UNLESS_DEFAULT

LABELS = ("proportional", "balanced", "random", "heldout")
TIMES = ("uniform", "shifted")
ROUNDINGS = ("nearest", "dit", "truncate")
EVALUATIONS: dict[str, int] = {"euler": 1, "heun": 2, "dpmpp_2m": 1}
"""Of the network, a solver's step except its last, which is Euler's; they are in `harness.diffusion.solvers`."""

EVERYWHERE = (0.0, 1.0)
EDGE = 1e-9
"""Times are differences such as 1 - 0.7: one that misses an interval's end by less lies on it."""

LAST_SEED = 2**32 - 1  # of NumPy's RandomState, which draws the controls


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplingConfig:
    solver: str = "heun"
    """`euler`, `heun` or `dpmpp_2m`: a name in `harness.diffusion.solvers.SOLVERS`."""
    steps: int = 20
    """Solver steps from noise to data."""
    times: Literal["uniform", "shifted"] = "uniform"
    """Where the steps lie: equally spaced in t, or these times shifted towards noise by `shift`."""
    shift: float = 1.0
    """s of t' = s t / (1 + (s - 1) t) (Esser et al. 2024, arXiv 2403.03206, eq. 23): above 1 for larger images, which
    need more noise to lose as much; SD3 samples 1024 px with 3."""
    labels: Literal["proportional", "balanced", "random", "heldout"] = "proportional"
    """Which classes or captions are asked for: `harness.diffusion.labels` has the rules. Of data with captions it is
    `heldout` unless another is chosen."""
    guidance_scale: float = 1.0
    """Classifier-free guidance w: v = v_empty + w (v_prompt - v_empty); 1 is none and costs one evaluation."""
    guidance_interval: tuple[float, float] = field(default=EVERYWHERE, metadata=IDENTITY_UNLESS_DEFAULT)
    """[low, high]: guidance acts at times low <= t <= high, distances from data (t = 0); elsewhere the scale is 1,
    which costs one evaluation (Kynkäänniemi et al. 2024, arXiv 2404.07724). Papers whose t is 0 at noise count from
    the other end: their [a, b] is [1 - b, 1 - a] here. On DDPM's path t is the share of the network's timesteps."""
    legacy_guided_channels: int | None = field(default=None, metadata=IDENTITY_UNLESS_DEFAULT)
    """Only to repeat published numbers: guide the first so many channels, the others stay the prompt's, as the code of
    DiT did with 3 of 4 (Peebles and Xie 2023, arXiv 2212.09748). null: all channels."""
    rounding: Literal["nearest", "dit", "truncate"] = field(default="nearest", metadata=IDENTITY_UNLESS_DEFAULT)
    """How a picture's -1..1 become 0..255, `harness.models.pixels.to_uint8`: to the nearest level; `dit`:
    127.5 x + 128 without its fraction, as DiT and SiT; `truncate`: 127.5 (x + 1) without its fraction, as ADM, REPA and
    EDM2, half a level darker."""
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
        if not 1 <= self.guidance_scale < float("inf"):
            raise UserError(
                f"sampling.guidance_scale must be a number from 1, which is no guidance, not {self.guidance_scale}; "
                "papers that write w for the 1 + w here (U-ViT: 0.4) mean 1 more (1.4)"
            )
        if self.rounding not in ROUNDINGS:
            raise unknown_name("sampling.rounding", self.rounding, ROUNDINGS)
        self._check_guidance()
        if self.micro_batch < 1:
            raise UserError(f"sampling.micro_batch must be at least 1, not {self.micro_batch}")
        if not 0 <= self.seed <= LAST_SEED:
            raise UserError(f"sampling.seed must be a whole number from 0 to {LAST_SEED}, not {self.seed}")

    def _check_guidance(self) -> None:
        """Refuse an interval and guided channels that cannot be, or that change nothing."""
        (low, high), channels, steps = self.guidance_interval, self.legacy_guided_channels, self.steps
        if not 0 <= low < high <= 1:
            raise UserError(
                "sampling.guidance_interval is [low, high], times with 0 <= low < high <= 1 (0 is data, 1 is noise), "
                f"not [{low}, {high}]"
            )
        if self.guidance_interval != EVERYWHERE and self.guidance_scale == 1:
            raise UserError("sampling.guidance_interval means nothing with guidance_scale=1, no guidance; leave it out")
        if not any(self._is_guided(time) for time in self.evaluated_at):
            times = ", ".join(f"{time:.3g}" for time in sorted(set(self.evaluated_at)))
            raise UserError(
                f"sampling.guidance_interval [{low}, {high}] has none of the times of {steps} steps ({times}); widen it"
            )
        if channels is not None and channels < 1:
            raise UserError(f"sampling.legacy_guided_channels must be at least 1, or null for all, not {channels}")
        if channels is not None and self.guidance_scale == 1:
            raise UserError(
                "sampling.legacy_guided_channels needs guidance, a guidance_scale above 1; leave it out, or give one"
            )

    def check_channels(self, channels: int) -> None:
        """UserError where guidance is asked for on the first of `channels` channels only, and there are no others."""
        if self.legacy_guided_channels is not None and self.legacy_guided_channels >= channels:
            raise UserError(
                f"sampling.legacy_guided_channels={self.legacy_guided_channels} is to leave some channels unguided, "
                f"and the network has {channels}; leave it out, which guides all"
            )

    def with_guidance(self, scale: float) -> "SamplingConfig":
        """The same with another guidance scale; without the settings that mean nothing at it."""
        interval = EVERYWHERE if scale == 1 else self.guidance_interval
        channels = None if scale == 1 else self.legacy_guided_channels
        return replace(self, guidance_scale=scale, guidance_interval=interval, legacy_guided_channels=channels)

    @property
    def solver_times(self) -> tuple[float, ...]:
        """steps + 1 times, from 1 (noise) down to 0 (data), in the network's own time."""
        uniform = tuple(1 - index / self.steps for index in range(self.steps + 1))
        if self.times == "uniform":
            return uniform
        return tuple(self.shift * t / (1 - t + self.shift * t) for t in uniform)  # 1 and 0 to the bit

    @property
    def evaluated_at(self) -> tuple[float, ...]:
        """The times at which the solver asks for a velocity, each as often as it does, in no order."""
        times = self.solver_times
        return (*times[:-1], *times[1:-1] * (EVALUATIONS[self.solver] - 1))

    def _is_guided(self, time: float) -> bool:
        low, high = self.guidance_interval
        return low - EDGE <= time <= high + EDGE

    def scale_at(self, time: float) -> float:
        """The guidance scale at a time: 1 outside the interval."""
        return self.guidance_scale if self._is_guided(time) else 1.0

    @property
    def evaluations(self) -> int:
        """Evaluations of the network for one sample (NFE)."""
        return sum(1 if self.scale_at(time) == 1 else 2 for time in self.evaluated_at)
