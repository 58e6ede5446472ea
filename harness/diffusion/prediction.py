"""From what a network predicts to the velocity that the solvers follow, whatever it was trained on.

The solvers' path is the straight one, y_t = (1 - t) x_0 + t e. A variance-preserving path, z = alpha x_0 + sigma e, is
the same curve at another scale and pace: where both have the same ratio of noise to data,

    t / (1 - t) = sigma / alpha,    so    t = sigma / (alpha + sigma)    and    z = (alpha + sigma) y             (1)

and from what the network says of z there follow x_0 and e, and from them the straight path's velocity:

    epsilon    e = out                        x_0 = (z - sigma e) / alpha                                         (2)
    v          e = sigma z + alpha out        x_0 = alpha z - sigma out                                           (3)
    velocity   dy/dt = e - x_0                                                                                    (4)

So Euler's step on y is DDIM's on z (Song et al. 2021, arXiv 2010.02502, eq. 12), and DPM-Solver++(2M), which knows
noise by log(alpha / sigma) alone, is the same in both.

Steps are laid out in the network's own time s: 0 is data, 1 its last noise level, s = n / 1,000 the n-th. Between two
levels log alpha is a straight line, as in DPM-Solver's discrete schedules (Lu et al. 2022, arXiv 2206.00927, app. D).
At s = 1 the path of DDPM's betas has not quite come to the noise: t is 0.994 (linear) or 0.936 (scaled_linear) there,
and samples start with z ~ N(0, I) nevertheless, as everybody's do. So does whoever asks beyond that end: a network is
asked as at s = 1, of y at the size that it knows there, and tells x_0, which with y is a velocity again:

    z = y / sqrt((1 - t)^2 + t^2)            x_0 by (2), (3) at s = 1            dy/dt = (y - x_0) / t              (5)

At the end it is what (1) to (4) are. At t = 1, where y = e, z = e: a sampler's first question, and y - x_0 points at
the data that the network sees in that noise, which of a network of one step is its sample.

A solver's time is one for a batch; a training's is one a sample.
"""

from collections.abc import Callable, Sequence
from functools import cache, cached_property
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from harness.architecture.prediction import (
    TIMESTEPS,
    VELOCITY,
    Epsilon,
    Prediction,
    VariancePreserving,
    Velocity,
)

BETAS = {"linear": (1e-4, 0.02, 1.0), "scaled_linear": (0.00085, 0.012, 0.5)}
"""First beta, last beta, and the power of beta that is equally spaced between them."""

Time: TypeAlias = float | Tensor
"""Shared by a batch, or (B,)."""

Network: TypeAlias = Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor]
"""Its own input z (B, C, H, W), its own time (B,), context (B, T, D), mask (B, T) or None -> what it predicts."""

Evaluate: TypeAlias = Callable[[Tensor, Time, Tensor, Tensor | None], Tensor]
"""The straight path's velocity: y (B, C, H, W), t, context (B, T, D), mask (B, T) or None -> the shape of y."""


class Path(Protocol):
    """A network's path beside the straight one."""

    def straight(self, own: float) -> float:
        """t of the straight path, for the network's own time s."""
        ...

    def own(self, straight: float) -> float:
        """The network's own time s, for t."""
        ...

    @property
    def start(self) -> float:
        """What noise is multiplied by to be y at s = 1."""
        ...


class StraightPath:
    """Flow matching's own."""

    start = 1.0

    def straight(self, own: float) -> float:
        return own

    def own(self, straight: float) -> float:
        return straight


