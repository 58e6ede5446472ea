"""What a trained network is asked while it samples: the latents, times and prompts that a phone will show it."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from harness.diffusion.sampling import sample_batches
from harness.models.weights import read_weights
from harness.records.errors import UserError
from harness.trials.sampling_run import denoised_channels, prompts_of
from harness.trials.settings import Settings
from harness.trials.spec import cache_folder
from harness.trials.trained import TrainedNetwork

IMAGES = 8
"""That are sampled: of so many classes or prompts."""


def sampled_inputs(
    trained: TrainedNetwork, network: nn.Module, settings: Settings, count: int
) -> list[tuple[Tensor, ...]]:
    """`count` of the network's inputs on its way from noise to pictures, drawn over images and steps: x (1, C, h, w),
    time (1,), context (1, T, D), and mask (1, T) where padding is hidden from it. The same every time.

    UserError for a network that samples nothing, and without the text encoder that it was trained with.
    """
    weights = read_weights(trained.weights)
    training, channels = weights.training, denoised_channels(weights)
    if training is None:
        raise UserError(f"{trained.weights} does not say what its network was trained on")
    prompts = prompts_of(trained.weights, training, settings.text, cache_folder(settings.out))
    sampling = replace(settings.sampling, micro_batch=IMAGES)
    calls: list[tuple[Tensor | None, ...]] = []
    shape, labels = (channels, training.latent, training.latent), torch.arange(IMAGES) % len(prompts)
    with network.register_forward_pre_hook(lambda _module, arguments: calls.append(arguments)):
        for _ in sample_batches(network.cpu(), prompts, labels, sampling, shape=shape):
            pass
    rows = [
        tuple(each[row : row + 1].clone() for each in call if each is not None)
        for call in calls
        for row in range(len(call[0]))  # type: ignore[arg-type]  # x is there
    ]
    chosen = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))[:count]
    return [rows[number] for number in sorted(chosen.tolist())]
