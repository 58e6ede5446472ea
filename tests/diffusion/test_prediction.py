"""Every prediction becomes the straight path's velocity: exact for a Gaussian, equal to diffusers' samplers, and the
default changes nothing."""

import math
from itertools import pairwise
from types import SimpleNamespace
from unittest.mock import Mock

import diffusers
import numpy as np
import pytest
import torch
from torch import nn

from harness.architecture.prediction import VELOCITY, Epsilon, Velocity, VPrediction
from harness.diffusion import prediction as seam
from harness.diffusion.config import SamplingConfig
from harness.diffusion.prediction import CurvedPath, path_of, prediction_of, straight_times, velocity_of
from harness.diffusion.sampling import sample_batches, sample_noise
from harness.diffusion.solvers import SOLVERS, solve

PREDICTIONS = {
    "velocity": VELOCITY,
    "sit": Velocity(time="from_noise", time_scale=1),
    "dit": Epsilon(beta_schedule="linear"),
    "uvit": Epsilon(beta_schedule="scaled_linear", timesteps="from_1"),
    "v": VPrediction(beta_schedule="scaled_linear"),
}
MEAN, SPREAD = 0.7, 0.4
"""The data: every value N(MEAN, SPREAD^2), of which all predictions are known exactly."""


def alpha_sigma(prediction, number):
    """Of the noise level number 1 to 1,000, from the betas, one after the other."""
    root = prediction.beta_schedule == "scaled_linear"
    first, last = (0.00085**0.5, 0.012**0.5) if root else (1e-4, 0.02)
    kept = 1.0
    for index in range(number):
        beta = first + (last - first) * index / 999
        kept *= 1 - (beta**2 if root else beta)
    return kept**0.5, (1 - kept) ** 0.5


def expected_data(z, alpha, sigma):
    """E[x_0 | z] for z = alpha x_0 + sigma e and the Gaussian: mean and regression."""
    gain = alpha * SPREAD**2 / ((alpha * SPREAD) ** 2 + sigma**2)
    return MEAN + gain * (z - alpha * MEAN)


class Exact(nn.Module):
    """What a perfect network of this prediction says of the Gaussian, in its own time and scale."""

    def __init__(self, prediction):
        super().__init__()
        self.config = SimpleNamespace(prediction=prediction)
        self.at = nn.Parameter(torch.zeros(()))
        self.asked = []

    def forward(self, x, time, _context, _mask=None):
        return torch.cat([self.one(row[None], float(at)) for row, at in zip(x, time, strict=True)])

    def one(self, x, time):
        prediction, own = self.config.prediction, time * 1000
        self.asked.append(own)
        if isinstance(prediction, Velocity):
            t = own / prediction.time_scale
            t = 1 - t if prediction.time == "from_noise" else t
            x0 = expected_data(x, 1 - t, t)
            forward = (x - x0) / t
            return -forward if prediction.time == "from_noise" else forward
        number = round(own) + (1 if prediction.timesteps == "from_0" else 0)
        assert own == pytest.approx(round(own), abs=1e-3)  # steps of whole noise levels
        alpha, sigma = alpha_sigma(prediction, number)
        x0 = expected_data(x, alpha, sigma)
        noise = (x - alpha * x0) / sigma
        return noise if isinstance(prediction, Epsilon) else alpha * noise - sigma * x0


