"""Batches that say what a score means: what real images get, and what two kinds of nonsense get.

floor           real images outside the reference: nothing can honestly score much better; the classifier may have been
                fitted on some of them, so its bar is its held-out accuracy, not the floor's class agreement
noise           uniform noise
pixel_gaussian  one Gaussian fitted to all training images' pixels, sampled, clipped and rounded
"""

from collections.abc import Callable

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
from harness.records.errors import unknown_name

Batch = tuple[Tensor, Tensor]  # uint8 images (N, C, H, W), labels (N,)
FIT_IMAGES = 10_000
FIT_VALUES = 2**27  # at most so many pixel values are fitted at once
DRAWN_VALUES = 2**28  # at most so many are drawn at once: 2 GB of float64. 50,000 pictures of 256 px would be 79


def control_images(name: str, data: ImageData, config: QualityConfig, sampling: SamplingConfig) -> Batch:
    """The batch of the control `name`, N = `samples_for(config, data)`: a function of its arguments alone.

    Of `sampling` the seed and the rule for labels are used.
    """
    if name not in CONTROLS:
        raise unknown_name("control", name, CONTROLS)
    return CONTROLS[name](data, config, sampling)


def _floor(data: ImageData, config: QualityConfig, sampling: SamplingConfig) -> Batch:
    part = data.train if config.reference == "heldout" else data.heldout
    chosen = np.random.RandomState(sampling.seed).permutation(len(part))[: samples_for(config, data)]
    return stack(part, chosen), torch.from_numpy(part.labels[chosen])


def _noise(data: ImageData, config: QualityConfig, sampling: SamplingConfig) -> Batch:
    count = samples_for(config, data)
    random = np.random.RandomState(sampling.seed)
    pixels = random.randint(0, 256, (count, data.channels, data.size, data.size), dtype=np.uint8)
    return torch.from_numpy(pixels), sample_labels(count, data.class_sizes, sampling)


def _pixel_gaussian(data: ImageData, config: QualityConfig, sampling: SamplingConfig) -> Batch:
    """x = mu + X_c^T z / sqrt(m - 1), z ~ N(0, I): covariance S = X_c^T X_c / (m - 1) without ever forming S."""
    values = data.channels * data.size**2
    fitted = fixed_choice(len(data.train), max(2, min(FIT_IMAGES, FIT_VALUES // values)))
    rows = stack(data.train, fitted).flatten(1).numpy().astype(np.float32)  # (m, C*H*W)
    mean: NDArray[np.float32] = rows.mean(0)
    count = samples_for(config, data)
    normal = np.random.RandomState(sampling.seed).standard_normal((count, len(rows))).astype(np.float32)
    around, pixels = rows - mean, np.empty((count, values), np.uint8)
    block = max(1, DRAWN_VALUES // values)
    for start in range(0, count, block):
        drawn = mean + normal[start : start + block] @ around / np.sqrt(len(rows) - 1)
        pixels[start : start + block] = np.rint(np.clip(drawn, 0, 255))
    images = pixels.reshape(count, data.channels, data.size, data.size)
    return torch.from_numpy(images), sample_labels(count, data.class_sizes, sampling)


CONTROLS: dict[str, Callable[[ImageData, QualityConfig, SamplingConfig], Batch]] = {
    "floor": _floor,
    "noise": _noise,
    "pixel_gaussian": _pixel_gaussian,
}
