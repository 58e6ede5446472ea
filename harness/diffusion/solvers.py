"""ODE solvers for dx/dt = v(x, t) from t = 1 (noise) to t = 0 (data), by name.

A new solver is one function, one entry in SOLVERS and one in `harness.diffusion.config.EVALUATIONS`.
"""

from collections.abc import Callable
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


def solve(step: Step, v: Velocity, noise: Tensor, steps: int) -> Tensor:
    """Follow the ODE from the noise at t = 1 to the image at t = 0 in equal time steps."""
    x = noise
    for index in range(steps):
        x = step(v, x, 1 - index / steps, 1 - (index + 1) / steps)
    return x