@pytest.mark.parametrize("name", PREDICTIONS)
def test_the_velocity_of_a_gaussian_is_exact_whatever_is_predicted(name):
    prediction = PREDICTIONS[name]
    network, y = Exact(prediction), torch.linspace(-2, 2, 7, dtype=torch.float64).view(1, 1, 1, 7)
    for own in (0.99, 0.5, 0.02):
        t = path_of(prediction).straight(own)
        found = velocity_of(network, prediction)(y, t, torch.zeros(1, 1, 1), None)
        x0 = expected_data(y, 1 - t, t)
        torch.testing.assert_close(found, (y - x0) / t, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", PREDICTIONS)
def test_a_batch_may_have_a_time_for_each_sample(name):
    """The Gaussian's exact velocity at each, with gradients of it; and what a batch of one time has, sample by sample,
    at times between noise levels and beyond the last one too."""
    prediction = PREDICTIONS[name]
    evaluate, context = velocity_of(Exact(prediction), prediction), torch.zeros(3, 1, 1)
    times = [path_of(prediction).straight(own) for own in (0.99, 0.5, 0.02)]
    t = torch.tensor(times, dtype=torch.float64)
    y = torch.linspace(-2, 2, 21, dtype=torch.float64).view(3, 1, 1, 7).requires_grad_()
    found, each = evaluate(y, t, context, None), t.view(3, 1, 1, 1)
    gain = (1 - each) * SPREAD**2 / (((1 - each) * SPREAD) ** 2 + each**2)
    x0 = MEAN + gain * (y - (1 - each) * MEAN)
    torch.testing.assert_close(found, (y - x0) / each, rtol=1e-6, atol=1e-6)
    (slope,) = torch.autograd.grad(found.sum(), y)
    torch.testing.assert_close(slope, ((1 - gain) / each).expand_as(y), rtol=1e-5, atol=1e-6)

    small, odd = velocity_of(Small(prediction), prediction), torch.tensor([0.0001, 0.3217, 0.9999])
    pictures = torch.randn(3, 3, 4, 4)
    together = small(pictures, odd, context, None)
    alone = [
        small(one[None], float(at), context[:1], None) for one, at in zip(pictures, odd.double().tolist(), strict=True)
    ]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["dit", "uvit", "v"])
@pytest.mark.parametrize("one_each", [True, False])
def test_beyond_its_paths_end_a_network_is_asked_at_the_end_about_what_it_knows_there(name, one_each):
    """At t = 1 about the noise as it is; of what it sees there, and of y, follows the velocity. It is nearly the exact
    one, joins that of the path at its end, and leads there to where samples start."""
    prediction, asked = PREDICTIONS[name], []
    exact, path = Exact(prediction), path_of(prediction)

    def network(z, *more):
        asked.append(z)
        return exact(z, *more)

    def velocity(y, t):
        time = torch.tensor([t], dtype=torch.float64) if one_each else t
        return velocity_of(network, prediction)(y, time, torch.zeros(1, 1, 1), None)

    y = torch.linspace(-2, 2, 7, dtype=torch.float64).view(1, 1, 1, 7)
    found = velocity(y, 1.0)
    torch.testing.assert_close(asked[-1], y, rtol=0, atol=0)
    x0 = expected_data(y, *alpha_sigma(prediction, 1000))
    torch.testing.assert_close(found, y - x0, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(found, y - MEAN, rtol=0, atol=0.03)
    at, after = velocity(y, path.end), velocity(y, path.end + 1e-9)
    torch.testing.assert_close(at, after, rtol=0, atol=1e-6)
    for t, t_next in pairwise(torch.linspace(1, path.end, 101).tolist()):
        y = y + (t_next - t) * velocity(y, t)
    wanted = expected_start(path.end, torch.linspace(-2, 2, 7, dtype=torch.float64))
    torch.testing.assert_close(y.flatten(), wanted, rtol=0, atol=0.005)


def expected_start(t, noise):
    """Where the Gaussian's flow leads from noise at t = 1: to the same quantile."""
    return (1 - t) * MEAN + ((1 - t) ** 2 * SPREAD**2 + t**2) ** 0.5 * noise


@pytest.mark.parametrize("name", ["dit", "uvit", "v"])
def test_samples_of_a_gaussian_are_of_it(name):
    """From noise to data by 100 steps: mean and spread of what the exact network samples."""
    prediction = PREDICTIONS[name]
    network = Exact(prediction)
    times = straight_times(prediction, SamplingConfig(solver="dpmpp_2m", steps=100).solver_times)
    noise = path_of(prediction).start * torch.linspace(-3, 3, 25, dtype=torch.float64).view(1, 1, 5, 5)
    evaluate = velocity_of(network, prediction)
    made = solve(SOLVERS["dpmpp_2m"], lambda y, t: evaluate(y, t, torch.zeros(1, 1, 1), None), noise, times)
    drawn = torch.linspace(-3, 3, 25, dtype=torch.float64).view(1, 1, 5, 5)
    torch.testing.assert_close(made, MEAN + SPREAD * drawn, rtol=0, atol=0.08)  # the path ends short of the noise
    first, last = network.asked[0], network.asked[-1]
    assert (first, last) == pytest.approx((1000, 10) if name == "uvit" else (999, 9), abs=1e-3)


def test_paths_are_those_of_the_betas_and_invert():
    for name in ("dit", "uvit"):
        prediction = PREDICTIONS[name]
        path = path_of(prediction)
        assert isinstance(path, CurvedPath)
        for number in (1, 20, 500, 1000):
            alpha, sigma = alpha_sigma(prediction, number)
            assert path.alpha_sigma(number / 1000) == pytest.approx((alpha, sigma), rel=1e-9)
            t = path.straight(number / 1000)
            assert t / (1 - t) == pytest.approx(sigma / alpha, rel=1e-9)
            assert path.own(t) == pytest.approx(number / 1000, abs=1e-9)
        assert (path.straight(0.0), path.own(0.0)) == (0.0, 0.0)
        assert path.start == pytest.approx(1 / sum(alpha_sigma(prediction, 1000)))
        assert all(later < earlier for earlier, later in pairwise(straight_times(prediction, (1, 0.7, 0.3, 0))))
    assert path_of(PREDICTIONS["dit"]).straight(1.0) == pytest.approx(0.994, abs=5e-4)
    assert path_of(PREDICTIONS["uvit"]).straight(1.0) == pytest.approx(0.936, abs=5e-4)


class Small(nn.Module):
    """Any network with a timestep: not linear in x, different at each time."""

    def __init__(self, prediction):
        super().__init__()
        torch.manual_seed(0)
        self.config = SimpleNamespace(prediction=prediction)
        self.mix = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x, time, context, _mask=None):
        return (
            torch.tanh(self.mix(x)) * (1 + (3 * time).cos()).view(-1, 1, 1, 1) / 2
            + context.mean((1, 2))[:, None, None, None]
        )


