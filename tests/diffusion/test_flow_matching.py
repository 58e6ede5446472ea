"""Flow matching against its equations, by hand and by autograd."""

import math

import pytest
import torch
from torch import nn

from harness.diffusion.config import ROUNDINGS
from harness.diffusion.flow_matching import flow_matching_loss, interpolate, logit_normal_times, velocity
from harness.models.pixels import ROUNDING, NotFiniteError, to_model_range, to_uint8


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_path_goes_from_data_to_noise() -> None:
    x0, noise = torch.randn(3, 2, 4, 4), torch.randn(3, 2, 4, 4)
    assert torch.equal(interpolate(x0, noise, torch.zeros(3)), x0)
    assert torch.equal(interpolate(x0, noise, torch.ones(3)), noise)
    per_sample = interpolate(x0, noise, torch.tensor([0.0, 0.25, 1.0]))
    torch.testing.assert_close(per_sample[1], 0.75 * x0[1] + 0.25 * noise[1])


def test_velocity_is_the_derivative_of_the_path() -> None:
    x0, noise = torch.randn(5, 3, dtype=torch.float64), torch.randn(5, 3, dtype=torch.float64)
    time, direction = torch.rand(5, dtype=torch.float64), torch.ones(5, dtype=torch.float64)
    _, derivative = torch.func.jvp(lambda t: interpolate(x0, noise, t), (time,), (direction,))
    torch.testing.assert_close(velocity(x0, noise), derivative)


def test_times_are_logit_normal() -> None:
    times = logit_normal_times(torch.randn(100_000, generator=generator()))
    logits = torch.logit(times.double())
    assert times.min() > 0
    assert times.max() < 1
    assert abs(logits.mean()) < 0.01
    assert abs(logits.std() - 1) < 0.01
    # P(t < 1/4) = Phi(logit(1/4)) = Phi(-log 3)
    assert (times < 0.25).double().mean().item() == pytest.approx(0.5 * math.erfc(math.log(3) / math.sqrt(2)), abs=5e-3)


def test_every_grey_level_survives_the_round_trip() -> None:
    levels = torch.arange(256, dtype=torch.uint8)
    scaled = to_model_range(levels)
    assert scaled.min() == -1
    assert scaled.max() == 1
    assert torch.equal(to_uint8(scaled), levels)
    assert torch.equal(to_uint8(torch.tensor([-7.0, 7.0])), torch.tensor([0, 255], dtype=torch.uint8))


@pytest.mark.parametrize(("rounding", "zero", "below"), [("nearest", 128, 64), ("dit", 128, 64), ("truncate", 127, 63)])
def test_rounding_is_the_rule_that_was_asked_for(rounding: str, zero: int, below: int) -> None:
    """127.5, 63.75 and 191.25 levels, and what lies outside."""
    x = torch.tensor([0.0, -0.5, 0.5, -1.0, 1.0, -3.0, 3.0])
    assert to_uint8(x, rounding).tolist() == [zero, below, 191, 0, 255, 0, 255]


def test_the_rules_of_published_code() -> None:
    """DiT and SiT; ADM; REPA."""
    x = torch.linspace(-1.1, 1.1, 100_001)
    assert torch.equal(to_uint8(x, "dit"), torch.clamp(127.5 * x + 128.0, 0, 255).to(torch.uint8))
    assert torch.equal(to_uint8(x, "truncate"), ((x + 1) * 127.5).clamp(0, 255).to(torch.uint8))
    assert torch.equal(to_uint8(x, "truncate"), torch.clamp(255.0 * ((x + 1) / 2.0), 0, 255).to(torch.uint8))
    means = {rounding: to_uint8(x, rounding).double().mean().item() for rounding in ROUNDING}
    assert means["nearest"] - means["truncate"] == pytest.approx(0.5 / 1.1, abs=0.01)
    assert means["dit"] == pytest.approx(means["nearest"], abs=1e-3)


def test_what_a_rounding_may_be_called_exists() -> None:
    assert tuple(ROUNDING) == ROUNDINGS


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_no_grey_levels_are_refused_and_counted(value: float) -> None:
    images = torch.zeros(5, 1, 2, 2)
    images[3, 0, 1, 1] = images[4, 0, 0, 0] = value
    with pytest.raises(NotFiniteError, match=r"^2 of 5 images have values that are NaN or infinite$"):
        to_uint8(images)


class Fixed(nn.Module):
    """Answers what it was given, and remembers what it was asked."""

    def __init__(self, answer: torch.Tensor) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, x: torch.Tensor, time: torch.Tensor, context: torch.Tensor, mask: None) -> torch.Tensor:
        self.asked = (x, time, context, mask)
        return self.answer


def test_loss_is_the_mean_squared_error_of_the_velocity() -> None:
    x0, noise, time = torch.randn(4, 1, 2, 2), torch.randn(4, 1, 2, 2), torch.rand(4)
    context = torch.randn(4, 3, 5)
    model = Fixed(noise - x0 + 0.5)
    loss = flow_matching_loss(model, x0, noise, time, context, None)
    assert loss.item() == pytest.approx(0.25, rel=1e-5)
    x, asked_time, asked_context, _ = model.asked
    torch.testing.assert_close(x, (1 - time[:, None, None, None]) * x0 + time[:, None, None, None] * noise)
    assert asked_time is time
    assert asked_context is context


def test_loss_of_half_precision_output_is_computed_in_float32() -> None:
    x0, noise = torch.zeros(2, 1, 2, 2), torch.ones(2, 1, 2, 2)
    model = Fixed(torch.zeros(2, 1, 2, 2, dtype=torch.bfloat16))
    assert flow_matching_loss(model, x0, noise, torch.rand(2), torch.zeros(2, 1, 1), None).dtype == torch.float32
