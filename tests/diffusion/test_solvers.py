"""Solvers against ODEs with known solutions: the error falls with the order of the method. DPM-Solver++ step by step
against diffusers' own."""

import math
from itertools import pairwise

import pytest
import torch
from diffusers import DPMSolverMultistepScheduler
from torch import Tensor

from harness.diffusion.config import EVALUATIONS, SamplingConfig
from harness.diffusion.solvers import SOLVERS, solve

SHIFTED = {"times": "shifted", "shift": 3.0}


def schedule(steps: int, **times: object) -> tuple[float, ...]:
    return SamplingConfig(steps=steps, **times).solver_times  # type: ignore[arg-type]


def error(solver: str, steps: int, **times: object) -> float:
    """Of dx/dt = x from x(1) = 1, whose x(0) is 1/e."""
    start = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    end = solve(SOLVERS[solver], lambda x, _t: x, start, schedule(steps, **times))
    return abs(end.item() - math.exp(-1))


@pytest.mark.parametrize("times", [{}, SHIFTED])
@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("heun", 2)])
def test_error_falls_with_the_order_of_the_method(solver: str, order: int, times: dict[str, object]) -> None:
    """With Euler's last step too: one step's error is of order 2 in its length."""
    assert math.log2(error(solver, 128, **times) / error(solver, 256, **times)) == pytest.approx(order, abs=0.1)


def test_the_multistep_solver_has_order_two_between_the_ends() -> None:
    """At t = 1 and t = 0 the logarithm of the signal-to-noise ratio is infinite: no step there is small in it."""

    def inner_error(steps: int) -> float:
        times = torch.linspace(0.9, 0.1, steps + 1, dtype=torch.float64).tolist()
        end = solve(SOLVERS["dpmpp_2m"], lambda x, _t: x, torch.ones(1, 1, 1, 1, dtype=torch.float64), times)
        return abs(end.item() - math.exp(-0.8))

    assert math.log2(inner_error(256) / inner_error(512)) == pytest.approx(2, abs=0.1)


@pytest.mark.parametrize("times", [{}, SHIFTED])
def test_the_multistep_solver_beats_euler_at_equal_evaluations(times: dict[str, object]) -> None:
    assert error("dpmpp_2m", 64, **times) < error("euler", 64, **times) / 5


def bent_velocity(x: Tensor, t: float) -> Tensor:
    """Of data around -1 and 1, with a deviation of 1/2 each: v = (x - E[x_0 | x_t = x]) / t."""
    variance = t**2 + 0.25 * (1 - t) ** 2
    expected = (0.25 * (1 - t) * x + t**2 * torch.tanh(x * (1 - t) / variance)) / variance
    return (x - expected) / t


@pytest.mark.parametrize("from_noise", [False, True])
@pytest.mark.parametrize("shift", [1.0, 3.0])
@pytest.mark.parametrize("steps", [1, 2, 3, 5, 20])
def test_the_multistep_solver_is_diffusers_step_by_step(steps: int, shift: float, from_noise: bool) -> None:
    """From its own first time, 0.999, and from t = 1."""
    scheduler = DPMSolverMultistepScheduler(
        use_flow_sigmas=True, prediction_type="flow_prediction", flow_shift=shift, final_sigmas_type="zero"
    )
    scheduler.set_timesteps(steps)
    if from_noise:
        scheduler.sigmas[0] = 1.0
    x = torch.randn(4, 2, 3, 3, generator=torch.Generator().manual_seed(0))
    ours, theirs, history = x, x, []
    for (t, t_next), timestep in zip(pairwise(scheduler.sigmas.tolist()), scheduler.timesteps, strict=True):
        step = SOLVERS["dpmpp_2m"] if t_next > 0 else SOLVERS["euler"]
        ours = step(bent_velocity, ours, t, t_next, history)
        theirs = scheduler.step(bent_velocity(theirs, t), timestep, theirs).prev_sample
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    assert torch.equal(ours, solve(SOLVERS["dpmpp_2m"], bent_velocity, x, scheduler.sigmas.tolist()))


def test_a_multistep_solver_that_forgets_is_seen() -> None:
    x, times = torch.randn(4, 2, 3, 3), SamplingConfig(steps=10).solver_times

    def forgetful(v, x, t, t_next, _history):
        return SOLVERS["dpmpp_2m"](v, x, t, t_next, [])

    one, two = (solve(step, bent_velocity, x, times) for step in (forgetful, SOLVERS["dpmpp_2m"]))
    torch.testing.assert_close(one, solve(SOLVERS["euler"], bent_velocity, x, times), atol=1e-5, rtol=1e-5)
    assert (one - two).abs().max() > 1e-3


def test_shifted_times_are_the_published_formula() -> None:
    expected = [3 * t / (1 + 2 * t) for t in (1, 0.75, 0.5, 0.25, 0)]
    assert schedule(4, **SHIFTED) == pytest.approx(expected)
    assert schedule(4) == (1, 0.75, 0.5, 0.25, 0)


@pytest.mark.parametrize("solver", SOLVERS)
def test_straight_path_is_followed_exactly_in_one_step(solver: str) -> None:
    x0, noise = torch.randn(2, 1, 3, 3, dtype=torch.float64), torch.randn(2, 1, 3, 3, dtype=torch.float64)
    torch.testing.assert_close(solve(SOLVERS[solver], lambda _x, _t: noise - x0, noise, (1.0, 0.0)), x0)


def test_heun_integrates_a_velocity_linear_in_time_exactly_up_to_the_last_step() -> None:
    start = torch.full((1, 1, 1, 1), 2.0, dtype=torch.float64)
    end = solve(SOLVERS["heun"], lambda x, t: torch.full_like(x, t), start, schedule(3))
    before = (1 - 1 / 9) / 2  # the integral of t from 1/3 to 1
    assert end.item() == pytest.approx(2 - before - 1 / 3 * 1 / 3)


@pytest.mark.parametrize("times", [{}, SHIFTED, {"times": "shifted", "shift": 0.3}])
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_evaluations_are_as_declared_and_never_at_the_end(solver: str, steps: int, times: dict[str, object]) -> None:
    """Training draws t near 0 hardly ever, so a velocity there is a guess."""
    evaluated_at: list[float] = []

    def v(x: torch.Tensor, t: float) -> torch.Tensor:
        evaluated_at.append(t)
        return x

    config = SamplingConfig(solver=solver, steps=steps, **times)  # type: ignore[arg-type]
    solve(SOLVERS[solver], v, torch.ones(1, 1, 1, 1), config.solver_times)
    assert len(evaluated_at) == config.evaluations == (2 * steps - 1 if solver == "heun" else steps)
    assert sorted(evaluated_at) == sorted(config.evaluated_at)
    assert evaluated_at[0] == 1
    assert min(evaluated_at) == config.solver_times[-2] > 0


def test_what_a_setting_may_name_exists():
    assert set(SOLVERS) == set(EVALUATIONS)
