"""The teacher that a study's objective names, as its settings and its data describe the student."""

from collections.abc import Mapping, Sequence
from typing import Any

from harness.architecture.kinds import builder_of
from harness.training.objective_config import teacher_of
from harness.training.teacher import Student, TeacherDescription
from harness.trials.settings import Settings
from harness.trials.spec import cache_folder
from harness.trials.trained import weights_of


def described_teacher(
    settings: Settings,
    shape: tuple[int, int, int],
    autoencoder: Mapping[str, Any] | None,
    class_names: Sequence[str] | None,
) -> TeacherDescription | None:
    """By the heads of its files; None where the objective has none. The rest is as `Student` has it. UserError for one
    that cannot teach that student."""
    if (config := teacher_of(settings.objective)) is None:
        return None
    student = Student(
        shape=shape,
        autoencoder=autoencoder,
        class_names=class_names,
        text=settings.text,
        recipe=settings.recipe,
        cache=cache_folder(settings.out),
        weights_of=lambda name: weights_of(name, settings.out),
    )
    described: TeacherDescription = builder_of(config)(config, student)
    return described
