"""How a training is computed, which changes neither its result nor its key, but its time and memory: conditions of the
one and of what is recorded of the other. And in what precision, where an estimate is made on another machine."""

from typing import Any, Literal

import torch

from harness.launch.config import SlurmLauncher
from harness.records.quantity import Quantity
from harness.training.device import planned_precision
from harness.training.objective_config import ObjectiveConfig
from harness.training.recipe import Recipe
from harness.training.speed import FORWARD, RECOMPUTED, WITH_BACKWARD
from harness.training.teacher import TeacherDescription
from harness.trials.heads import heads_of
from harness.trials.judges import Judges
from harness.trials.settings import Settings

CHECKPOINTING = "gradient_checkpointing"
TOLD_ELSEWHERE = ("device", "precision", "steps", "watch")
"""Conditions of `train_seconds` that are not of how it was cut: those of a watch are, where memory is compared."""


TEACHER_MACS = "teacher_macs"
"""Multiply-adds of a teacher for one sample of a step, beside the network's own."""
HEADS_MACS = "discriminator_macs"
"""The same of a discriminator's heads, forward and back."""
JUDGES_MACS = "judges_macs"
"""The same of what encodes and judges a picture that is made again."""
STUDENT_PASSES = "student_passes"
"""Forward passes of the network over a sample of a step, beside one forward and back (which takes three of them, or
four where blocks are computed twice)."""


def computed_by(
    settings: Settings, processes: int, teacher: TeacherDescription | None = None, judges: Judges | None = None
) -> dict[str, Any]:
    """What is not the default."""
    recipe = settings.recipe
    under: dict[str, Any] = dict(recipe.rounded_otherwise)
    if recipe.gradient_checkpointing:
        under[CHECKPOINTING] = True
    if recipe.micro_batch is not None:
        under["micro_batch"] = recipe.micro_batch
    if processes > 1:
        under |= {"processes": processes, "parallel": settings.parallel.kind}
    if teacher is not None:
        under[TEACHER_MACS] = settings.objective.passes.of_teacher * teacher.macs
    if (heads := heads_of(settings.objective, teacher)) is not None:
        under[HEADS_MACS] = heads.step_macs(settings.objective)
    if judges is not None and judges.step_macs:
        under[JUDGES_MACS] = judges.step_macs
    if beside := passes_beside(settings.objective, recipe):
        under[STUDENT_PASSES] = beside
    return under


def passes_beside(objective: ObjectiveConfig, recipe: Recipe) -> int:
    """`STUDENT_PASSES`"""
    return objective.passes.beside((RECOMPUTED if recipe.gradient_checkpointing else WITH_BACKWARD) // FORWARD)


def was_computed_by(train_seconds: Quantity | None) -> dict[str, Any]:
    """The same of a record's training."""
    under = getattr(train_seconds, "conditions", {})
    return {name: value for name, value in under.items() if name not in TOLD_ELSEWHERE}


def precision_there(settings: Settings) -> tuple[Literal["float32", "bfloat16"], str]:
    """`float32` or `bfloat16` of the forward passes where the training would run; and a sentence where that is assumed,
    since `auto` is decided where a study begins, and this machine is not like those that would train."""
    recipe, launcher = settings.recipe, settings.launcher
    on_gpus = recipe.device == "cuda" or (
        recipe.device == "auto" and isinstance(launcher, SlurmLauncher) and launcher.gpus > 0
    )
    if recipe.precision == "auto" and on_gpus and not torch.cuda.is_available():
        return "bfloat16", (
            "recipe.precision=auto is taken for bfloat16, an assumption: it is decided where a study begins, and there "
            "is no CUDA here; recipe.precision=bfloat16 has it begin from here"
        )
    return "bfloat16" if planned_precision(recipe) == "bfloat16" else "float32", ""
