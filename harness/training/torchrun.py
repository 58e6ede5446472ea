"""The processes that torchrun starts, each with the same command: the first drives, the others follow its trainings.

    torchrun --nproc-per-node 2 -m harness train NAME launcher=debug parallel=ddp

torchrun tells each its place by RANK, LOCAL_RANK and WORLD_SIZE, and has a store at MASTER_ADDR:MASTER_PORT, which says
where the first one leads. It ends all processes when one dies, and may start all again: then the same command goes on.
"""

import json
import os
from collections.abc import Callable
from dataclasses import asdict

from torch.distributed.rendezvous import rendezvous

from harness.launch.team import LOOPBACK, Meeting, Team, follow
from harness.launch.together import leading


def run_together(work: Callable[[], int]) -> int:
    """The exit status of `work()`, which the first process does; the others' when it has."""
    local = int(os.environ.get("LOCAL_RANK", os.environ["RANK"]))
    store, rank, size = next(rendezvous("env://"))
    key = f"harness-{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"
    if rank > 0:
        follow(Meeting(**json.loads(store.get(key))), rank=rank, local=local)
        return 0
    on_one_node = os.environ.get("LOCAL_WORLD_SIZE") == str(size)
    with Team(size, LOOPBACK if on_one_node else os.environ["MASTER_ADDR"]) as team, leading(team):
        store.set(key, json.dumps(asdict(team.meeting)))
        return work()