class Prompts:
    def to(self, _device):
        return self

    def context(self, labels, drop=None):
        dropped = torch.zeros_like(labels, dtype=torch.bool) if drop is None else drop
        return torch.where(dropped, 0.0, 0.1 * (labels + 1.0)).view(-1, 1, 1), None


def ours(network, config, labels):
    """Latents, not rounded."""
    made = []
    for _ in sample_batches(network, Prompts(), labels, config, shape=(3, 4, 4), decode=lambda z: made.append(z) or z):
        pass
    return torch.cat(made)


def theirs(network, scheduler, steps, labels, scale, prediction):
    """diffusers' loop, with the timesteps that its scheduler chooses."""
    scheduler.set_timesteps(steps)
    z = sample_noise(0, range(len(labels)), (3, 4, 4))
    (prompted, _), (empty, _) = (Prompts().context(labels, torch.full((len(labels),), drop)) for drop in (False, True))
    for timestep in scheduler.timesteps:
        time = torch.full((len(labels),), float(timestep) / 1000)
        with torch.no_grad():
            out, bare = network(z, time, prompted), network(z, time, empty)
        z = scheduler.step(bare + scale * (out - bare), timestep, z).prev_sample
    return z


@pytest.mark.parametrize("beta_schedule", ["linear", "scaled_linear"])
@pytest.mark.parametrize(("kind", "theirs_name"), [(Epsilon, "epsilon"), (VPrediction, "v_prediction")])
@pytest.mark.parametrize("solver", ["euler", "dpmpp_2m"])
def test_sampling_is_diffusers_ddim_and_dpm_solver(beta_schedule, kind, theirs_name, solver):
    first, last, _ = seam.BETAS[beta_schedule]
    common = {
        "beta_schedule": beta_schedule, "beta_start": first, "beta_end": last, "prediction_type": theirs_name,
        "timestep_spacing": "trailing",
    }  # fmt: skip
    if solver == "euler":
        scheduler = diffusers.DDIMScheduler(**common, clip_sample=False, set_alpha_to_one=True)
    else:
        scheduler = diffusers.DPMSolverMultistepScheduler(**common, euler_at_final=True)
    prediction, labels = kind(beta_schedule=beta_schedule), torch.tensor([0, 1, 4])
    network = Small(prediction)
    config = SamplingConfig(solver=solver, steps=20, guidance_scale=1.7, micro_batch=3)
    found, expected = ours(network, config, labels), theirs(network, scheduler, 20, labels, 1.7, prediction)
    torch.testing.assert_close(found, expected, rtol=2e-4, atol=2e-4)
    assert (ours(Small(VELOCITY), config, labels) - expected).abs().max() > 0.1  # another meaning is another picture


