"""What scoring costs beside the bare extractor, in time and memory: pictures in the parts that sampling has, each
extracted alone and scored, in turns. Scored as a network's samples are: extracted, written to disk, read and summed.

`python tests/measure/scoring_cost.py [N]` prints the table of docs/evidence/scores.md; 10,000 pictures by default.
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
from harness.measure.quality_features import Features, extract
from harness.measure.quality_reference import load_reference
from harness.trials.scores.parts import Parts, part_ranges

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
    folder = tempfile.TemporaryDirectory(dir=".")  # of a disk, which /tmp need not be
    reference = load_reference(config, load_dataset(DigitsConfig()), cache=Path(folder.name))
    parts = Parts(Path(folder.name) / "parts", Path(folder.name) / "parts.log", {}, part_ranges(count, 64))
    parts.begin()
    scorer, ratios, memory = Scorer(reference, torch.zeros(count)), [], {}

    def score(images: torch.Tensor, part: range) -> None:
        parts.make(part, lambda _: extract(images, reference).arrays(), lambda: False)
        for at, arrays in parts.read(part):
            scorer.put(Features.of_arrays(arrays, reference), at)

    for number, part in enumerate(parts.ranges):
        pixels = np.random.default_rng(part.start).integers(0, 256, (len(part), 1, 8, 8), dtype=np.uint8)
        images = torch.from_numpy(pixels)
        calls = [(reference.extractor.features, images), (score, images, part)]
        order = 1 if number % 2 == 0 else -1  # who comes second finds warm caches
        bare, scored = [timed(*call) for call in calls[::order]][::order]
        ratios.append(scored / bare)
        memory[part.stop] = peak_mib()
    half = next(mib for done, mib in memory.items() if done >= count / 2)
    end = memory[count]
    seconds = timed(scorer.quantities)
    print(f"| pictures | scoring / bare extractor, median of {len(ratios)} | peak memory at half | at the end | FD |")
    print("|---|---|---|---|---|")
    print(f"| {count:,} | {median(ratios):.3f} | {half:.0f} MiB | {end:.0f} MiB | {seconds:.0f} s |")
