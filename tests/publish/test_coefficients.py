"""A solver's numbers alone make the picture that the sampler makes: every solver, prediction and kind of guidance."""

import pytest
import torch
from torch import nn

from harness.architecture.prediction import VELOCITY, Epsilon, Velocity, VPrediction
from harness.diffusion.config import EVALUATIONS, SamplingConfig
from harness.diffusion.sampling import sample_batches, sample_noise
from harness.publish.coefficients import coefficients

SHAPE = (3, 4, 4)


class Network(nn.Module):
    """Any function of what a network sees that is not linear in it."""

    def __init__(self, prediction):
        super().__init__()
        self.prediction, self.weight = prediction, nn.Parameter(torch.randn(3, 3, generator=torch.manual_seed(0)))

    @property
    def config(self):
        return self

    def forward(self, x, time, context, _mask):
        mixed = torch.einsum("bchw,cd->bdhw", x, self.weight)
        return torch.tanh(mixed + context.mean((1, 2)).view(-1, 1, 1, 1)) + time.view(-1, 1, 1, 1) * x


class Table:
    """A prompt of 2s, and an empty one of 0s."""

    def to(self, _device):
        return self

    def context(self, labels, drop):
        return torch.where(drop[:, None, None], 0.0, 2.0).expand(len(labels), 2, 5), None


def by_numbers(network, config, noise):
    numbers, outputs = coefficients(network.prediction, config), [noise]
    for each in numbers.evaluations:
        z = sum(a * output for a, output in zip(each.state, outputs, strict=True))
        prompted, empty = (network(z, torch.tensor([each.time]), torch.full((1, 2, 5), c), None) for c in (2.0, 0.0))
        guided, channels = empty + each.guidance * (prompted - empty), config.legacy_guided_channels
        outputs.append(guided if channels is None else torch.cat([guided[:, :channels], prompted[:, channels:]], 1))
    return sum(b * output for b, output in zip(numbers.picture, outputs, strict=True))


GUIDANCE = [
    {},
    {"guidance_scale": 2.0, "guidance_interval": (0.3, 1.0)},
    {"guidance_scale": 1.5, "legacy_guided_channels": 1},
]
PREDICTIONS = [
    VELOCITY,
    Velocity(time="from_noise", time_scale=900.0),
    Epsilon(beta_schedule="linear"),
    VPrediction(beta_schedule="scaled_linear"),
]


@pytest.mark.parametrize("guidance", GUIDANCE)
@pytest.mark.parametrize("prediction", PREDICTIONS, ids=lambda each: each.kind)
@pytest.mark.parametrize("solver", EVALUATIONS)
@torch.no_grad()
def test_the_numbers_make_the_samplers_picture(solver, prediction, guidance):
    config = SamplingConfig(solver=solver, steps=5, micro_batch=1, times="shifted", shift=2.0, **guidance)
    network = Network(prediction)
    ((_, sampled),) = sample_batches(network, Table(), torch.tensor([0]), config, shape=SHAPE, decode=lambda x: x)
    made = by_numbers(network, config, sample_noise(config.seed, range(1), SHAPE))
    assert sampled.std() > 0.05
    torch.testing.assert_close(made, sampled, rtol=2e-4, atol=2e-4)


def test_each_number_is_what_the_solvers_equation_says():
    numbers = coefficients(VELOCITY, SamplingConfig(solver="euler", steps=2, guidance_scale=3))
    assert [(each.time, each.guidance, each.state) for each in numbers.evaluations] == [
        (1.0, 3.0, (1.0,)),
        (0.5, 3.0, (1.0, -0.5)),
    ]
    assert numbers.picture == (1.0, -0.5, -0.5)
