"""One of several processes that train together. argv: a file of jobs, and which process this is.

A job: {folder, size, recipe, parallel, objective, double, dies}. Processes from `size` on leave it out; in float64 if
`double`; `dies` is [process, step]: killed by SIGKILL before that step. The first process leaves `result.pt`, the
average's weights and the curve, and `refused.txt` where the training is refused.
"""

import json
import os
import signal
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from tiny_training import RECIPE, Judged, flow_matching, in_float64, run, tiny_network, undropped

from harness.records.errors import UserError
from harness.records.plain import from_plain, to_plain
from harness.training.checkpoint import named_tensors
from harness.training.parallel_config import DdpParallel, FsdpParallel, NoParallel
from harness.training.recipe import Recipe

CONFIGS = {"none": NoParallel, "ddp": DdpParallel, "fsdp": FsdpParallel}


def train_share(job: dict[str, Any], rank: int) -> None:
    recipe = from_plain(Recipe, {**to_plain(RECIPE), **job["recipe"]})  # type: ignore[dict-item]
    objective = {"flow_matching": flow_matching, "judged": Judged}[job["objective"]](recipe)
    network = undropped(tiny_network())
    if job["double"]:
        network, objective = network.double(), in_float64(objective)
    if job["dies"] and job["dies"][0] == rank:
        objective.batch = dying(objective.batch, job["dies"][1])
    folder = Path(job["folder"])
    trained = run(folder, recipe, model=network, objective=objective, parallel=CONFIGS[job["parallel"]]())
    tensors = named_tensors(trained.model)
    if rank == 0:
        curve = [(point.step, point.name, point.value) for point in trained.curve]
        torch.save({"tensors": tensors, "curve": curve, "from": trained.effort.continued_from}, folder / "result.pt")


def dying(batch: Callable[..., Any], step: int) -> Callable[..., Any]:
    """The objective's, and no more from the batch of that step on."""
    count = 0

    def counted(*arguments: Any) -> Any:
        nonlocal count
        count += 1
        if count == step:
            os.kill(os.getpid(), signal.SIGKILL)
        return batch(*arguments)

    return counted


def together(job: dict[str, Any], rank: int) -> None:
    if rank >= job["size"]:
        return
    where = f"tcp://127.0.0.1:{job['port']}"
    dist.init_process_group(
        "gloo", init_method=where, rank=rank, world_size=job["size"], timeout=timedelta(seconds=240)
    )
    try:
        train_share(job, rank)
    except UserError as error:
        (Path(job["folder"]) / f"refused-{rank}.txt").write_text(str(error))
    finally:
        dist.destroy_process_group()


if __name__ == "__main__":
    torch.set_num_threads(1)
    for each in json.loads(Path(sys.argv[1]).read_text()):
        together(each, int(sys.argv[2]))
