"""Teachers of others in two processes, each with a share of their weights. argv: a file of torch.save, kind ->
the configuration, the student and what is asked; answers go beside it, a file a process.

The processes are forked from this one, which computes nothing.
"""

import sys
from pathlib import Path

import torch
import torch._dynamo
import torch.distributed.fsdp
import torch.multiprocessing
from diffusers import SD3Transformer2DModel, UNet2DConditionModel  # noqa: F401 (imported before the fork)

from harness.architecture.kinds import builder_of
from harness.training.parallel import local, process_group


def answer(rank: int, file: Path, port: int) -> None:
    torch.set_num_threads(1)  # here: of a pool made before a fork a thread may find nothing, and abort
    asked, answers = torch.load(file, weights_only=False), {}
    with process_group(rank, 2, ("127.0.0.1", port), torch.device("cpu")):
        for kind, (config, student, samples) in asked.items():
            description = builder_of(config)(config, student)
            teacher = description.load(torch.device("cpu"))
            x_t, *others = samples
            x_t = x_t.requires_grad_(True)
            place = list(teacher.taps)[-1]
            found = teacher(x_t, *others, [place], differentiable=True)
            (found.velocity.sum() + found.features[place].sum()).backward()
            alone = samples[0].detach().requires_grad_(True)
            teacher(alone, *others, [place], differentiable=True).features[place].sum().backward()
            held = sum(local(parameter).numel() for parameter in teacher.network.parameters())
            answers[kind] = {
                "velocity": found.velocity.detach(), "feature": found.features[place].detach(), "gradient": x_t.grad,
                "gradient of the feature alone": alone.grad,
                "again": teacher(x_t, *others).velocity, "share": held / description.params,
            }  # fmt: skip
    torch.save(answers, file.with_name(f"answers-{rank}.pt"))


if __name__ == "__main__":
    torch.multiprocessing.start_processes(answer, (Path(sys.argv[1]), int(sys.argv[2])), 2, start_method="fork")
