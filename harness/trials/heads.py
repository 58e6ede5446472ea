"""What a discriminator's heads take, beside the networks: counted on shapes, as these are."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from harness.measure.cost import count
from harness.measure.kept import kept_by
from harness.models.discriminator import Discriminator
from harness.training.objective_config import ObjectiveConfig
from harness.training.objectives.step_distillation import judged_by
from harness.training.teacher import TeacherDescription


@dataclass(frozen=True, slots=True)
class Heads:
    maps: tuple[tuple[int, int, int], ...]
    """(C', H', W') of the features that each is at."""
    width: int

    @property
    def params(self) -> int:
        return sum(each.numel() for each in _on_meta(self).parameters())

    def step_macs(self, objective: ObjectiveConfig) -> int:
        """Multiply-adds for one sample of a step, forward and back: in their own loss back to their weights, and so no
        further than to their first layers'; in the network's to their inputs alone."""
        whole, first = _macs(self)
        passes = objective.passes
        return passes.heads * (3 * whole - first) + passes.through_heads * 2 * whole

    def kept(self, together: int, precision: str, *, trained: bool) -> int:
        """Bytes of one pass over so many samples, for a gradient to their weights or, else, to their inputs."""
        with FakeTensorMode():
            pairs = [
                (head.requires_grad_(trained), torch.empty(together, *size).requires_grad_(not trained))
                for head, size in zip(_heads(self), self.maps, strict=True)
            ]
            return sum(kept_by(head, [feature], precision=getattr(torch, precision)) for head, feature in pairs)


def heads_of(objective: ObjectiveConfig, teacher: TeacherDescription | None) -> Heads | None:
    """None where nothing is judged."""
    if teacher is None or (judge := objective.judge) is None:
        return None
    return Heads(tuple(teacher.maps(judged_by(judge, teacher.taps))), judge.width)


def _heads(heads: Heads) -> Sequence[nn.Module]:
    return list(Discriminator([channels for channels, _, _ in heads.maps], heads.width).heads)


def _on_meta(heads: Heads) -> nn.ModuleList:
    with torch.device("meta"):
        return nn.ModuleList(_heads(heads))


@functools.lru_cache(maxsize=100)
def _macs(heads: Heads) -> tuple[int, int]:
    """Of one forward pass over one sample's features: of all, and of the first layers alone."""
    whole = first = 0
    for head, size in zip(_on_meta(heads), heads.maps, strict=True):
        feature = [torch.empty(1, *size, device="meta")]
        whole += count(head, feature).macs
        first += count(next(iter(head.children())), feature).macs
    return whole, first