@pytest.mark.parametrize("broken", ["the start", "the betas", "the scale"])
def test_a_wrong_part_of_the_seam_is_seen(broken, monkeypatch):
    """What the test above holds, broken on purpose."""
    if broken == "the start":
        monkeypatch.setattr(CurvedPath, "start", 1.0)
    elif broken == "the betas":
        monkeypatch.setitem(seam.BETAS, "linear", seam.BETAS["scaled_linear"])
    else:
        right = CurvedPath.alpha_sigma
        monkeypatch.setattr(CurvedPath, "alpha_sigma", lambda path, own: tuple(0.9 * each for each in right(path, own)))
    seam.path_of.cache_clear()
    prediction, labels = Epsilon(beta_schedule="linear"), torch.tensor([0, 1])
    network, config = Small(prediction), SamplingConfig(solver="euler", steps=10, guidance_scale=1.7, micro_batch=2)
    scheduler = diffusers.DDIMScheduler(
        beta_start=1e-4, beta_end=0.02, timestep_spacing="trailing", clip_sample=False, set_alpha_to_one=True
    )
    expected = theirs(network, scheduler, 10, labels, 1.7, prediction)
    assert (ours(network, config, labels) - expected).abs().max() > 0.01
    seam.path_of.cache_clear()


def test_sits_velocity_is_ours_run_backwards():
    """A network of SiT's that answers as one of ours does, seen from the other end."""
    config, labels = SamplingConfig(solver="heun", steps=7, micro_batch=4), torch.tensor([0, 1, 2, 3])
    network = Small(VELOCITY)

    class Backwards(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.config = network, SimpleNamespace(prediction=PREDICTIONS["sit"])

        def forward(self, x, time, context, mask=None):
            return -self.inner(x, 1 - 1000 * time, context, mask)  # its sinusoids see 1,000 times its time

    torch.testing.assert_close(ours(Backwards(), config, labels), ours(network, config, labels), rtol=1e-5, atol=1e-5)


def test_the_default_is_bit_for_bit_what_it_was():
    """The loop as it stands in the papers, without the seam."""
    network, labels = Small(VELOCITY), torch.tensor([0, 1])
    config = SamplingConfig(solver="euler", steps=3, micro_batch=2)
    x = sample_noise(0, range(2), (3, 4, 4))
    context, _ = Prompts().context(labels)
    with torch.inference_mode():
        for t, t_next in pairwise(config.solver_times):
            x = x + (t_next - t) * network(x, torch.full((2,), t), context)
    assert torch.equal(ours(network, config, labels), x)
    assert prediction_of(nn.Linear(1, 1)) == VELOCITY


def test_guidance_intervals_are_of_the_networks_own_time():
    """NFE are counted before any network is known, so the interval is on the axis of the steps."""
    prediction = Epsilon(beta_schedule="linear")
    network, seen = Small(prediction), []
    forward = network.forward
    network.forward = lambda x, time, *more: seen.append((len(x), float(time[0]))) or forward(x, time, *more)
    config = SamplingConfig(solver="euler", steps=10, guidance_scale=3.0, guidance_interval=(0.3, 0.7), micro_batch=2)
    ours(network, config, torch.tensor([0, 1]))
    guided = [round(1000 * time) for rows, time in seen if rows == 4]
    assert guided == [699, 599, 499, 399, 299]
    assert sum(rows // 2 for rows, _ in seen) == config.evaluations


def test_a_path_is_computed_once(monkeypatch):
    """Not anew for each micro-batch."""
    prediction = Epsilon(beta_schedule="scaled_linear")
    path_of(prediction)
    monkeypatch.setattr(CurvedPath, "__init__", Mock(side_effect=AssertionError))
    velocity_of(Small(prediction), prediction)


def test_betas_are_diffusers():
    for beta_schedule, (first, last, _) in seam.BETAS.items():
        scheduler = diffusers.DDPMScheduler(beta_schedule=beta_schedule, beta_start=first, beta_end=last)
        kept = np.exp(2 * CurvedPath(beta_schedule).log_alphas[1:])
        torch.testing.assert_close(torch.from_numpy(kept).float(), scheduler.alphas_cumprod, rtol=1e-4, atol=0)
    assert math.sqrt(1.0) == path_of(VELOCITY).start
