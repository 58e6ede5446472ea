"""Losses of logits: of what a discriminator is to tell apart, and of a generator that it is to take for real.

Logits are a list, a tensor (B, n) for each head; a loss of theirs is (B,), the mean over a head's logits, then over
heads. l is above 0 where a sample looks real.

               discriminator, real    discriminator, generated    generator
    softplus   softplus(-l)           softplus(l)                 softplus(-l)        non-saturating
    hinge      relu(1 - l)            relu(1 + l)                 -l

A discriminator and its generator are no match for each other where, over `window` steps, at every point of the curve,

    it wins     it tells at least 99% of the real samples and of the generated ones: the generator hears little from it
    it loses    it is right about at most 1% of the real samples, or of the generated ones: it says the same of all,
                or the opposite

Half of each is no loss: so it is where nothing can be told apart any more. Steps in which a discriminator does not
learn yet are none of the window's; a training shorter than that is one window, if it has LEAST steps. What is told of
it is a function of the curve, so that a training that is killed and continued tells the same.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from harness.records.record import CurvePoint

Logits = Sequence[Tensor]
OfLogits = Callable[[Tensor], Tensor]

REAL: Mapping[str, OfLogits] = {"softplus": lambda logit: F.softplus(-logit), "hinge": lambda logit: F.relu(1 - logit)}
GENERATED: Mapping[str, OfLogits] = {"softplus": F.softplus, "hinge": lambda logit: F.relu(1 + logit)}
FOOLING: Mapping[str, OfLogits] = {"softplus": lambda logit: F.softplus(-logit), "hinge": lambda logit: -logit}

DISCRIMINATOR = "discriminator"
ACCURACIES = ("real_accuracy", "generated_accuracy")
POINTS = tuple(f"{DISCRIMINATOR}_loss.{name}" for name in ACCURACIES)
"""Of the curve."""
NEARLY_ALL = 0.99
LEAST = 20
"""Steps: heads that have only begun say the same of all."""


def over_heads(of: OfLogits, logits: Logits) -> Tensor:
    """(B,)"""
    return torch.stack([of(each).mean(1) for each in logits]).mean(0)


def verdict(logits: Logits) -> Tensor:
    """(B,) above 0 for a sample that is taken for real."""
    return over_heads(lambda logit: logit, logits)


def r1_penalty(at: Logits, nearby: Logits, sigma: float) -> Tensor:
    """(B,) of the logits at x and at x + sigma n, n ~ N(0, I): in the mean over n, for a small sigma, the squared norm
    of a logit's gradient with respect to x, R1 (Mescheder et al. 2018, arXiv 1801.04406), without a gradient through
    what x goes through (Lin et al. 2025, arXiv 2501.08316, eq. 5, which does not divide by sigma^2)."""
    squared = [(one - other).square().mean(1) for one, other in zip(at, nearby, strict=True)]
    return torch.stack(squared).mean(0) / sigma**2


@dataclass(frozen=True, kw_only=True, slots=True)
class Advice:
    """What the sentence about a discriminator that is no match calls its generator, and says to do about it."""

    generator: str
    if_it_wins: str
    if_it_loses: str


OF_HEADS = Advice(
    generator="student",
    if_it_wins="lower objective.discriminator.learning_rate, or raise its r1_weight",
    if_it_loses="raise objective.discriminator.learning_rate, or lower its r1_weight",
)
OF_PATCHES = Advice(
    generator="network",
    if_it_wins="lower objective.discriminator.learning_rate, or raise objective.adversarial_start",
    if_it_loses="raise objective.discriminator.learning_rate or its width",
)


def no_match(
    curve: Sequence[CurvePoint], window: int, advice: Advice = OF_HEADS, *, steps: int, learns_from: int = 0
) -> str | None:
    """A sentence, at the point of the curve at which it begins; None everywhere else. `steps`: of the training;
    `learns_from`: the step behind which the discriminator learns."""
    window = min(window, max(LEAST, steps - learns_from))
    curve = [point for point in curve if point.step > learns_from]
    points_at = sorted({point.step for point in curve if point.name == POINTS[0]})
    if not points_at:
        return None
    before, now = (
        _at(curve, step, window, advice) if step >= learns_from + window else None for step in ([0, *points_at])[-2:]
    )
    if now is None or before == now:
        return None
    return f"step {points_at[-1]}: over the last {window} steps {now}"


def _at(curve: Sequence[CurvePoint], step: int, window: int, advice: Advice) -> str | None:
    """Which of the two it is after that step."""
    recent = [point for point in curve if step - window < point.step <= step]
    real, generated = ([point.value for point in recent if point.name == name] for name in POINTS)
    if min(*real, *generated) >= NEARLY_ALL:
        return (
            "the discriminator has told at least 99% of the real samples and of the generated ones, and the "
            f"{advice.generator} hears little from it; {advice.if_it_wins}"
        )
    for name, shares in (("real", real), ("generated", generated)):
        if max(shares) <= 1 - NEARLY_ALL:
            return (
                f"the discriminator has been wrong about at least 99% of the {name} samples, and tells nothing apart; "
                f"{advice.if_it_loses}"
            )
    return None
