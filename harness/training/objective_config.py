"""What a training minimises: the settings. No torch."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from harness.architecture.kinds import kind_of
from harness.records.errors import UserError, unknown_name
from harness.training.teacher_config import TeacherConfig


class ObjectiveConfig:
    """What a training minimises. Builder: (config, ...) -> `harness.training.objective.Objective`; what follows is what
    the tasks that it suits have to give: a denoiser's its data, prompts, recipe and device, and where the config names
    a teacher (`teacher_of`) that, loaded, and the `harness.training.objectives.distillation.Learner`."""

    __slots__ = ()
    forms: ClassVar[dict[str, type]] = {}


@kind_of(ObjectiveConfig, built_by="harness.training.objectives.flow_matching:FlowMatching")
@dataclass(frozen=True, kw_only=True, slots=True)
class FlowMatchingConfig(ObjectiveConfig):
    """The mean squared error of the velocity on the straight path: `harness.diffusion.flow_matching`."""

    kind: Literal["flow_matching"] = "flow_matching"


SCALINGS = ("timestep_aware", "fixed")


@kind_of(ObjectiveConfig, built_by="harness.training.objectives.distillation:Distillation")
@dataclass(frozen=True, kw_only=True, slots=True)
class DistillationConfig(ObjectiveConfig):
    """Flow matching, and beside it a teacher's output and features: `harness.training.objectives.distillation`."""

    kind: Literal["distillation"] = "distillation"
    teacher: TeacherConfig
    """A frozen network; `objective.teacher.name=KEY` of one that was trained here."""
    features: bool = True
    """Whether the features of the student's last transformer are to be the teacher's, too; else its output alone."""
    student_tap: str | None = None
    """The place in the student whose features these are, such as `up.1.attention.1`; null: its last transformer."""
    teacher_tap: str | None = None
    """The place in the teacher; null: its last transformer."""
    scaling: Literal["timestep_aware", "fixed"] = "timestep_aware"
    """How the losses are added: by each sample's time and the ratio of its losses (SnapGen's), or by fixed weights."""
    output_weight: float = 1.0
    """Of the output's loss with scaling=fixed."""
    feature_weight: float = 1.0
    """Of the features' loss with scaling=fixed."""

    def __post_init__(self) -> None:
        if self.scaling not in SCALINGS:
            raise unknown_name("objective.scaling", self.scaling, SCALINGS)
        weights = {"output_weight": self.output_weight, "feature_weight": self.feature_weight}
        for name, weight in weights.items():
            if not 0 <= weight < float("inf"):
                raise UserError(f"objective.{name} must be a number from 0, not {weight}")
            if self.scaling != "fixed" and weight != 1:
                raise UserError(
                    f"objective.{name}={weight} means nothing with scaling={self.scaling}, whose weights follow from "
                    "the losses; give objective.scaling=fixed, or leave it out"
                )
        if not self.features:
            unread = {"student_tap": self.student_tap is not None, "teacher_tap": self.teacher_tap is not None,
                      "feature_weight": self.feature_weight != 1}  # fmt: skip
            if named := [name for name, is_set in unread.items() if is_set]:
                raise UserError(f"objective.{named[0]} means nothing with objective.features=false; leave out one")


def teacher_of(objective: ObjectiveConfig) -> TeacherConfig | None:
    """Of objectives that have one."""
    teacher: TeacherConfig | None = getattr(objective, "teacher", None)
    return teacher
