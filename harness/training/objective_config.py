"""What a training minimises: the settings. No torch."""

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, ClassVar, Literal

from harness.architecture.kinds import kind_of
from harness.diffusion.config import SamplingConfig
from harness.records.errors import UserError, unknown_name
from harness.records.plain import NOT_IDENTITY, Plain
from harness.training.teacher_config import TeacherConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class Passes:
    """Over one sample, as often as a step makes them."""

    trained: int = 1
    """Of the network, forward and back: three times what one forward takes, and what it keeps is kept so often."""
    forward: int = 0
    """Of the network, without gradients."""
    teacher: int = 0
    """Of the teacher's network; an answer with guidance takes two."""
    through_teacher: int = 0
    """Of these, with a gradient that goes back through it to its input: as much again, and what it keeps."""
    heads: int = 0
    """Of a discriminator's heads, forward and back, in their own loss."""
    through_heads: int = 0
    """Of these heads in the network's loss, with a gradient that goes back through them to their input."""

    @property
    def of_teacher(self) -> int:
        """In passes forward."""
        return self.teacher + self.through_teacher

    def beside(self, a_trained: int) -> int:
        """Forward passes of the network beside one that is trained, which takes `a_trained` of them."""
        return (self.trained - 1) * a_trained + self.forward


class ObjectiveConfig:
    """What a training minimises. Builder: (config, ...) -> `harness.training.objective.Objective`; what follows is what
    the tasks that it suits have to give: a denoiser's its data, prompts, recipe and device, and where the config names
    a teacher (`teacher_of`) that, loaded, and the `harness.training.objectives.distillation.Learner`."""

    __slots__ = ()
    forms: ClassVar[dict[str, type]] = {}
    leaves_unread: ClassVar[Mapping[str, Mapping[object, tuple[str, ...]]]] = {}
    """Setting -> its value -> the settings that mean nothing with it, and are refused beside it."""

    @property
    def validated_by(self) -> dict[str, Plain]:
        """Conditions of the validation loss, where it is another number than flow matching's: the two are not compared
        then."""
        return {}

    @property
    def passes(self) -> Passes:
        """Of a step. What a projection of features takes beside the networks is small, and is not counted."""
        return Passes()

    @property
    def judge(self) -> "DiscriminatorConfig | None":
        """Whose heads are trained on the teacher's features beside the network."""
        return None


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

    leaves_unread: ClassVar[Mapping[str, Mapping[object, tuple[str, ...]]]] = {
        "features": {False: ("student_tap", "teacher_tap", "feature_weight")},
        "scaling": {"timestep_aware": ("output_weight", "feature_weight")},
    }

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

    @property
    def passes(self) -> Passes:
        return Passes(teacher=self.teacher.passes)

    def __post_init__(self) -> None:
        if self.scaling not in SCALINGS:
            raise unknown_name("objective.scaling", self.scaling, SCALINGS)
        weights = {"output_weight": self.output_weight, "feature_weight": self.feature_weight}
        for name, weight in weights.items():
            if not 0 <= weight < float("inf"):
                raise UserError(f"objective.{name} must be a number from 0, not {weight}")
        refuse_unread(self)


ADVERSARIAL_LOSSES = ("softplus", "hinge")


def refuse_unread(objective: Any) -> None:
    """UserError for what another setting leaves unread and is set: the same training would have two keys."""
    for setting, by_value in objective.leaves_unread.items():
        value = getattr(objective, setting)
        names = by_value.get(value, ())
        for each in fields(objective):
            default = each.default if each.default_factory is MISSING else each.default_factory()
            if each.name in names and getattr(objective, each.name) != default:
                given = f"{setting}={str(value).lower() if isinstance(value, bool) else value}"
                raise UserError(f"objective.{each.name} means nothing with objective.{given}; leave out one of them")


@dataclass(frozen=True, kw_only=True, slots=True)
class DiscriminatorConfig:
    """Heads on a teacher's features, and how they are trained: `harness.models.discriminator`."""

    taps: tuple[str, ...] | None = None
    """The places in the teacher that are judged by; null: four, spread over its depth."""
    width: int = 64
    """Channels of a head."""
    learning_rate: float = 1e-3
    """Their own, which warms up and falls as the recipe's does."""
    betas: tuple[float, float] = (0.0, 0.99)
    renoised_mean: float = 0.0
    """Of the logit of the times at which samples are judged; lower: nearer to data, which judges details."""
    renoised_deviation: float = 1.0
    r1_weight: float = 0.01
    """Of the squared norm of their gradient at real data; 0: none, and a pass less. StyleGAN2-ADA's rule, half of
    0.0002 pixels / batch, is 0.0001 for 8 x 8 in batches of 64 and 0.03 for 128 x 128."""
    r1_sigma: float = 0.1
    """By how much real data is perturbed for that."""
    window: int = field(default=100, metadata=NOT_IDENTITY)
    """Steps over which they win always, or lose always, before that is told."""

    def __post_init__(self) -> None:
        if self.taps is not None and len(set(self.taps)) < max(1, len(self.taps)):
            raise UserError(f"objective.discriminator.taps are different places, at least one, not {list(self.taps)}")
        for name, least in (("width", 4), ("window", 1)):
            if getattr(self, name) < least:
                raise UserError(f"objective.discriminator.{name} must be at least {least}, not {getattr(self, name)}")
        for name in ("learning_rate", "renoised_deviation", "r1_sigma"):
            if not 0 < getattr(self, name) < float("inf"):
                raise UserError(f"objective.discriminator.{name} must be above 0, not {getattr(self, name)}")
        if not 0 <= self.r1_weight < float("inf"):
            raise UserError(f"objective.discriminator.r1_weight must be a number from 0, not {self.r1_weight}")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise UserError(f"objective.discriminator.betas are from 0 to below 1, not {list(self.betas)}")


