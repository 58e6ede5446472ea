"""The network that a student learns from: the settings. No torch."""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from harness.architecture.kinds import kind_of
from harness.data.config import TextConfig
from harness.records.errors import UserError, unknown_name
from harness.records.plain import NOT_IDENTITY

PRECISIONS = ("recipe", "bfloat16", "float32")


class TeacherConfig:
    """A frozen network that a student learns from. Builder: (config, `harness.training.teacher.Student`) ->
    `harness.training.teacher.TeacherDescription`. Paths and names are no part of its identity; what lies there is."""

    __slots__ = ()
    forms: ClassVar[dict[str, type]] = {}


@kind_of(TeacherConfig, built_by="harness.training.teachers.trained:describe")
@dataclass(frozen=True, kw_only=True, slots=True)
class TrainedTeacher(TeacherConfig):
    """A network that was trained here."""

    kind: Literal["trained"] = "trained"
    name: str = field(metadata=NOT_IDENTITY)
    """Its trial's key, the YAML that it was promoted to, its file of weights, or its published folder."""
    text: TextConfig | None = field(default=None, metadata=NOT_IDENTITY)
    """The text encoder that it was trained with; null: the study's own, or what its published folder names."""
    guidance_scale: float = 1.0
    """Classifier-free guidance of what the student learns from; 1 is none, and costs half."""
    precision: Literal["recipe", "bfloat16", "float32"] = "recipe"
    """Of its forward pass, and of its weights in memory; `recipe`: as the student's."""
    sharded: bool = field(default=False, metadata=NOT_IDENTITY)
    """Of several processes that share a training, each has a share of its weights, not all."""

    def __post_init__(self) -> None:
        check_teacher(self.guidance_scale, self.precision)


def check_teacher(guidance_scale: float, precision: str) -> None:
    """Of the settings that every kind has."""
    if not 1 <= guidance_scale < float("inf"):
        raise UserError(
            "objective.teacher.guidance_scale must be a number from 1, which is no guidance, not "
            f"{guidance_scale}; papers that write w for the 1 + w here mean 1 more"
        )
    if precision not in PRECISIONS:
        raise unknown_name("objective.teacher.precision", precision, PRECISIONS)
