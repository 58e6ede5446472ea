"""A checkpoint of 400 MB: what training waits for it, beside `torch.save`; what going on takes beyond loading.

The laptop's network beside it, where a checkpoint has 1,820 small tensors.
"""

import time
from statistics import median

import pytest
import torch
from torch import Tensor

from harness.architecture.catalogue import architecture
from harness.models.build import build
from harness.training.checkpoint import Kept, latest, load
from harness.training.parallel import World
from harness.training.saving import Checkpoints

from .interleaved import LINES, report, seconds

pytestmark = pytest.mark.benchmark(group="checkpoint")
ROUNDS = 7
WAITS_AT_MOST = 0.15
GOES_ON_WITHIN_S = 3.0


def large_state() -> dict[str, Tensor]:
    """25 million parameters in 300 tensors: weights, their average, two moments."""
    kinds = ("model", "ema", "optimizer.model.exp_avg", "optimizer.model.exp_avg_sq")
    return {f"{kind}.{number}": torch.randn(512, 163) for kind in kinds for number in range(300)}


def laptop_state() -> dict[str, Tensor]:
    weights = build(architecture("laptop/thin_sdxl")).state_dict()
    states = {f"{kind}.{name}": w.clone() for kind in ("model", "ema", "m", "v") for name, w in weights.items()}
    return states | {f"step.{name}": torch.tensor(1.0) for name in weights}


def forward_and_backward() -> None:
    """Half a second of multiplying, in which nothing of the checkpoint changes: 25 million parameters take longer."""
    matrix, ends = torch.randn(512, 512), time.perf_counter() + 0.5
    while time.perf_counter() < ends:
        matrix @ matrix


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("state", [large_state, laptop_state])
def test_a_checkpoint_holds_the_training_up_for_a_fraction_of_torch_save(benchmark, tmp_path, state):
    tensors, checkpoints = state(), Checkpoints(tmp_path, Kept(newest=1), World(), lambda _step: None)
    steps = iter(range(1, 1000))

    def begin() -> float:
        waited = seconds(lambda: checkpoints.begin(next(steps), tensors, {}))
        forward_and_backward()
        waited += seconds(checkpoints.copied)
        assert checkpoints.settle() is None
        return waited

    begin()  # makes the buffers, once in a training
    ours, plain = [], []

    def rounds() -> None:
        for _ in range(ROUNDS):
            ours.append(begin())
            plain.append(seconds(lambda: torch.save(tensors, tmp_path / "plain.pt")))

    benchmark.pedantic(rounds, rounds=1)
    size = sum(tensor.nbytes for tensor in tensors.values()) / 1e6
    ratio = report(benchmark, ours, plain, name=f"a checkpoint of {size:.0f} MB / torch.save", unit="s")
    assert ratio.median <= WAITS_AT_MOST


@pytest.mark.timeout(1800)
def test_going_on_takes_little_beyond_loading(benchmark, tmp_path):
    tensors, checkpoints = large_state(), Checkpoints(tmp_path, Kept(newest=1), World(), lambda _step: None)
    checkpoints.begin(1, tensors, {})
    assert checkpoints.settle() is None
    torch.save(tensors, tmp_path / "plain.pt")

    def go_on() -> None:
        newest, _ = latest(tmp_path)
        assert newest is not None
        load(newest, tensors, World())

    beyond: list[float] = []

    def rounds() -> None:
        beyond.extend(seconds(go_on) - seconds(lambda: torch.load(tmp_path / "plain.pt")) for _ in range(ROUNDS))

    benchmark.pedantic(rounds, rounds=1)
    LINES.append(f"going on from 400 MB, beyond torch.load: {median(beyond):.2f} s, at most {max(beyond):.2f}")
    assert median(beyond) <= GOES_ON_WITHIN_S
