"""All images of a score in one tensor, as tests compare them; scores take them a part at a time."""

import torch
from torch import Tensor, nn

from harness.data.images import ImageData
from harness.diffusion.config import SamplingConfig
from harness.measure.quality_config import QualityConfig
from harness.measure.quality_controls import control_parts
from harness.trials.prepared import Prepared


def sample_images(network: nn.Module, prepared: Prepared, count: int) -> tuple[Tensor, Tensor]:
    """uint8 images (count, C, H, W) and the labels (count,) they were asked to show."""
    labels = prepared.task.labels(count)
    return torch.cat([images for _, images in prepared.task.batches(network, labels)]), labels


def control_images(
    name: str, data: ImageData, config: QualityConfig, sampling: SamplingConfig
) -> tuple[Tensor, Tensor]:
    """uint8 images (N, C, H, W), labels (N,)."""
    labels, parts = control_parts(name, data, config, sampling)
    return torch.cat([images for _, images in parts]), labels
