"""The memory of one GPU of a training, by what takes it. An estimate, counted on shapes; P parameters, float32:

    weights, gradients       4 P each
    optimiser                8 P            AdamW's two moments
    averages                 4 P            each: the one that is evaluated, and one a span of `recipe.ema_spans`
    DDP's buckets            4 P            its own copy of the gradients
    activations              what a forward pass keeps for the backward pass (`harness.measure.kept`), of the pictures
                             that are computed together; in bfloat16 the weights a second time among it
    batch                    three of what a network sees (rows, noise, their mixture) and the prompts, thrice:
                             two batches are made ahead

`parallel=ddp` has all of these in every process; `fsdp` a share of the first four, and whole at most what is in no
block and two blocks. What kernels need while they run and what the allocator wastes is not counted: both show in
`peak_memory_bytes` of a record, which is told where the store has one of this network.
"""

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import nn

from harness.architecture.config import ArchitectureConfig, Denoiser
from harness.launch.config import processes_of
from harness.measure.kept import kept_for_backward
from harness.models.build import build
from harness.models.unet import Blocks
from harness.records.record import TrialRecord
from harness.training.device import planned_precision
from harness.training.parallel_config import DdpParallel, FsdpParallel
from harness.training.recipe import Recipe
from harness.trials.estimates import CHECKPOINTING, size_text
from harness.trials.settings import Settings

FLOAT = 4
BATCHES = 3
"""The one that is trained on, and two made ahead."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Memory:
    parts: Mapping[str, int]
    """What takes it -> bytes."""
    together: int
    """Pictures that one process computes at once."""
    measured: str = ""
    """What a training of this network took, where the store has one."""

    @property
    def total(self) -> int:
        return sum(self.parts.values())


def memory_of(
    architecture: ArchitectureConfig, latent: int, settings: Settings, records: Iterable[TrialRecord] = ()
) -> Memory:
    """Of a network that is fitted to the data, trained on latents of that height and width."""
    recipe, processes = settings.recipe, processes_of(settings.launcher)
    share = -(-recipe.batch_size // processes)
    together = min(share, recipe.micro_batch) if isinstance(recipe.micro_batch, int) else share
    with torch.device("meta"):
        network = build(architecture)
    params = sum(each.numel() for each in network.parameters())
    states = {
        "weights": FLOAT * params,
        "gradients": FLOAT * params,
        "optimiser": 2 * FLOAT * params,
        "averages": (1 + len(recipe.ema_spans)) * FLOAT * params,
    }
    if processes > 1 and isinstance(settings.parallel, FsdpParallel):
        states = {name: -(-size // processes) for name, size in states.items()}
        states["gathered"] = FLOAT * _gathered(network)
    if processes > 1 and isinstance(settings.parallel, DdpParallel):
        states["DDP's buckets"] = FLOAT * params
    return Memory(
        parts={
            **states,
            "activations": activations(architecture, latent, together, recipe),
            "batch": BATCHES * share * FLOAT * _numbers_a_picture(architecture, latent),
        },
        together=together,
        measured=_measured(architecture, latent, settings, records),
    )


def activations(architecture: ArchitectureConfig, latent: int, together: int, recipe: Recipe) -> int:
    """Bytes, by a line through one picture and two."""
    one, two = _of_one_and_two(architecture, latent, planned_precision(recipe), recipe.gradient_checkpointing)
    return one + (together - 1) * (two - one)


@functools.lru_cache(maxsize=100)
def _of_one_and_two(
    architecture: ArchitectureConfig, latent: int, precision: str, checkpointing: bool
) -> tuple[int, int]:
    dtype = getattr(torch, precision)
    one, two = (
        kept_for_backward(architecture, latent, batch, precision=dtype, checkpointing=checkpointing) for batch in (1, 2)
    )
    return one, two


def _gathered(network: nn.Module) -> int:
    """Parameters that FSDP has whole at once: what is in no block, and the two largest blocks, since the next one comes
    early."""
    blocks = [each for part in network.modules() if isinstance(part, Blocks) for each in (*part.block, *part.attention)]
    sizes = sorted(sum(each.numel() for each in block.parameters()) for block in blocks)
    return int(sum(each.numel() for each in network.parameters()) - sum(sizes) + sum(sizes[-2:]))


def _numbers_a_picture(architecture: ArchitectureConfig, latent: int) -> int:
    prompt = architecture.context_length * architecture.context_width if isinstance(architecture, Denoiser) else 0
    return 3 * architecture.latent_channels * latent**2 + prompt


def _measured(architecture: ArchitectureConfig, latent: int, settings: Settings, records: Iterable[TrialRecord]) -> str:
    """`12.3 GB at most, measured on NVIDIA H200 by trial KEY`, of a training that is cut likewise."""
    recipe, processes = settings.recipe, processes_of(settings.launcher)
    cut = (processes, settings.parallel.kind if processes > 1 else "none", recipe.gradient_checkpointing)
    for record in records:
        peak, own = record.provenance.get("peak_memory_bytes"), record.protocol.get("recipe", {})
        if not peak or (record.architecture_fingerprint, record.trained_latent) != (architecture.fingerprint, latent):
            continue
        under = getattr(record.quantities.get("train_seconds"), "conditions", {})
        its = (under.get("processes", 1), under.get("parallel", "none"), under.get(CHECKPOINTING, False))
        if its == cut and (own["batch_size"], own["precision"]) == (recipe.batch_size, planned_precision(recipe)):
            return f"{peak / 1e9:.3g} GB at most, measured on {under.get('device')} by trial {record.key}"
    return ""


def memory_lines(memory: Memory) -> list[str]:
    """For a terminal: the sum, and what takes it, the most first."""
    parts = sorted(memory.parts.items(), key=lambda part: -part[1])
    told = ", ".join(f"{name} {size_text(size)}" for name, size in parts)
    lines = [
        f"memory a process, an estimate by shapes: {size_text(memory.total)}, with {memory.together:,} pictures at once"
    ]
    lines.append(f"  of it {told}; beside it what kernels need while they run, and the allocator's waste")
    return [*lines, *([f"  {memory.measured}"] if memory.measured else [])]
