"""A storm over a real `harness sweep` on a real Slurm: kill -9 of drivers and workers, `scontrol requeue` and `scancel`
of jobs in the middle of their training. The proof is the one of the storms on this machine."""

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster import Cluster
from storm import BUDGETS, Plan, Storm
from storm_points import noted
from storm_proof import reasons, violations

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(1800)]

TRIALS = 8
REQUEUED, CANCELLED = ("trial-0", "trial-2"), "trial-3"
PLAN = Plan(
    trials=TRIALS,
    held=dict.fromkeys((*REQUEUED, CANCELLED), 3),
    workers={
        "lowest": {"trial-1": [("training step", 3)], "trial-4": [("before a checkpoint's rename", 2)]},
        "higher": {f"trial-{number}": [("while sampling", 1)] for number in range(TRIALS)},
    },
    drivers=[("after submit", 3), ("in a tell", 2), ("while promoting", 1)],
)
SLURM = [
    "launcher=slurm", "launcher.partition=main", "launcher.gpus=0", "launcher.cpus=1", "launcher.mem_gb=1.8",
    "launcher.timeout_min=20", "launcher.max_in_flight=3", "launcher.poll_interval_s=0.2", "launcher.heartbeat_s=1",
    "launcher.lease_timeout_s=5", "launcher.start_grace_s=60",
]  # fmt: skip


def test_a_sweep_on_slurm_loses_nothing_and_trains_nothing_twice(cluster: Cluster, tmp_path: Path, cache: Path) -> None:
    storm = Storm(tmp_path, PLAN, cache, *SLURM)
    with interfering(storm, cluster):
        storm.rage()
    facts = storm.facts()
    print(storm.summary())
    assert violations(facts, trials=TRIALS, budgets=BUDGETS) == []
    kills = storm.kills()
    assert [line["point"] for line in kills if line["who"] == "driver"] == [point for point, _ in PLAN.drivers]
    assert sum(line.get("budget") == "lowest" for line in kills) == len(PLAN.workers["lowest"])
    assert sum(line.get("budget") == "higher" for line in kills) >= 1
    held = {line["trial"]: line["key"] for line in noted(storm.own / "held.log")}
    stories = {
        name: [(line["event"], line["attempt"]) for line in facts.events if line["key"] == key]
        for name, key in held.items()
    }
    for name in REQUEUED:
        after = stories[name][stories[name].index(("stopped", "attempt-001")) :]
        assert ("resumed", "attempt-001") in after, "Slurm started the same job again"
    (cancelled,) = [line for line in facts.events if line["event"] == "cancelled"]
    assert cancelled["key"] == held[CANCELLED]
    assert "was cancelled by root at 20" in cancelled["error"]
    tried_again = stories[CANCELLED][-1][0] == "finished"  # by a driver that was not there at the scancel
    assert list(reasons(facts)) == ([] if tried_again else [held[CANCELLED]])


@contextlib.contextmanager
def interfering(storm: Storm, cluster: Cluster) -> Iterator[None]:
    """Do to each held job what is to be done to it, once, while it is held."""
    over = threading.Event()

    def interfere() -> None:
        done: set[str] = set()
        while not over.wait(0.1):
            for line in noted(storm.own / "held.log")[len(done) :]:
                job = [begun for begun in storm.events("started", "resumed") if begun["key"] == line["key"]][-1]["job"]
                cluster.run(*(("scancel",) if line["trial"] == CANCELLED else ("scontrol", "requeue")), job)
                done.add(line["trial"])

    thread = threading.Thread(target=interfere)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
