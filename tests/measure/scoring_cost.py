"""What scoring costs beside the bare extractor, in time and memory: pictures in parts, each extracted alone and scored,
in turns.

`python tests/measure/scoring_cost.py [N]` prints the table of docs/evidence/scores.md, which is of 10,000 pictures.
"""

import resource
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import torch

from harness.data.config import DigitsConfig
from harness.data.dataset import load_dataset
from harness.measure.quality import Scorer
from harness.measure.quality_config import QualityConfig
from harness.measure.quality_reference import load_reference

CHUNK = 512
METRICS = ("fd", "fd_infinity", "inception_score")  # what is told from sums alone


def peak_mib() -> float:
    """The most memory that the process has had."""
    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale / 2**20


def timed(work, *arguments) -> float:
    started = time.perf_counter()
    work(*arguments)
    return time.perf_counter() - started


if __name__ == "__main__":
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    config = QualityConfig(metrics=METRICS)
    with tempfile.TemporaryDirectory() as cache:
        reference = load_reference(config, load_dataset(DigitsConfig()), cache=Path(cache))
    scorer, ratios, memory = Scorer(reference, torch.zeros(count)), [], {}
    for start in range(0, count, CHUNK):
        pixels = np.random.default_rng(start).integers(0, 256, (min(CHUNK, count - start), 1, 8, 8), dtype=np.uint8)
        images, part = torch.from_numpy(pixels), range(start, start + len(pixels))
        calls = [(reference.extractor.features, images), (scorer.add, images, part)]
        order = 1 if start // CHUNK % 2 == 0 else -1  # who comes second finds warm caches
        bare, scored = [timed(*call) for call in calls[::order]][::order]
        ratios.append(scored / bare)
        memory[part.stop] = peak_mib()
    half = next(mib for done, mib in memory.items() if done >= count / 2)
    end = memory[count]
    seconds = timed(scorer.quantities)
    print(f"| pictures | scoring / bare extractor, median of {len(ratios)} | peak memory at half | at the end | FD |")
    print("|---|---|---|---|---|")
    print(f"| {count:,} | {median(ratios):.3f} | {half:.0f} MiB | {end:.0f} MiB | {seconds:.0f} s |")
