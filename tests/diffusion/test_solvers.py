"""Solvers against ODEs with known solutions: the error falls with the order of the method."""

import math

import pytest
import torch

from harness.diffusion.config import EVALUATIONS, SamplingConfig
from harness.diffusion.solvers import SOLVERS, solve
from harness.diffusion.times import solver_times

SHIFTED = {"times": "shifted", "shift": 3.0}


def schedule(steps: int, **times: object) -> tuple[float, ...]:
    return solver_times(SamplingConfig(steps=steps, **times))  # type: ignore[arg-type]


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
    solve(SOLVERS[solver], v, torch.ones(1, 1, 1, 1), solver_times(config))
    assert len(evaluated_at) == config.evaluations == {"euler": steps, "heun": 2 * steps - 1}[solver]
    assert evaluated_at[0] == 1
    assert min(evaluated_at) == solver_times(config)[-2] > 0


def test_what_a_setting_may_name_exists():
    assert set(SOLVERS) == set(EVALUATIONS)
