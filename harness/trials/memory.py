"""The memory of one GPU of a training, by what takes it. An estimate, counted on shapes; P parameters, float32:

    weights, gradients       4 P each
    optimiser                8 P            AdamW's two moments
    averages                 4 P            each: the one that is evaluated, and one a span of `recipe.ema_spans`
    DDP's buckets            4 P            its own copy of the gradients
    activations              what a forward pass keeps for the backward pass (`harness.measure.kept`), of the pictures
                             that are computed together, each as often as the objective trains on it
                             (`ObjectiveConfig.passes`); in bfloat16 the weights a second time among it
    through the teacher      what its pass keeps for a gradient to its input, where the objective has one go through it
    teacher                  2 or 4 bytes a parameter of its own, by its precision; whole in every process, or a share
                             with objective.teacher.sharded
    teacher's prompts        2 or 4 bytes a number, whole in every process, unless they are so many that they stay on
                             the disk
    encoder, judges          4 bytes a parameter of a frozen encoder and of VGG16, where pictures are made again, and
                             what a pass through the judges keeps for a gradient to the picture (`trials/judges.py`)
    discriminator            16 bytes a parameter; what its own loss keeps, where that is more than the network's
    batch                    three of what a network sees (rows, noise, their mixture) and the prompts, thrice:
                             two batches are made ahead

`parallel=ddp` has all of these in every process; `fsdp` a share of the first four, and whole at most what is in no
block and two blocks; at each look and at the end it gathers one average, whole, in every process, which has a line of
its own. Not counted (`NOT_COUNTED`): what kernels need while they run, and what a teacher's pass does; a projection of
features; a teacher's prompts, where the data that says how many is not here; what the allocator wastes, the device's
context, and, at looks and at the end, the autoencoder and the extractor. All but the context show in
`peak_memory_bytes` of a record, which is told where the store has one of this network, computed in the same way. The
sum has been held against arithmetic and against what PyTorch keeps on the CPU; not against a GPU's peak.
"""

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import nn

from harness.architecture.config import ArchitectureConfig, Denoiser
from harness.launch.config import processes_of
from harness.measure.kept import kept_for_backward, kept_through
from harness.models.build import build
from harness.models.unet import Blocks
from harness.records.record import TrialRecord
from harness.training.objective_config import teacher_of
from harness.training.parallel_config import DdpParallel, FsdpParallel
from harness.training.teacher import TeacherDescription
from harness.trials.computed import computed_by, precision_there, was_computed_by
from harness.trials.estimates import size_text
from harness.trials.heads import heads_of
from harness.trials.judges import Judges, judges_of
from harness.trials.settings import Settings

FLOAT, HALF = 4, 2
NOT_COUNTED = (
    "not counted: what kernels need while they run, the allocator's waste, the device's context, a teacher's prompts "
    "where the data is not here, and at looks and at the end the autoencoder and the scores' extractor; not held "
    "against a GPU's peak"
)
THROUGH = "through the teacher"
BATCHES = 3
"""The one that is trained on, and two made ahead."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Memory:
    parts: Mapping[str, int]
    """What takes it -> bytes."""
    together: int
    """Pictures that one process computes at once."""
    at_looks: int = 0
    """Bytes beside it at each look and at the end."""
    assumed: str = ""
    """A sentence on a precision that is not known here."""
    measured: str = ""
    """What a training of this network took, where the store has one."""

    @property
    def total(self) -> int:
        return sum(self.parts.values())


def memory_of(
    architecture: ArchitectureConfig,
    latent: int,
    settings: Settings,
    records: Iterable[TrialRecord] = (),
    teacher: TeacherDescription | None = None,
) -> Memory:
    """Of a network that is fitted to the data, trained on latents of that height and width."""
    recipe, processes = settings.recipe, processes_of(settings.launcher)
    precision, assumed = precision_there(settings)
    passes = settings.objective.passes
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
    is_shared = processes > 1 and isinstance(settings.parallel, FsdpParallel)
    if is_shared:
        states = {name: -(-size // processes) for name, size in states.items()}
        states["gathered"] = FLOAT * _gathered(network)
    if processes > 1 and isinstance(settings.parallel, DdpParallel):
        states["DDP's buckets"] = FLOAT * params
    kept = activations(architecture, latent, passes.trained * together, precision, recipe.gradient_checkpointing)
    of_teacher = _of_teacher(teacher, settings, precision, processes, together)
    return Memory(
        parts={
            **states,
            **of_teacher,
            **_of_heads(teacher, settings, precision, together, kept + of_teacher.get(THROUGH, 0)),
            **_of_judges(judges_of(architecture, latent, settings), precision, together, kept),
            "activations": kept,
            "batch": BATCHES * share * FLOAT * _numbers_a_picture(architecture, latent),
        },
        together=together,
        at_looks=FLOAT * params * is_shared,
        assumed=assumed,
        measured=_measured(architecture, latent, settings, records, teacher),
    )


def activations(
    architecture: ArchitectureConfig, latent: int, together: int, precision: str, checkpointing: bool
) -> int:
    """Bytes, by a line through one picture and two."""
    one, two = _of_one_and_two(architecture, latent, precision, checkpointing)
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
    return 3 * architecture.input_channels * latent**2 + prompt


def _of_teacher(
    teacher: TeacherDescription | None, settings: Settings, precision: str, processes: int, together: int
) -> dict[str, int]:
    if teacher is None:
        return {}
    size = (HALF if teacher.precision(precision) == "bfloat16" else FLOAT) * teacher.params
    is_shared = bool(getattr(teacher_of(settings.objective), "sharded", False))
    prompts = teacher.prompts_bytes(precision)
    return {
        "teacher": -(-size // processes) if is_shared else size,
        **({"teacher's prompts": prompts} if prompts else {}),
        **_through(teacher, settings, precision, together),
    }


def _through(teacher: TeacherDescription, settings: Settings, precision: str, together: int) -> dict[str, int]:
    """Where a gradient goes through it."""
    if not (times := settings.objective.passes.through_teacher):
        return {}
    kept = kept_through(*teacher.example(), precision=getattr(torch, teacher.precision(precision)))
    return {THROUGH: times * together * kept}


def _of_heads(
    teacher: TeacherDescription | None, settings: Settings, precision: str, together: int, beside: int
) -> dict[str, int]:
    """`beside`: bytes that the networks keep in the network's loss."""
    if (heads := heads_of(settings.objective, teacher)) is None:
        return {}
    passes = settings.objective.passes
    in_network_s = heads.kept(passes.through_heads * together, precision, trained=False)
    in_their_own = heads.kept(passes.heads * together, precision, trained=True)
    return {"discriminator's heads": 4 * FLOAT * heads.params + max(in_network_s, in_their_own - beside)}


