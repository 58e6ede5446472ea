"""A step of distillation against what it is made of, done bare: a step of the student by a plain loop (the same loss of
the data, clipping, fused AdamW and average), and a forward pass of the teacher. What is added is the loss of output and
features, with its way back, and the projection's step. Goal: at most 1.05 of their time."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "gpu"))

from small_training import LAPTOP
from steps import Cell, steps_of

from harness.architecture.catalogue import architecture
from harness.architecture.edits import with_edits

from .interleaved import PAIRS, ratio_of_times

pytestmark = pytest.mark.benchmark(group="distillation")
BAR = 1.05
TEACHER = with_edits(architecture("laptop/teacher"), {"context_length": 3, "context_width": 5})


@pytest.mark.parametrize(("latent", "batch"), [(8, 64), (16, 16)])
def test_time_against_its_parts_done_bare(benchmark, tmp_path, latent, batch):
    cells = [
        Cell(
            size="laptop", config=LAPTOP, latent=latent, batch=batch, macs=0, precision="float32", by=by,
            teacher=TEACHER,
        )
        for by in ("harness", "plain loop")
    ]  # fmt: skip
    with steps_of(cells[0], tmp_path, "cpu") as ours, steps_of(cells[1], tmp_path, "cpu") as bare:
        name = f"distillation, laptop at {latent}x{latent}, batch {batch}: time"
        assert ratio_of_times(benchmark, ours, bare, name=name, pairs=4 * PAIRS).median <= BAR
