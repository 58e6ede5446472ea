"""Trainings in several processes, one after the other. argv: a file of jobs.

A job: {folder, size, recipe, parallel, objective, double, dies, data, bad}.

    double   in float64
    dies     [process, point, step, saved]: killed by SIGKILL there, once the checkpoint of step `saved` stands
    data     the process that has other data
    bad      the step in which the last process has images that are no numbers

The processes are forked from this one, which computes nothing, and has imported what each would with its first step:
TorchDynamo alone takes two seconds. Beside the jobs lies `codes.json` then, the exit codes of each. In a job's folder:
`result.pt`, the average's weights and the curve; `refused-N.txt` where process N was refused; `steps.log`, a line for
each step that was trained and each checkpoint that stands, appended as it happens.
"""

import json
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch._dynamo
import torch.distributed as dist
import torch.distributed.fsdp
from tiny_training import OBJECTIVES, RECIPE, in_float64, run, tiny_network, undropped
from torch import nn

from harness.records.errors import UserError
from harness.records.plain import from_plain, to_plain
from harness.training import loop, saving, shards  # noqa: F401 (imported before the fork)
from harness.training.parallel_config import DdpParallel, FsdpParallel, NoParallel
from harness.training.recipe import Recipe
from harness.training.tensors import named_tensors

CONFIGS = {"none": NoParallel, "ddp": DdpParallel, "fsdp": FsdpParallel}


def train_share(job: dict[str, Any], rank: int) -> None:
    recipe = from_plain(Recipe, {**to_plain(RECIPE), **job["recipe"]})  # type: ignore[dict-item]
    objective = OBJECTIVES[job["objective"]](recipe)
    network = undropped(tiny_network())
    if job["double"]:
        network, objective = network.double(), in_float64(objective)
    folder = Path(job["folder"])
    if job["dies"] and job["dies"][0] == rank:
        arm(network, folder, *job["dies"][1:])
    if rank == job["data"]:
        loop.Training._identity = lambda _self, _step: "another"  # type: ignore[method-assign]
    if job["bad"] and rank == job["size"] - 1:
        spoil(job["bad"])
    trained = run(
        folder,
        recipe,
        model=network,
        objective=objective,
        parallel=CONFIGS[job["parallel"]](),
        on_progress=lambda step, _of: note(folder, step=step),
        on_steps=lambda what, _after, to: note(folder, saved=to) if what == "saved" else None,
    )
    tensors = named_tensors(trained.model)
    if rank == 0:
        curve = [(point.step, point.name, point.value) for point in trained.curve]
        effort = {"from": trained.effort.continued_from, "notes": trained.effort.notes}
        torch.save({"tensors": tensors, "curve": curve, **effort}, folder / "result.pt")


def note(folder: Path, **line: int) -> None:
    descriptor = os.open(folder / "steps.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    os.write(descriptor, f"{json.dumps(line)}\n".encode())
    os.close(descriptor)


def arm(network: nn.Module, folder: Path, point: str, step: int, saved: int) -> None:
    """Have this process die at that point of the training of that step, or of its checkpoint's writing."""
    now, advance, all_reduce = [0], loop.Training.advance, dist.all_reduce
    write_tensors, write_state = saving.write_tensors, saving.write_state

    def advancing(self: loop.Training, at: int, batch: Any) -> None:
        now[0] = at
        advance(self, at, batch)

    def dying(before: Callable[..., Any]) -> Callable[..., Any]:
        def function(*given: Any, **named: Any) -> Any:
            if now[0] == step:
                die_after(folder, saved)
            return before(*given, **named)

        return function

    def writing(path: Path, *given: Any) -> str:
        sha256 = write_tensors(path, *given)
        if path.parent.name.endswith(f"{step:08d}"):
            die_after(folder, saved)
        return sha256

    loop.Training.advance = advancing  # type: ignore[method-assign]
    if point == "forward":
        network.register_forward_pre_hook(dying(lambda *_: None))
    elif point == "all-reduce":
        dist.all_reduce = dying(all_reduce)
    elif point == "write":
        saving.write_tensors = writing
    elif point == "before the manifest":
        saving.write_state = lambda _folder, at, *_: (
            die_after(folder, saved) if at == step else write_state(_folder, at, *_)
        )


def spoil(step: int) -> None:
    """The images of this process's share of that step are no numbers."""
    advance = loop.Training.advance

    def advancing(self: loop.Training, at: int, batch: Any) -> None:
        advance(self, at, replace(batch, x0=batch.x0 * torch.nan) if at == step else batch)

    loop.Training.advance = advancing  # type: ignore[method-assign]


def die_after(folder: Path, saved: int) -> None:
    """By SIGKILL, once a checkpoint of that step stands."""
    while saved and not (folder / f"checkpoint-{saved:08d}").exists():
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGKILL)


def together(job: dict[str, Any], rank: int) -> None:
    where = f"tcp://127.0.0.1:{job['port']}"
    if job["size"] > 1:
        dist.init_process_group(
            "gloo", init_method=where, rank=rank, world_size=job["size"], timeout=timedelta(seconds=240)
        )
    try:
        train_share(job, rank)
    except UserError as error:
        (Path(job["folder"]) / f"refused-{rank}.txt").write_text(str(error))
    finally:
        if job["size"] > 1:
            dist.destroy_process_group()


def forked(job: dict[str, Any], rank: int) -> int:
    """The number of a process that trains its share and ends."""
    if (pid := os.fork()) > 0:
        return pid
    code = 1
    try:
        torch.set_num_threads(1)  # here: of a pool made before a fork a thread may find nothing, and abort
        together(job, rank)
        code = 0
    except BaseException:
        if not job["dies"]:
            traceback.print_exc()
    os._exit(code)


def main(path: Path) -> None:
    codes = []
    for job in json.loads(path.read_text()):
        with socket.create_server(("127.0.0.1", 0)) as free:
            job["port"] = free.getsockname()[1]
        pids = [forked(job, rank) for rank in range(job["size"])]
        codes.append([os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids])
    path.with_name("codes.json").write_text(json.dumps(codes))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