def _of_judges(judges: Judges | None, precision: str, together: int, beside: int) -> dict[str, int]:
    """`beside`: bytes that the network keeps in its loss."""
    if judges is None:
        return {}
    in_network_s = judges.kept_in_network_s(together, precision)
    parts = {"encoder and judges": FLOAT * judges.frozen_params + in_network_s}
    if judges.discriminator is not None:
        in_its_own = judges.kept_in_their_own(together, precision)
        parts["discriminator"] = 4 * FLOAT * judges.trained_params + max(0, in_its_own - in_network_s - beside)
    return {name: size for name, size in parts.items() if size}


def _measured(
    architecture: ArchitectureConfig,
    latent: int,
    settings: Settings,
    records: Iterable[TrialRecord],
    teacher: TeacherDescription | None,
) -> str:
    """`12.3 GB at most, measured on NVIDIA H200 by trial KEY`, of a training that was computed in the same way."""
    recipe, (precision, _) = settings.recipe, precision_there(settings)
    watch, judges = settings.watch, judges_of(architecture, latent, settings)
    cut = computed_by(settings, processes_of(settings.launcher), teacher, judges)
    wanted = (cut, watch.grid_every is not None, watch.score_every is not None)
    for record in records:
        peak, own = record.provenance.get("peak_memory_bytes"), record.protocol.get("recipe", {})
        if not peak or (record.architecture_fingerprint, record.trained_latent) != (architecture.fingerprint, latent):
            continue
        seconds = record.quantities.get("train_seconds")
        under = getattr(seconds, "conditions", {})
        seen = under.get("watch", {})
        alike = (was_computed_by(seconds), seen.get("grids", 0) > 0, seen.get("scores", 0) > 0) == wanted
        if alike and (own["batch_size"], own["precision"]) == (recipe.batch_size, precision):
            return f"{peak / 1e9:.3g} GB at most, measured on {under.get('device')} by trial {record.key}"
    return ""


def memory_lines(memory: Memory) -> list[str]:
    """For a terminal: the sum, and what takes it, the most first."""
    parts = sorted(memory.parts.items(), key=lambda part: -part[1])
    named_sizes = ", ".join(f"{name} {size_text(size)}" for name, size in parts)
    lines = [
        f"memory a process, an estimate by shapes: {size_text(memory.total)}, with {memory.together:,} pictures at once"
    ]
    lines.append(f"  of it {named_sizes}; {NOT_COUNTED}")
    if memory.at_looks:
        lines.append(f"  at each look and at the end {size_text(memory.at_looks)} more, the whole average")
    lines += [f"  {memory.assumed}"] if memory.assumed else []
    return [*lines, *([f"  {memory.measured}"] if memory.measured else [])]
