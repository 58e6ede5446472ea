"""Solvers against ODEs with known solutions: the error falls with the order of the method."""

import math

import pytest
import torch

from harness.diffusion.config import EVALUATIONS
from harness.diffusion.solvers import SOLVERS, solve


def error(solver: str, steps: int) -> float:
    """Of dx/dt = x from x(1) = 1, whose x(0) is 1/e."""
    end = solve(SOLVERS[solver], lambda x, _t: x, torch.ones(1, 1, 1, 1, dtype=torch.float64), steps)
    return abs(end.item() - math.exp(-1))


@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("heun", 2)])
def test_error_falls_with_the_order_of_the_method(solver: str, order: int) -> None:
    assert math.log2(error(solver, 32) / error(solver, 64)) == pytest.approx(order, abs=0.1)


@pytest.mark.parametrize("solver", SOLVERS)
def test_straight_path_is_followed_exactly_in_one_step(solver: str) -> None:
    x0, noise = torch.randn(2, 1, 3, 3, dtype=torch.float64), torch.randn(2, 1, 3, 3, dtype=torch.float64)
    torch.testing.assert_close(solve(SOLVERS[solver], lambda _x, _t: noise - x0, noise, 1), x0)


def test_heun_integrates_a_velocity_linear_in_time_exactly() -> None:
    start = torch.full((1, 1, 1, 1), 2.0, dtype=torch.float64)
    end = solve(SOLVERS["heun"], lambda x, t: torch.full_like(x, t), start, 3)
    assert end.item() == pytest.approx(2 - 0.5)  # the integral of t from 1 to 0 is -1/2


@pytest.mark.parametrize("solver", SOLVERS)
def test_evaluations_are_as_declared_and_stay_within_the_path(solver: str) -> None:
    times: list[float] = []

    def v(x: torch.Tensor, t: float) -> torch.Tensor:
        times.append(t)
        return x

    solve(SOLVERS[solver], v, torch.ones(1, 1, 1, 1), 5)
    assert len(times) == 5 * EVALUATIONS[solver]
    assert times[0] == 1
    assert all(0 <= t <= 1 for t in times)


def test_what_a_setting_may_name_exists():
    assert set(SOLVERS) == set(EVALUATIONS)
