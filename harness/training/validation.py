"""The validation loss: held-out images, fixed times, fixed noise, so that two numbers differ by the model only."""

import torch
from torch import nn

from harness.diffusion.flow_matching import Prompts, flow_matching_loss
from harness.training.batches import Batch, TrainingData, batch_of, stacked
from harness.training.randomness import generator

FIXED_SEED = 0
"""The same for every trial, whatever its own seed."""


def validation_batches(
    data: TrainingData, prompts: Prompts, count: int, batch_size: int, device: torch.device
) -> list[Batch]:
    """`count` held-out images spread evenly over the data, with their times and noise.

    The times are the logit-normal's quantiles (i + 1/2) / n, shuffled: its stratified sample.
    """
    images = data.heldout
    count = min(count, len(images))
    random = generator(FIXED_SEED, "validation", 0)
    quantiles = (torch.randperm(count, generator=random) + 0.5) / max(1, count)
    times = torch.sigmoid(torch.special.ndtri(quantiles))
    batches = []
    for start in range(0, count, batch_size):
        numbers = [number * len(images) // count for number in range(start, min(start + batch_size, count))]
        rows, labels = stacked(images, numbers)
        x0 = data.network_inputs(rows.to(device), generator(FIXED_SEED, "validation-encoding", start))
        noise = torch.randn(x0.shape, generator=random)
        keep = torch.zeros(len(numbers), dtype=torch.bool)
        batches.append(batch_of(x0, labels, noise, times[start : start + len(numbers)], keep, prompts, device))
    return batches


@torch.no_grad()
def validation_loss(model: nn.Module, batches: list[Batch]) -> float:
    """The flow matching loss of `model` (in evaluation mode) over the batches, in float32."""
    total = sum(float(flow_matching_loss(model, *batch.arguments())) * len(batch.x0) for batch in batches)
    return total / sum(len(batch.x0) for batch in batches)
