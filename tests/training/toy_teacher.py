"""A teacher for tiny trainings: a frozen convolution that is shifted by class and time, and what it shows of itself."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from harness.training.teacher import TeacherOutput

TAPS = {"early": 3, "late": 4}


class ToyTeacher:
    identity = "toy teacher"
    taps = TAPS

    def __init__(self) -> None:
        torch.manual_seed(5)
        self.features = nn.ModuleDict({"early": nn.Conv2d(1, 3, 2, 2), "late": nn.Conv2d(1, 4, 2, 2)})
        self.answer = nn.Conv2d(1, 1, 3, padding=1)
        self.features.requires_grad_(False), self.answer.requires_grad_(False)
        self.asked: list[tuple[Tensor, Tensor, Tensor, Tensor, tuple[str, ...]]] = []
        self.guided = self.differentiated = 0

    def __call__(
        self, x_t: Tensor, time: Tensor, labels: Tensor, drop: Tensor, tapped: Sequence[str] = (), *,
        guided: bool = True, differentiable: bool = False,
    ) -> TeacherOutput:  # fmt: skip
        self.asked.append((x_t, time, labels, drop, tuple(tapped)))
        self.guided, self.differentiated = self.guided + guided, self.differentiated + differentiable
        for part in (self.features, self.answer):
            part.to(x_t.dtype)
        with torch.set_grad_enabled(differentiable):
            condition = torch.where(drop, 0.0, 0.1 * labels) + time
            velocity = self.answer(x_t) + condition.view(-1, 1, 1, 1).to(x_t.dtype)
            return TeacherOutput(velocity, {place: self.features[place](x_t) for place in tapped})


class Answers:
    """A teacher that answers what it is told to."""

    identity = "told"
    taps = TAPS

    def __init__(self, velocity: Tensor, features: Mapping[str, Tensor] | None = None) -> None:
        self.velocity, self.features = velocity, features or {}

    def __call__(self, *_asked: object, **_named: object) -> TeacherOutput:
        return TeacherOutput(self.velocity, self.features)
