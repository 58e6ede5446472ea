"""Distillation: flow matching, and beside it what a bigger network says of the same samples, at their own times.

    L_task[i] = || v(x_t) - (e - x_0) ||^2          the data's velocity: flow matching
    L_out[i]  = || v(x_t) - v_T(x_t) ||^2           the teacher's
    L_feat[i] = || P f(x_t) - f_T(x_t) ||^2         f: the map of the last transformer; P: a 1x1 convolution, learned

each a mean over the elements of sample i. With scaling=fixed the loss of a sample is

    L_task + output_weight L_out + feature_weight L_feat

and with scaling=timestep_aware, as SnapGen has it (arXiv 2412.09619, section on distillation),

    S(L_task, L_out) + S(L_task, L_feat),    S(L_task, L_kd) = a_t L_task + (1 - a_t) r L_kd,    r = |L_task| / |L_kd|

where r is a number, through which no gradient goes, and a_t follows the density of logit-normal(0, 1) at the sample's
time: the middle of the path leans on the data, its ends on the teacher. Without features it is the first S alone. The
batch's loss is the mean over its samples.

What the print leaves open, and what is done here:

- The density itself has its maximum at 1.6, and 1 - a_t would be negative around the middle and push the student away
  from its teacher. So a_t is the density over that maximum, which lies in [0, 1] and is 1 at t = 1/2.
- r is of each sample, by the losses of that sample: of a whole batch, it would depend on how a batch is cut.
- r is bounded, r = L_task / max(L_kd, least). With d the difference between student and teacher, the gradient of r L_kd
  is as long as L_task / |d|: the closer the two, the longer, until d is nothing but rounding, of a size of
  q = 4 eps of what is compared (`ROUNDING`), and a step goes where that points. So

      least_out = q |v_T| sqrt(L_task)        least_feat = q |f_T|^2 sqrt(L_task) / |v_T|        |.|: root mean square

  with which what rounding adds to the output's gradient, 2 r q |v_T|, is at most 2 sqrt(L_task), the task's own; of
  features the same in their own units. (A bound in proportion to eps^2 would let it grow as 1 / eps.) In float32 r is
  up to two million, and no training comes near it; in bfloat16 up to 32 sqrt(L_task) / |v_T|.
- In value r L_kd is L_task where r is not bounded, so S is L_task, and `train_loss` is L_task once or, with features,
  twice, whatever the teacher says; what a batch teaches is in the gradient. The curve has each part: task, output,
  feature.
- The norm by which distances are taken: mean squared errors, as BK-SDM's (arXiv 2305.15798).
- Features of different sizes: the student's map is brought to the size of the teacher's, bilinear, and averaged over
  what it covers where that is smaller. The teacher's stays as it is: smoothing it would take away what is to learn.
- P has the network's own optimiser settings, and first weights that depend on the trial's seed.

The validation loss is flow matching's, so that trainings with and without a teacher can be compared by it.
"""

import math
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.diffusion.flow_matching import Prompts, interpolate, velocity
from harness.models.taps import Tap
from harness.records.errors import UserError, unknown_name
from harness.records.plain import Plain
from harness.training.batches import TrainingData
from harness.training.device import resolve_precision, to_device
from harness.training.objective import Auxiliary, Losses
from harness.training.objective_config import DistillationConfig, StepDistillationConfig
from harness.training.objectives.flow_matching import FlowMatching, NoisedImages
from harness.training.optimizer import AdamW
from harness.training.randomness import stream_seed
from harness.training.recipe import Recipe
from harness.training.teacher import Teacher
from harness.training.teacher_config import TeacherConfig
from harness.training.teachers.guided import precision_on

MODE = 0.5
"""Of logit-normal(0, 1): the derivative of its logarithm is 0 where logit(t) = 2 t - 1, at t = 1/2 alone."""
ROUNDING = 4.0
"""Times eps, of the coarser of the two precisions: what rounding alone tells a student from its teacher by, over what
is compared, as root mean squares. Of one network's weights, once autocast to bfloat16 and once cast, it was 1.7 to 3.6
(laptop/thin_sdxl, 32 samples)."""
TF32_EPS = 2.0**-10
"""In which convolutions compute float32 on GPUs."""
SMALLEST = 1e-12
"""Of what another number is divided by."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Learner:
    """Of the network that is trained, what an objective with a teacher has to know before it is there."""

    taps: Mapping[str, int]
    """Its places that have features, in forward order -> channels."""
    seed: int
    """The trial's."""


