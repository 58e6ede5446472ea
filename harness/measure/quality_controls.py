"""Batches that say what a score means: what real images get, and what two kinds of nonsense get.

floor           real images outside the reference: nothing can honestly score much better; the classifier may have been
                fitted on some of them, so its bar is its held-out accuracy, not the floor's class agreement
noise           uniform noise
pixel_gaussian  one Gaussian fitted to all training images' pixels, sampled, clipped and rounded

They come in parts of `images_at_once`, so that 50,000 pictures of 256 px, 9.8 GB, are never there together. Up to
DRAWN_VALUES in all are one part.
"""

import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.data.images import ImageData, stack
from harness.diffusion.config import SamplingConfig
from harness.diffusion.labels import sample_labels
from harness.measure.quality import samples_for
from harness.measure.quality_config import QualityConfig
from harness.measure.quality_reference import fixed_choice
from harness.models.feature_extractor import BATCH
from harness.records.errors import unknown_name

Part = tuple[range, Tensor]
"""Numbers of images, and these: uint8 (n, C, H, W)."""
Control = tuple[Tensor, Iterator[Part]]
"""Labels (N,) of all, and all images a part at a time, in order."""
FIT_IMAGES = 10_000
FIT_VALUES = 2**27  # at most so many pixel values are fitted at once
DRAWN_VALUES = 2**28  # at most so many are there at once: 268 MB, and 1 GB of float32 while they are drawn


def control_parts(name: str, data: ImageData, config: QualityConfig, sampling: SamplingConfig) -> Control:
    """The images of the control `name`, N = `samples_for(config, data)`: a function of its arguments alone.

    Of `sampling` the seed and the rule for labels are used.
    """
    if name not in CONTROLS:
        raise unknown_name("control", name, CONTROLS)
    return CONTROLS[name](data, config, sampling)


def images_at_once(data: ImageData, batch: int = 1) -> int:
    """How many pictures DRAWN_VALUES holds, a multiple of `batch` and of the extractor's batch: scores of such parts
    are to the bit those of all at once, while features are kept."""
    unit = math.lcm(BATCH, batch)
    return max(unit, DRAWN_VALUES // (data.channels * data.size**2) // unit * unit)


def _cut(data: ImageData, count: int) -> list[range]:
    size = images_at_once(data)
    return [range(start, min(start + size, count)) for start in range(0, count, size)]


def _floor(data: ImageData, config: QualityConfig, sampling: SamplingConfig) -> Control:
    part = data.train if config.reference == "heldout" else data.heldout
    chosen = np.random.RandomState(sampling.seed).permutation(len(part))[: samples_for(config, data)]
    labels = torch.from_numpy(part.labels[chosen])
    return labels, ((each, stack(part, chosen[each.start : each.stop])) for each in _cut(data, len(chosen)))


def _noise(data: ImageData, config: QualityConfig, sampling: SamplingConfig) -> Control:
    count, random = samples_for(config, data), np.random.RandomState(sampling.seed)

    def drawn() -> Iterator[Part]:
        for each in _cut(data, count):  # of multiples of four pixels: NumPy draws four from a number
            shape = (len(each), data.channels, data.size, data.size)
            yield each, torch.from_numpy(random.randint(0, 256, shape, dtype=np.uint8))

    return sample_labels(count, data.class_sizes, sampling, heldout=data.heldout_sizes), drawn()


def _pixel_gaussian(data: ImageData, config: QualityConfig, sampling: SamplingConfig) -> Control:
    """x = mu + X_c^T z / sqrt(m - 1), z ~ N(0, I): covariance S = X_c^T X_c / (m - 1) without ever forming S."""
    values, count = data.channels * data.size**2, samples_for(config, data)

    def drawn() -> Iterator[Part]:
        fitted = fixed_choice(len(data.train), max(2, min(FIT_IMAGES, FIT_VALUES // values)))
        rows = stack(data.train, fitted).flatten(1).numpy().astype(np.float32)  # (m, C*H*W)
        mean: NDArray[np.float32] = rows.mean(0)
        normal = np.random.RandomState(sampling.seed).standard_normal((count, len(rows))).astype(np.float32)
        around = rows - mean
        for each in _cut(data, count):
            pixels = mean + normal[each.start : each.stop] @ around / np.sqrt(len(rows) - 1)
            rounded = np.rint(np.clip(pixels, 0, 255)).astype(np.uint8)
            yield each, torch.from_numpy(rounded.reshape(-1, data.channels, data.size, data.size))

    return sample_labels(count, data.class_sizes, sampling, heldout=data.heldout_sizes), drawn()


CONTROLS: dict[str, Callable[[ImageData, QualityConfig, SamplingConfig], Control]] = {
    "floor": _floor,
    "noise": _noise,
    "pixel_gaussian": _pixel_gaussian,
}
