"""The training loop against a plain one over the same network: the same loss, clipping, fused AdamW and average, and no
draws by index, guards, curve or checkpoints. Goal: at most 1.03 of its time."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "gpu"))

from small_training import LAPTOP
from steps import Cell, steps_of

from .interleaved import PAIRS, ratio_of_times

pytestmark = pytest.mark.benchmark(group="loop")
BAR = 1.03
CASES = [(8, 64), (16, 16)]  # latent, batch


@pytest.mark.parametrize(("latent", "batch"), CASES)
def test_time_against_a_plain_loop(benchmark, tmp_path, latent, batch):
    cells = [
        Cell(size="laptop", config=LAPTOP, latent=latent, batch=batch, macs=0, precision="float32", by=by)
        for by in ("harness", "plain loop")
    ]
    with steps_of(cells[0], tmp_path, "cpu") as ours, steps_of(cells[1], tmp_path, "cpu") as plain:
        name = f"training loop, laptop at {latent}x{latent}, batch {batch}: time"
        assert ratio_of_times(benchmark, ours, plain, name=name, pairs=4 * PAIRS).median <= BAR