@dataclass(frozen=True, slots=True)
class TaughtImages(NoisedImages):
    """With what a teacher is asked beside them."""

    labels: Tensor  # (B,)
    drop: Tensor  # (B,) True: the empty prompt

    def __getitem__(self, samples: slice) -> "TaughtImages":
        noised = NoisedImages.__getitem__(self, samples)
        return TaughtImages(*noised.arguments(), self.labels[samples], self.drop[samples])


class Taught(FlowMatching):
    """What objectives with a teacher have in common."""

    def __init__(
        self,
        config: DistillationConfig | StepDistillationConfig,
        data: TrainingData,
        prompts: Prompts,
        recipe: Recipe,
        device: torch.device,
        teacher: Teacher,
    ) -> None:
        super().__init__(config, data, prompts, recipe, device)
        self.teacher = teacher
        self.rounding = rounding_of(config.teacher, recipe, device)
        self.identity: Plain = {**_mapping(self.identity), "teacher": teacher.identity}

    def _with_prompts(self, x0: Tensor, labels: Tensor, noise: Tensor, time: Tensor, drop: Tensor) -> TaughtImages:
        noised = super()._with_prompts(x0, labels, noise, time, drop)
        return TaughtImages(*noised.arguments(), to_device(labels, self.device), to_device(drop, self.device))


class Distillation(Taught):
    def __init__(
        self,
        config: DistillationConfig,
        data: TrainingData,
        prompts: Prompts,
        recipe: Recipe,
        device: torch.device,
        teacher: Teacher,
        learner: Learner,
    ) -> None:
        super().__init__(config, data, prompts, recipe, device, teacher)
        self.config = config
        self.features = Features(config, teacher, learner, recipe, device) if config.features else None
        self.auxiliaries = () if self.features is None else (self.features.auxiliary,)

    def loss(self, network: nn.Module, batch: TaughtImages) -> Losses:  # type: ignore[override]
        x_t = interpolate(batch.x0, batch.noise, batch.time)
        features = self.features
        tapped = () if features is None else (features.teacher_tap,)
        taught = self.teacher(x_t, batch.time, batch.labels, batch.drop, tapped)
        with nullcontext() if features is None else features.of(network).open():
            predicted = network(x_t, batch.time, batch.context, batch.context_mask).to(x_t.dtype)
        task = squared_error(predicted, velocity(batch.x0, batch.noise))
        parts = {"output": squared_error(predicted, taught.velocity)}
        targets = {"output": taught.velocity}
        if features is not None:
            targets["feature"] = taught.features[features.teacher_tap].to(x_t.dtype)
            parts["feature"] = features.error(network, x_t, targets["feature"])
        total = self._total(task, parts, targets, batch.time)
        parts = {"task": task, **parts}
        return Losses(total=total.mean(), parts={name: each.mean() for name, each in parts.items()})

    def _total(self, task: Tensor, parts: dict[str, Tensor], targets: dict[str, Tensor], time: Tensor) -> Tensor:
        """(B,) of the task's loss (B,) and the teacher's (B,), with what they are the distances to (B, ...)."""
        if self.config.scaling == "timestep_aware":
            off = self.rounding * relative_error(task, targets["output"])
            of_each = [scaled(task, part, time, off * mean_square(targets[name])) for name, part in parts.items()]
            return torch.stack(of_each).sum(0)
        weights = {"output": self.config.output_weight, "feature": self.config.feature_weight}
        return task + torch.stack([weights[name] * part for name, part in parts.items()]).sum(0)


