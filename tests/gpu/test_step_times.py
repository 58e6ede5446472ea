"""The table for docs/evidence: what a step of training takes on this GPU. Each line is printed, and appended to
BENCH_OUT/steps.jsonl where that is set, as soon as it is known. BENCH_SECONDS (240) is when no further line begins, and
BENCH_ONLY, a regular expression of `SIZE LATENT HOW`, leaves the others out."""

import dataclasses
import json
import os
import re
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from small_training import LAPTOP, ON_BOTH
from steps import Cell, time_cell, time_in_turn

from harness.architecture.catalogue import architecture
from harness.architecture.config import ArchitectureConfig
from harness.architecture.edits import with_edits
from harness.measure.cost import count
from harness.models.build import build, example_inputs
from harness.records.errors import UserError

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))

pytestmark = pytest.mark.timeout(600)
BEGAN = time.monotonic()
ROW = "{size:14} {latent:>4} {batch:>5}  {how:40} {step:>17} {images:>10} {memory:>8} {mfu:>6} {first:>8} {other}"
TWIN = {"middle.depth": 4, "time_width": 1024}  # what diffusers cannot vary


def cell_of(size: str, config: ArchitectureConfig, latent: int, batch: int, **how: Any) -> Cell:
    with torch.device("meta"):
        network = build(config)
    macs = count(network, example_inputs(config, latent=latent, device="meta")).macs
    return Cell(size=size, config=config, latent=latent, batch=batch, macs=macs, **how)


def shown(row: dict[str, Any]) -> str:
    low, high = row["step_ms_quartiles"]
    ratio = f"{row['of_the_other']:.3f} of the next line" if "of_the_other" in row else ""
    return ROW.format(
        **{name: row[name] for name in ("size", "latent", "batch", "how")},
        step=f"{row['step_ms']:.1f} [{low:.1f}, {high:.1f}]",
        images=f"{row['images_per_second']:,.1f}",
        memory="" if row["peak_memory_gib"] is None else f"{row['peak_memory_gib']:.1f}",
        mfu="" if row["mfu"] is None else f"{row['mfu']:.1%}",
        first=f"{row['first_step_s']:.1f}",
        other=ratio,
    )


def tell(line: str) -> None:
    """Past pytest's capturing, at once."""
    print(line, file=sys.__stderr__, flush=True)


def keep(row: dict[str, Any]) -> None:
    tell(shown(row) if "step_ms" in row else f"{row['size']}, {row['how']}: {row['why']}")
    if folder := os.environ.get("BENCH_OUT"):
        with (Path(folder) / "steps.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")


def not_run(cell: Cell, why: str) -> None:
    keep({"size": cell.size, "latent": cell.latent, "batch": cell.batch, "how": cell.how, "why": why})


def time_left() -> bool:
    return time.monotonic() - BEGAN < float(os.environ.get("BENCH_SECONDS", "240"))


def measured(cells: list[Cell], folder: Path, device: str, *, warm_up: int, timed: int) -> None:
    """Each alone, or two in turn. What has no time left or no memory is said to be so."""
    if not all(re.search(os.environ.get("BENCH_ONLY", ""), f"{each.size} {each.latent} {each.how}") for each in cells):
        return
    if not time_left():
        for cell in cells:
            not_run(cell, "not run: no time left")
        return
    try:
        if len(cells) == 1:
            keep(time_cell(cells[0], folder, device, warm_up=warm_up, timed=timed))
        else:
            for row in time_in_turn(cells, folder, device, warm_up=warm_up, timed=timed):
                keep(row)
    except (torch.OutOfMemoryError, UserError):  # the sentence that a user gets about memory
        for cell in cells:
            not_run(cell, "out of memory")


@ON_BOTH
def test_the_table(device: str, tmp_path: Path) -> None:
    on_cpu = device == "cpu"
    headings = {"size": "network", "latent": "size", "batch": "batch", "how": "how", "step": "ms a step"}
    others = {"images": "images/s", "memory": "GiB", "mfu": "MFU", "first": "first s", "other": ""}
    if not on_cpu:
        tell(f"\n{torch.cuda.get_device_name()}, PyTorch {torch.__version__}, CUDA {torch.version.cuda}")
    tell("\n" + ROW.format(**headings, **others))
    if on_cpu:  # the code alone
        cell = cell_of("laptop", LAPTOP, 8, 2)
        for cells in ([cell], [cell, dataclasses.replace(cell, by="plain loop")]):
            measured(cells, tmp_path, device, warm_up=1, timed=2)
        return
    snapgen, thin = architecture("snapgen"), with_edits(architecture("thin_sdxl"), TWIN)
    laptop = cell_of("laptop", LAPTOP, 8, 256)
    mobile = cell_of("snapgen", snapgen, 32, 64)
    large = cell_of("thin_sdxl", thin, 32, 64)
    wide = cell_of("snapgen", snapgen, 128, 8)
    for cell, timed in ((mobile, 12), (laptop, 40), (large, 10), (wide, 6)):
        for how in ({"precision": "float32"}, {}, {"cuda_graph": True}, {"channels_last": True}):
            measured([dataclasses.replace(cell, **how)], tmp_path, device, warm_up=5, timed=timed)
    for cell, timed in ((laptop, 40), (mobile, 12)):
        pair = [cell, dataclasses.replace(cell, by="plain loop")]
        measured(pair, tmp_path, device, warm_up=5, timed=timed)
    measured([large, dataclasses.replace(large, by="diffusers")], tmp_path, device, warm_up=3, timed=10)
    for cell, timed in ((mobile, 12), (laptop, 40), (wide, 6), (large, 10)):
        for graph in (True, False):
            compiled = dataclasses.replace(cell, compile=True, cuda_graph=graph)
            measured([compiled], tmp_path, device, warm_up=5, timed=timed)