class CurvedPath:
    """The variance-preserving one of 1,000 betas."""

    def __init__(self, beta_schedule: str) -> None:
        first, last, power = BETAS[beta_schedule]
        each = np.linspace(first**power, last**power, TIMESTEPS) ** (1 / power)
        self.log_alphas: NDArray[np.float64] = np.concatenate([[0.0], 0.5 * np.cumsum(np.log1p(-each))])  # of s = n / N
        self.times = np.arange(TIMESTEPS + 1) / TIMESTEPS

    def alpha_sigma(self, own: float) -> tuple[float, float]:
        log_alpha = float(np.interp(own, self.times, self.log_alphas))
        return float(np.exp(log_alpha)), float(np.sqrt(-np.expm1(2 * log_alpha)))

    def at_each(self, straight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """s, alpha and sigma, float64 (B,), for t (B,) on their device: as `own` and `alpha_sigma` have them."""
        t = (straight.cpu() if straight.device.type == "mps" else straight).double()  # Metal has no float64
        times, log_alphas = self._on(t.device)
        ratio = t / (1 - t)
        own = _interpolated(-0.5 * torch.log1p(ratio.square()), log_alphas.flip(0), times.flip(0))
        log_alpha = _interpolated(own, times, log_alphas)
        return own, log_alpha.exp(), (-torch.expm1(2 * log_alpha)).sqrt()

    @cache  # noqa: B019 - there are a handful of paths, and `path_of` keeps them too
    def _on(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Times and log alphas there: copied once, since a recorded step may copy nothing."""
        times, log_alphas = (torch.from_numpy(each).to(device) for each in (self.times, self.log_alphas))
        return times, log_alphas

    def straight(self, own: float) -> float:  # (1)
        alpha, sigma = self.alpha_sigma(own)
        return sigma / (alpha + sigma)

    def own(self, straight: float) -> float:
        ratio = straight / (1 - straight)  # sigma / alpha; alpha^2 + sigma^2 = 1
        return float(np.interp(-0.5 * np.log1p(ratio**2), self.log_alphas[::-1], self.times[::-1]))

    @cached_property
    def end(self) -> float:
        """t of s = 1."""
        return self.straight(1.0)

    @property
    def start(self) -> float:
        return 1 / sum(self.alpha_sigma(1.0))


def _interpolated(x: Tensor, xs: Tensor, ys: Tensor) -> Tensor:
    """NumPy's `interp` without leaving the device: x (B,), ascending xs (K,), their ys (K,)."""
    right = torch.searchsorted(xs, x).clamp(1, len(xs) - 1)
    share = ((x - xs[right - 1]) / (xs[right] - xs[right - 1])).clamp(0, 1)
    return torch.lerp(ys[right - 1], ys[right], share)


def prediction_of(network: nn.Module) -> Prediction:
    """What a network predicts: what its architecture says, and the velocity where that has no such choice."""
    chosen: Prediction = getattr(getattr(network, "config", None), "prediction", VELOCITY)
    return chosen


@cache
def path_of(prediction: Prediction) -> Path:
    return StraightPath() if isinstance(prediction, Velocity) else CurvedPath(prediction.beta_schedule)


def straight_times(prediction: Prediction, own: Sequence[float]) -> tuple[float, ...]:
    """A solver's times from s = 1 to s = 0 in the network's own, as t."""
    return tuple(map(path_of(prediction).straight, own))


def velocity_of(network: Network, prediction: Prediction) -> Evaluate:
    """The straight path's velocity, of the network's output."""
    if isinstance(prediction, Velocity):
        return _of_velocity(network, prediction)
    return _of_noise(network, prediction)


def _of_velocity(network: Network, prediction: Velocity) -> Evaluate:
    backwards = prediction.time == "from_noise"
    scale = prediction.time_scale / TIMESTEPS  # networks multiply their time by 1,000 before their sinusoids

    def evaluate(y: Tensor, t: Time, context: Tensor, mask: Tensor | None) -> Tensor:
        time = scale * (1 - t) if backwards else scale * t
        out: Tensor = network(y, _each(time, y), context, mask)
        return -out if backwards else out

    return evaluate


def _of_noise(network: Network, prediction: VariancePreserving) -> Evaluate:
    path, first = path_of(prediction), 0 if prediction.timesteps == "from_0" else 1
    assert isinstance(path, CurvedPath)
    predicts_noise = isinstance(prediction, Epsilon)

    def evaluate(y: Tensor, t: Time, context: Tensor, mask: Tensor | None) -> Tensor:
        alpha: Time
        sigma: Time
        if isinstance(t, Tensor):
            own, *each = path.at_each(t)
            alpha, sigma, t = (level.to(y).view(-1, *[1] * (y.ndim - 1)) for level in (*each, t))
            time: Time = ((own * TIMESTEPS - 1).clamp_min(0) + first) / TIMESTEPS
        else:
            at = path.own(min(t, path.end))
            alpha, sigma = path.alpha_sigma(at)
            time = (max(at * TIMESTEPS - 1, 0.0) + first) / TIMESTEPS  # below the first level it is asked as at it
        is_beyond = t > path.end
        z = _either(is_beyond, ((1 - t) ** 2 + t**2) ** -0.5, alpha + sigma) * y  # (5), (1)
        out: Tensor = network(z, _each(time, y), context, mask)
        if predicts_noise:
            x0, noise = (z - sigma * out) / alpha, out  # (2)
        else:
            x0, noise = alpha * z - sigma * out, sigma * z + alpha * out  # (3)
        last = t.clamp_min(path.end) if isinstance(t, Tensor) else max(t, path.end)  # where (5) holds, it is t
        velocity: Tensor = _either(is_beyond, (y - x0) / last, noise - x0)  # (5), (4)
        return velocity

    return evaluate


def _either(is_so: bool | Tensor, one: Any, other: Any) -> Any:
    return torch.where(is_so, one, other) if isinstance(is_so, Tensor) else one if is_so else other


def _each(time: Time, y: Tensor) -> Tensor:
    """(B,) the networks' time of each sample of y."""
    if isinstance(time, Tensor):
        return time.to(y)
    return torch.full((len(y),), time, device=y.device)
