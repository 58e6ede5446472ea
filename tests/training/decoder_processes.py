"""Steps of a decoder's training in two processes, by DDP and then by FSDP. argv: a folder. The first process of each
leaves `ddp.pt` or `fsdp.pt` there: the weights of both modules, whole, and the weight of the discriminator's verdict in
each step."""

import os
import socket
import sys
from pathlib import Path

import torch
import torch._dynamo  # before the fork
import torch.distributed as dist
from test_reconstruction import CPU, decoder, reconstruction
from torch import nn

from harness.training.parallel import World
from harness.training.parallel_config import DdpParallel, FsdpParallel, NoParallel, ParallelConfig
from harness.training.randomness import HostDraws
from harness.training.recipe import Recipe
from harness.training.tensors import named_tensors
from harness.training.update import Update

RECIPE = Recipe(steps=3, batch_size=5, learning_rate=1e-2)
"""Of shares of two and three samples."""


def steps(world: World, parallel: ParallelConfig) -> dict[str, torch.Tensor]:
    objective, network = reconstruction(RECIPE), decoder()
    update = Update(network, objective, RECIPE, CPU, torch.float32, parallel, world)
    own, weights = world.share(RECIPE.batch_size), []
    rows = torch.stack([objective.data.train[number][0] for number in own])
    for step in range(1, RECIPE.steps + 1):
        batch = objective.batch(rows, torch.zeros(len(own)), HostDraws(0, step, own, RECIPE.batch_size))
        weights.append(world.mean(update(step, batch)["train_loss.adaptive_weight"]))
    discriminator: nn.Module = objective.auxiliaries[0].module
    return {
        **named_tensors(network, "network."),
        **named_tensors(discriminator, "discriminator."),
        "weights": torch.stack(weights),
    }


PARALLEL: dict[str, ParallelConfig] = {"ddp": DdpParallel(), "fsdp": FsdpParallel()}


def train(kind: str, rank: int, port: int, folder: Path) -> None:
    """The life of one process."""
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    found = steps(World(rank, 2), PARALLEL[kind])
    if rank == 0:
        torch.save(found, folder / f"{kind}.pt")
    dist.destroy_process_group()


def main(folder: Path) -> None:
    for kind in PARALLEL:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        processes = []
        for rank in range(2):
            if (pid := os.fork()) == 0:
                code = 1
                try:
                    torch.set_num_threads(1)  # here: of a pool made before a fork a thread may find nothing
                    train(kind, rank, port, folder)
                    code = 0
                finally:
                    os._exit(code)
            processes.append(pid)
        assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in processes] == [0, 0]


def alone() -> dict[str, torch.Tensor]:
    return steps(World(), NoParallel())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