@kind_of(ObjectiveConfig, built_by="harness.training.objectives.step_distillation:StepDistillation")
@dataclass(frozen=True, kw_only=True, slots=True)
class StepDistillationConfig(ObjectiveConfig):
    """A student that samples in a few steps: `harness.training.objectives.step_distillation`. It begins with the
    weights of a trained one (`initial`)."""

    leaves_unread: ClassVar[Mapping[str, Mapping[object, tuple[str, ...]]]] = {
        "adversarial_weight": {0.0: ("adversarial_loss", "discriminator", "backward_simulation")},
        "distillation_weight": {0.0: ("scaling", "task_weight", "teacher_steps")},
        "scaling": {"timestep_aware": ("task_weight",)},
    }

    kind: Literal["step_distillation"] = "step_distillation"
    teacher: TeacherConfig
    """A frozen network; `objective.teacher.name=KEY` of one that was trained here."""
    steps: int = 4
    """Euler steps that the student samples in. Its trials are scored by them unless `sampling` says otherwise."""
    shift: float = 1.0
    """Of their times, as `sampling.shift`."""
    backward_simulation: bool = True
    """Whether the student is judged where its own steps lead from noise; else at noised data."""
    teacher_steps: int = 4
    """Of the teacher, for one of the student's; 1: its velocity, right for a few-step teacher."""
    distillation_weight: float = 1.0
    """Of the data's and the teacher's velocity; 0: neither."""
    scaling: Literal["timestep_aware", "fixed"] = "timestep_aware"
    """How these two are added: by SnapGen's scaling, which leaves the step at t = 1/2 to the data alone, or by fixed
    weights."""
    task_weight: float = 1.0
    """Of the data's velocity with scaling=fixed; 0: the teacher's alone."""
    adversarial_weight: float = 0.5
    """Of the discriminator's verdict; 0: there is none."""
    adversarial_loss: Literal["softplus", "hinge"] = "softplus"
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    validation_steps: int = 16
    """Of the teacher's way from noise to data, whose end the validation loss compares with the student's."""

    def __post_init__(self) -> None:
        if self.adversarial_loss not in ADVERSARIAL_LOSSES:
            raise unknown_name("objective.adversarial_loss", self.adversarial_loss, ADVERSARIAL_LOSSES)
        for name in ("steps", "teacher_steps", "validation_steps"):
            if getattr(self, name) < 1:
                raise UserError(f"objective.{name} must be at least 1, not {getattr(self, name)}")
        if not 0 < self.shift < float("inf"):
            raise UserError(f"objective.shift must be a number above 0, not {self.shift}")
        if self.scaling not in SCALINGS:
            raise unknown_name("objective.scaling", self.scaling, SCALINGS)
        weights = {name: getattr(self, name) for name in ("distillation_weight", "adversarial_weight")}
        for name, weight in {**weights, "task_weight": self.task_weight}.items():
            if not 0 <= weight < float("inf"):
                raise UserError(f"objective.{name} must be a number from 0, not {weight}")
        if not any(weights.values()):
            raise UserError(f"{' and '.join(f'objective.{name}' for name in weights)} are both 0; give one of them")
        refuse_unread(self)

    @property
    def validated_by(self) -> dict[str, Plain]:
        return {"validation": f"{self.steps} steps against the teacher's {self.validation_steps}"}

    @property
    def passes(self) -> Passes:
        of_teacher = self.teacher_steps * self.teacher.passes * (self.distillation_weight > 0)
        if self.adversarial_weight == 0:
            return Passes(teacher=of_teacher)
        simulated = (self.steps - 1) * self.backward_simulation
        has_two = self.backward_simulation and self.distillation_weight > 0  # where it arrives, and at noised data
        judged = 3 + (self.discriminator.r1_weight > 0)  # the student's sample; real, generated, perturbed
        return Passes(
            trained=1 + has_two, forward=2 * simulated + 1, teacher=of_teacher + judged, through_teacher=1,
            heads=judged - 1, through_heads=1,
        )  # fmt: skip

    @property
    def judge(self) -> DiscriminatorConfig | None:
        return self.discriminator if self.adversarial_weight > 0 else None

    @property
    def sampling(self) -> SamplingConfig:
        """How the student samples."""
        times: Literal["uniform", "shifted"] = "uniform" if self.shift == 1 else "shifted"
        return SamplingConfig(solver="euler", steps=self.steps, times=times, shift=self.shift)


def teacher_of(objective: ObjectiveConfig) -> TeacherConfig | None:
    """Of objectives that have one."""
    teacher: TeacherConfig | None = getattr(objective, "teacher", None)
    return teacher
