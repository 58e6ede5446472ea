"""Sampling: images as functions of (model, seed, index), whoever computes them.

The noise of sample i depends on (seed, i) alone, its label on the rule in `harness.diffusion.labels`, and work is cut
into micro-batches of a fixed size at multiples of that size. So an image's arithmetic is the same for any number of
workers, and its uint8 values are bit-equal. Another micro-batch size makes other matrix shapes, hence other roundings:
at most one grey level.
"""

from collections.abc import Callable, Iterator
from functools import cache, partial

import numpy as np
import torch
from torch import Tensor, nn

from harness.architecture.prediction import Prediction
from harness.diffusion.config import SamplingConfig
from harness.diffusion.flow_matching import Prompts
from harness.diffusion.prediction import path_of, prediction_of, straight_times, velocity_of
from harness.diffusion.solvers import SOLVERS, Velocity, solve
from harness.models.pixels import to_uint8
from harness.records.errors import UserError

Progress = Callable[[int, int], None]
"""Called with (samples done, samples in all)."""

Decode = Callable[[Tensor], Tensor]
"""What the network denoises, (B, C, H, W) float on its device -> pictures, uint8 (B, C', H', W')."""


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
    decode: Decode | None = None,
    on_progress: Progress | None = None,
) -> Tensor:
    """As `sample_batches`, in one tensor: uint8 (len(indices), C, H, W) on the CPU."""
    chosen = _checked(indices, len(labels))
    images = torch.empty((0, *shape), dtype=torch.uint8)
    for part, batch_images in sample_batches(
        model, prompts, labels, config, shape=shape, indices=chosen, decode=decode
    ):
        if len(images) == 0:
            images = torch.empty((len(chosen), *batch_images.shape[1:]), dtype=torch.uint8)
        images[part.start - chosen.start : part.stop - chosen.start] = batch_images
        if on_progress is not None:
            on_progress(part.stop - chosen.start, len(chosen))
    return images


def sample_batches(
    model: nn.Module,
    prompts: Prompts,
    labels: Tensor,
    config: SamplingConfig,
    *,
    shape: tuple[int, int, int],
    indices: range | None = None,
    decode: Decode | None = None,
) -> Iterator[tuple[range, Tensor]]:
    """The samples `indices` (all of `labels` by default), a micro-batch at a time: which they are, in order and without
    gaps, and their pictures, uint8 (len(range), C, H, W) on the CPU. Memory is constant in their number.

    `labels` (N,) has the class of every sample of the whole run; `shape` is (C, H, W) of what the network denoises, and
    `decode` makes pictures of it: by default it is pictures, rounded by `config.rounding`. Micro-batches that the range
    cuts, or that go past N, are computed whole: ranges that meet at multiples of `config.micro_batch` waste nothing.
    The model runs where its parameters are, in evaluation mode, in which it stays until the iterator ends or is closed.

    Raises UserError for indices out of range and guided channels that the network does not have.
    """
    chosen = _checked(indices, len(labels))
    config.check_channels(shape[0])
    device, was_training = next(model.parameters()).device, model.training
    prompts, decode = prompts.to(device), decode or partial(to_uint8, rounding=config.rounding)
    model.eval()
    try:
        for batch in micro_batches(chosen, config):
            v = _velocity(model, prompts, labels[torch.arange(batch.start, batch.stop) % len(labels)], config, device)
            images = _pictures(v, prediction_of(model), batch, config, shape, decode, device)
            part = range(max(batch.start, chosen.start), min(batch.stop, chosen.stop))
            yield part, images[part.start - batch.start : part.stop - batch.start]
    finally:
        model.train(was_training)


def micro_batches(indices: range, config: SamplingConfig) -> Iterator[range]:
    """The whole micro-batches that have a sample of `indices`; the first may begin before, the last end after them."""
    first, past_last = indices.start // config.micro_batch, -(-indices.stop // config.micro_batch)
    return (range(number * config.micro_batch, (number + 1) * config.micro_batch) for number in range(first, past_last))


def _checked(indices: range | None, count: int) -> range:
    chosen = range(count) if indices is None else indices
    if chosen.step != 1 or chosen.start < 0 or chosen.stop > count:
        raise UserError(f"sample indices must be a range within 0..{count} in steps of 1, not {chosen}")
    return chosen


@torch.inference_mode()
def _pictures(
    v: Velocity,
    prediction: Prediction,
    batch: range,
    config: SamplingConfig,
    shape: tuple[int, int, int],
    decode: Decode,
    device: torch.device,
) -> Tensor:
    """uint8 (micro_batch, C, H, W). Rows past the last sample are padding: they only keep the shapes the same."""
    noise = path_of(prediction).start * sample_noise(config.seed, batch, shape).to(device)
    return decode(solve(SOLVERS[config.solver], v, noise, straight_times(prediction, config.solver_times))).cpu()


def _velocity(
    model: nn.Module, prompts: Prompts, labels: Tensor, config: SamplingConfig, device: torch.device
) -> Velocity:
    """The guided velocity, by the scale that guidance has at each of the network's own times."""
    own = path_of(prediction_of(model)).own

    @cache
    def of_scale(scale: float) -> Velocity:
        return guided_velocity(model, prompts, labels, scale, device, channels=config.legacy_guided_channels)

    return lambda x, t: of_scale(config.scale_at(own(t)))(x, t)


def guided_velocity(
    model: nn.Module,
    prompts: Prompts,
    labels: Tensor,
    scale: float,
    device: torch.device,
    *,
    channels: int | None = None,
) -> Velocity:
    """v_empty + scale (v_prompt - v_empty), both in one batch; at scale 1 or 0 one of the two alone.

    The prompts and the model are on `device`. With `channels` the channels after the first so many are v_prompt's.
    Ho and Salimans 2022 (arXiv 2207.12598), eq. 6 with scale = 1 + w, applied to the velocity.
    """
    count, labels, velocity = len(labels), labels.to(device), velocity_of(model, prediction_of(model))
    if scale in (0, 1):
        context, mask = prompts.context(labels, torch.full((count,), scale == 0, device=device))
        return lambda x, t: velocity(x, t, context, mask)
    drop = torch.arange(2 * count, device=device) >= count
    both, both_mask = prompts.context(labels.repeat(2), drop)

    def guided(x: Tensor, t: float) -> Tensor:
        prompted, empty = velocity(x.repeat(2, 1, 1, 1), t, both, both_mask).chunk(2)
        v = torch.lerp(empty, prompted, scale)
        return v if channels is None else torch.cat([v[:, :channels], prompted[:, channels:]], dim=1)

    return guided
