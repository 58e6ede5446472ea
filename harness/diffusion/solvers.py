"""ODE solvers for dx/dt = v(x, t) from t = 1 (noise) to t = 0 (data), by name.

A new solver is one function, one entry in SOLVERS and one in `harness.diffusion.config.EVALUATIONS`.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TypeAlias

from torch import Tensor

Velocity: TypeAlias = Callable[[Tensor, float], Tensor]
"""v(x, t): (B, C, H, W) and a time shared by the batch -> (B, C, H, W)."""

History: TypeAlias = list[tuple[float, Tensor]]
"""What a step of a multistep solver leaves for the next one; empty at the first step."""

Step: TypeAlias = Callable[[Velocity, Tensor, float, float, History], Tensor]
"""One step: v, x at time t, t, the next time, what earlier steps left -> x at the next time."""


def euler_step(v: Velocity, x: Tensor, t: float, t_next: float, _history: History) -> Tensor:
    """x + (t' - t) v(x, t): order 1, one evaluation."""
    return x + (t_next - t) * v(x, t)


def heun_step(v: Velocity, x: Tensor, t: float, t_next: float, _history: History) -> Tensor:
    """x + (t' - t) (v(x, t) + v(x', t')) / 2 with x' Euler's guess: order 2, two evaluations."""
    slope = v(x, t)
    guess = x + (t_next - t) * slope
    return x + (t_next - t) * 0.5 * (slope + v(guess, t_next))


def dpmpp_2m_step(v: Velocity, x: Tensor, t: float, t_next: float, history: History) -> Tensor:
    """DPM-Solver++(2M), midpoint (Lu et al. 2022, arXiv 2211.01095, alg. 2): order 2, one evaluation.

    With alpha = 1 - t, sigma = t, lambda = log(alpha / sigma) and h = lambda(t') - lambda(t) of the path of flow
    matching, alpha' (1 - exp(-h)) = 1 - t' / t, so that
        x' = (t' / t) x + (1 - t' / t) D,   D = x_0 + (x_0 - x_0 before) h / (2 (lambda(t) - lambda(before)))
    where x_0 = x - t v(x, t) is the data that the velocity points at. D = x_0 is Euler's step: the first one, and the
    one after t = 1, whose lambda is minus infinity.
    """
    x0 = x - t * v(x, t)
    data = x0
    if history:
        before, x0_before = history.pop()
        h, h_before = log_alpha_over_sigma(t_next) - log_alpha_over_sigma(t), log_alpha_over_sigma(t) - before
        data = x0 + 0.5 * h / h_before * (x0 - x0_before)
    history.append((log_alpha_over_sigma(t), x0))
    return t_next / t * x + (1 - t_next / t) * data


def log_alpha_over_sigma(t: float) -> float:
    """lambda = log((1 - t) / t), half the logarithm of the signal-to-noise ratio, for 0 < t <= 1."""
    return math.log((1 - t) / t) if t < 1 else -math.inf


SOLVERS: dict[str, Step] = {"euler": euler_step, "heun": heun_step, "dpmpp_2m": dpmpp_2m_step}


def solve(step: Step, v: Velocity, noise: Tensor, times: Sequence[float]) -> Tensor:
    """Follow the ODE from the noise at times[0] = 1 to the image at times[-1] = 0.

    The last step is Euler's, as in Karras et al. 2022 (arXiv 2206.00364, alg. 1): training draws t near 0 hardly ever,
    so v(x, 0) is never asked for. One step of order 2 in h leaves the order of the whole as it is.
    """
    x, history = noise, History()
    *steps, last = pairwise(times)
    for t, t_next in steps:
        x = step(v, x, t, t_next, history)
    return euler_step(v, x, *last, history)
