"""Each rung's forward pass on this CPU, as a ratio to the base of the ladder, one thread.

The paper's speed-ups (rung 1: 24% less time, rung 2a: 62% less) are on an iPhone's Neural Engine at a 128x128 latent. A
CPU pays for depthwise convolutions and small operators otherwise, so these ratios neither confirm nor contradict them:
they say what the rungs cost where the demo runs.
"""

from functools import cache

import pytest
import torch

from harness.models.build import build, example_inputs
from harness.trials.ablation_study import read_ablation

from .interleaved import ratio_of_times
from .peers import Forward

pytestmark = pytest.mark.benchmark(group="ladder")
SIZES = {"fig3": (16, 16, 10), "fig3_full": (32, 1, 3)}  # latent, batch, pairs


@cache
def ladder(name):
    return {rung.name: config for rung, config in read_ablation(name).architecture.architectures()}


@cache
def base(name):
    return forward(name, "thin_sdxl")


def forward(name, rung):
    latent, batch, _ = SIZES[name]
    config = ladder(name)[rung]
    return Forward(build(config), example_inputs(config, latent=latent, batch=batch))


@pytest.mark.timeout(900)
@pytest.mark.parametrize("rung", [rung for rung in ladder("fig3") if rung != "thin_sdxl"])
@pytest.mark.parametrize("name", SIZES)
def test_time_of_a_rung_against_thin_sdxl(benchmark, name, rung):
    """At full size two networks of 600 M parameters are in memory at a time: 5 GB."""
    latent, _, pairs = SIZES[name]
    with torch.inference_mode():
        ratio = ratio_of_times(
            benchmark, forward(name, rung), base(name), name=f"{name} at {latent}x{latent}: {rung}", pairs=pairs
        )
    assert ratio.median < 2
