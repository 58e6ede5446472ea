"""What a network's runs add to a process at most: `python peak_memory.py SIZE LATENT BATCH WHAT PAIRS` prints JSON.

Every measurement is a process of its own, forked in turn from one that has imported everything and computed nothing.
"""

import json
import multiprocessing
import sys
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel  # noqa: F401  # imported before the fork, so that it counts for neither
from peers import RUNS, Peer, config_of

from harness.models.build import build, example_inputs


def peak_megabytes(size: str, latent: int, batch: int, what: str, ours: bool) -> float:
    """The peak of building the network and running it five times, above what was resident before."""
    torch.set_num_threads(1)
    config = config_of(size)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts at what is resident now
    before = status("VmRSS")
    run = RUNS[what](build(config) if ours else Peer(config), example_inputs(config, latent=latent, batch=batch))
    for _ in range(5):
        run()
    return status("VmHWM") - before


def status(field: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) / 1024


def main() -> None:
    size, latent, batch, what, pairs = sys.argv[1:]
    megabytes: dict[str, list[float]] = {"peer": [], "ours": []}
    for _ in range(int(pairs)):
        for name, peaks in megabytes.items():
            with multiprocessing.get_context("fork").Pool(1) as pool:
                peaks.append(pool.apply(peak_megabytes, (size, int(latent), int(batch), what, name == "ours")))
    print(json.dumps(megabytes))


if __name__ == "__main__":
    main()
