"""ODE solvers for dx/dt = v(x, t) from t = 1 (noise) to t = 0 (data), by name.

A new solver is one function, one entry in SOLVERS and one in `harness.diffusion.config.EVALUATIONS`.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TypeAlias

from torch import Tensor

Velocity: TypeAlias = Callable[[Tensor, float], Tensor]
"""v(x, t): (B, C, H, W) and a time shared by the batch -> (B, C, H, W)."""

Step: TypeAlias = Callable[[Velocity, Tensor, float, float], Tensor]
"""One step: v, x at time t, t, the next time -> x at the next time."""


def euler_step(v: Velocity, x: Tensor, t: float, t_next: float) -> Tensor:
    """x + (t' - t) v(x, t): order 1, one evaluation."""
    return x + (t_next - t) * v(x, t)


def heun_step(v: Velocity, x: Tensor, t: float, t_next: float) -> Tensor:
    """x + (t' - t) (v(x, t) + v(x', t')) / 2 with x' Euler's guess: order 2, two evaluations."""
    slope = v(x, t)
    guess = x + (t_next - t) * slope
    return x + (t_next - t) * 0.5 * (slope + v(guess, t_next))


SOLVERS: dict[str, Step] = {"euler": euler_step, "heun": heun_step}


def solve(step: Step, v: Velocity, noise: Tensor, times: Sequence[float]) -> Tensor:
    """Follow the ODE from the noise at times[0] = 1 to the image at times[-1] = 0.

    The last step is Euler's, as in Karras et al. 2022 (arXiv 2206.00364, alg. 1): training draws t near 0 hardly ever,
    so v(x, 0) is never asked for. One step of order 2 in h leaves the order of the whole as it is.
    """
    x = noise
    *steps, last = pairwise(times)
    for t, t_next in steps:
        x = step(v, x, t, t_next)
    return euler_step(v, x, *last)