class Features:
    """The student's at a place, through a learned projection, against the teacher's at one of its own."""

    def __init__(
        self, config: DistillationConfig, teacher: Teacher, learner: Learner, recipe: Recipe, device: torch.device
    ) -> None:
        self.student_tap = config.student_tap or list(learner.taps)[-1]
        self.teacher_tap = config.teacher_tap or list(teacher.taps)[-1]
        with torch.random.fork_rng():
            torch.manual_seed(stream_seed(learner.seed, "projection", 0))
            projection = nn.Conv2d(learner.taps[self.student_tap], teacher.taps[self.teacher_tap], 1)
        self.projection = projection.to(device)
        own = AdamW(
            learning_rate=recipe.learning_rate, betas=recipe.betas, weight_decay=recipe.weight_decay, clip=recipe.clip
        )
        self.auxiliary = Auxiliary(name="projection", module=self.projection, optimizer=own)
        self._tapped: tuple[nn.Module, Tap] | None = None

    def of(self, network: nn.Module) -> Tap:
        """The network's tap, which stays in it."""
        if self._tapped is None or self._tapped[0] is not network:
            self._tapped = network, Tap(network, self.student_tap)
        return self._tapped[1]

    def error(self, network: nn.Module, x_t: Tensor, wanted: Tensor) -> Tensor:
        """(B,) of the pass over x_t that the tap was open for; wanted (B, C', H', W')."""
        features, size = self.of(network).take(x_t), wanted.shape[-2:]
        features = self.projection(resized(features, size) if size.numel() < features.shape[-2:].numel() else features)
        return squared_error(resized(features, size).to(x_t.dtype), wanted)  # resizing commutes with P


def check_taps(config: DistillationConfig, student: Mapping[str, int], teacher: Mapping[str, int]) -> None:
    """UserError for places that the two do not have."""
    if not config.features:
        return
    for name, tap, taps in (("student", config.student_tap, student), ("teacher", config.teacher_tap, teacher)):
        if not taps:
            raise UserError(
                f"objective.features=true compares the features of transformers, and the {name} has none; give "
                "objective.features=false"
            )
        if tap is not None and tap not in taps:
            raise unknown_name(f"objective.{name}_tap", tap, taps)


def squared_error(one: Tensor, other: Tensor) -> Tensor:
    """(B, ...) -> (B,), the mean over each sample's elements."""
    return mean_square(one - other)


def mean_square(x: Tensor) -> Tensor:
    """(B, ...) -> (B,)"""
    return x.square().flatten(1).mean(1)


def resized(feature: Tensor, size: torch.Size) -> Tensor:
    """(B, C, H, W) -> (B, C, *size)"""
    if feature.shape[-2:] == size:
        return feature
    wide = feature.to(torch.promote_types(feature.dtype, torch.float32))
    return F.interpolate(wide, size=tuple(size), mode="bilinear", antialias=True)


def scaled(task: Tensor, taught: Tensor, time: Tensor, least: Tensor) -> Tensor:
    """S(L_task, L_kd) of each sample; all (B,). least: what L_kd is taken for at least where it is divided by."""
    ratio = (task / torch.maximum(taught, least).clamp_min(SMALLEST)).detach()
    share = data_share(time).to(task.dtype)
    return share * task + (1 - share) * ratio * taught


def relative_error(task: Tensor, velocity_of_teacher: Tensor) -> Tensor:
    """sqrt(L_task) / |v_T| (B,)"""
    return (task / mean_square(velocity_of_teacher).clamp_min(SMALLEST)).sqrt()


def rounding_of(teacher: TeacherConfig, recipe: Recipe, device: torch.device) -> float:
    """q of the docstring."""
    of_teacher: str = getattr(teacher, "precision", "recipe")
    precisions = (resolve_precision(recipe, device), precision_on(device, of_teacher, recipe))
    exact = TF32_EPS if device.type == "cuda" else torch.finfo(torch.float32).eps
    return ROUNDING * max(max(exact, torch.finfo(each).eps) for each in precisions)


def data_share(time: Tensor) -> Tensor:
    """a_t in [0, 1], of times (B,): the density of logit-normal(0, 1) over its maximum."""
    return logit_normal_density(time) / MAXIMUM


def logit_normal_density(time: Tensor) -> Tensor:
    """exp(-logit(t)^2 / 2) / (sqrt(2 pi) t (1 - t)): of t = sigmoid(z) with z ~ N(0, 1); 0 at both ends."""
    inside = time.clamp(1e-6, 1 - 1e-6)
    return torch.exp(-torch.logit(inside).square() / 2) / (math.sqrt(2 * math.pi) * inside * (1 - inside))


MAXIMUM = float(logit_normal_density(torch.tensor(MODE, dtype=torch.float64)))


def _mapping(plain: Any) -> dict[str, Any]:
    return dict(plain)
