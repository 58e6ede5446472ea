"""Sampling: images as functions of (model, seed, index), whoever computes them.

The noise of sample i depends on (seed, i) alone, its label on the rule in `harness.diffusion.labels`, and work is cut
into micro-batches of a fixed size at multiples of that size. So an image's arithmetic is the same for any number of
workers, and its uint8 values are bit-equal. Another micro-batch size makes other matrix shapes, hence other roundings:
at most one grey level.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from harness.diffusion.config import SamplingConfig
from harness.diffusion.flow_matching import Prompts, to_uint8
from harness.diffusion.solvers import SOLVERS, Velocity, solve
from harness.diffusion.times import solver_times
from harness.records.errors import UserError

Progress = Callable[[int, int], None]
"""Called with (samples done, samples in all)."""


def sample_noise(seed: int, indices: range, shape: tuple[int, ...]) -> Tensor:
    """(len(indices), *shape) standard normal noise; row i is a function of (seed, i).

    Philox (Salmon et al. 2011) is keyed by (seed, i): a counter-based generator, whose streams are independent.
    """
    if seed < 0:
        raise UserError(f"seed must be a whole number from 0, not {seed}")
    noise = np.empty((len(indices), *shape), dtype=np.float32)
    for row, index in enumerate(indices):
        key = np.array([seed, index], dtype=np.uint64)
        np.random.Generator(np.random.Philox(key=key)).standard_normal(out=noise[row], dtype=np.float32)
    return torch.from_numpy(noise)


def sample(
    model: nn.Module,
    prompts: Prompts,
    labels: Tensor,
    config: SamplingConfig,
    *,
    shape: tuple[int, int, int],
    indices: range | None = None,
    on_progress: Progress | None = None,
) -> Tensor:
    """Images of the samples `indices` (all of `labels` by default): uint8 (len(indices), C, H, W), on the CPU.

    `labels` (N,) has the class of every sample of the whole run; `shape` is (C, H, W). Micro-batches that the range
    cuts, or that go past N, are computed whole. The model runs where its parameters are, in evaluation mode.
    """
    chosen = _checked(indices, len(labels))
    first, device = chosen.start // config.micro_batch, next(model.parameters()).device
    past_last = -(-chosen.stop // config.micro_batch)
    images = torch.empty((len(chosen), *shape), dtype=torch.uint8)
    was_training = model.training
    model.eval()
    try:
        for number in range(first, past_last):
            batch = range(number * config.micro_batch, (number + 1) * config.micro_batch)
            batch_images = _micro_batch(model, prompts, labels, config, shape, batch, device)
            start, stop = max(batch.start, chosen.start), min(batch.stop, chosen.stop)
            images[start - chosen.start : stop - chosen.start] = batch_images[start - batch.start : stop - batch.start]
            if on_progress is not None:
                on_progress(stop - chosen.start, len(chosen))
    finally:
        model.train(was_training)
    return images


def _checked(indices: range | None, count: int) -> range:
    chosen = range(count) if indices is None else indices
    if chosen.step != 1 or chosen.start < 0 or chosen.stop > count:
        raise UserError(f"sample indices must be a range within 0..{count} in steps of 1, not {chosen}")
    return chosen


@torch.inference_mode()
def _micro_batch(
    model: nn.Module,
    prompts: Prompts,
    labels: Tensor,
    config: SamplingConfig,
    shape: tuple[int, int, int],
    batch: range,
    device: torch.device,
) -> Tensor:
    """uint8 (micro_batch, C, H, W). Rows past the last sample are padding: they only keep the shapes the same."""
    padded = labels[torch.arange(batch.start, batch.stop) % len(labels)]
    v = guided_velocity(model, prompts.to(device), padded, config.guidance_scale, device)
    noise = sample_noise(config.seed, batch, shape).to(device)
    return to_uint8(solve(SOLVERS[config.solver], v, noise, solver_times(config))).cpu()


def guided_velocity(model: nn.Module, prompts: Prompts, labels: Tensor, scale: float, device: torch.device) -> Velocity:
    """v_empty + scale (v_prompt - v_empty), both in one batch; at scale 1 or 0 one of the two alone.

    The prompts and the model are on `device`.
    Ho and Salimans 2022 (arXiv 2207.12598), eq. 6 with scale = 1 + w, applied to the velocity.
    """
    count, labels = len(labels), labels.to(device)
    if scale in (0, 1):
        context, mask = prompts.context(labels, torch.full((count,), scale == 0, device=device))
        return lambda x, t: model(x, torch.full((count,), t, device=device), context, mask)
    drop = torch.arange(2 * count, device=device) >= count
    both, both_mask = prompts.context(labels.repeat(2), drop)

    def guided(x: Tensor, t: float) -> Tensor:
        time = torch.full((2 * count,), t, device=device)
        prompted, empty = model(x.repeat(2, 1, 1, 1), time, both, both_mask).chunk(2)
        return torch.lerp(empty, prompted, scale)

    return guided
