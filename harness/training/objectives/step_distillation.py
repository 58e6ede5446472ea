"""Step distillation: a student that makes its samples in a few steps, by a discriminator on its teacher's features and
by its teacher's output (SnapGen, arXiv 2412.09619; LADD, Sauer et al. 2024, arXiv 2403.12015).

The student has N steps, at the times t_0 = 1 > t_1 > ... > t_N = 0 of Euler's solver with that many
(`SamplingConfig.solver_times`): what is trained is what `sampling.solver=euler sampling.steps=N` samples. Each sample
of a batch has one of them, k, and

    L = adversarial_weight L_adv + distillation_weight S(L_task, L_out)

with S of `harness.training.objectives.distillation`, at the time t_k, or with scaling=fixed

    L = adversarial_weight L_adv + distillation_weight (task_weight L_task + L_out)

S leaves a step at t = 1/2 to the data alone, since a_t is 1 there: the third of four even steps, and the second of two.
The data's velocity is a mean, and does not lead in one such step where the teacher's steps lead. scaling=fixed with
task_weight=0 has the student learn the teacher's steps, all of them.

**L_adv.** From pure noise the student's own steps before the k-th lead to x at t_k, under the sample's prompt, without
guidance and without gradients (backward simulation, Yin et al. 2024, arXiv 2405.14867; `backward_simulation=false` has
x = (1 - t_k) x_0 + t_k e, data with noise). Its step there points at

    x0_hat = x - t_k v(x, t_k)

This and real data are noised alike, x' = (1 - t') x0 + t' e' with logit(t') ~ N(renoised_mean, renoised_deviation^2),
and go through the frozen teacher, to heads on its features at several depths (`harness.models.discriminator`). The
student minimises the generator's loss, through the teacher; then, in the same training step, the heads minimise theirs
at their own learning rate, plus r1_weight times an R1 penalty by finite differences at the noised real data
(`harness.training.objectives.adversarial`). The default times are SANA-Sprint's: logit-normal(-0.6, 1) of noise over
data with a deviation of 0.5 is, up to 0.1, logit-normal(0, 1) here.

**L_task, L_out** are at data with noise, x_t = (1 - t_k) x_0 + t_k e, where a task is defined:

    L_task = || v(x_t, t_k) - (e - x_0) ||^2       L_out = || v(x_t, t_k) - u ||^2
    y_0 = x_t,   y_{j+1} = y_j + (t_{k+1} - t_k) / M v_T(y_j, t_k + j / M (t_{k+1} - t_k))        j = 0 ... M - 1
    u = (y_M - x_t) / (t_{k+1} - t_k) = mean_j v_T(y_j, ...)

u leads in one step where M = teacher_steps of the teacher's Euler steps lead. With M = 1 it is the teacher's velocity:
right for a few-step teacher, whose steps are these. Where there is none, a teacher of many steps plays it with M > 1.
The first step begins at t = 1, also with a teacher whose own path ends before the noise, as Stable Diffusion XL's does
at 0.936: its velocity there is (y - x_0) / t, of the x_0 that it sees in y at its end (`harness.diffusion.prediction`,
(5)), so that with M = 1 the student's x0_hat is to be what the teacher makes of the noise at once.

The validation loss is the mean squared error between the ends of two ways from the same noise under the same held-out
prompt: the student's N steps, and the teacher's `validation_steps` of DPM-Solver++(2M). It needs no discriminator, all
N steps are in it as they are used, and it is the same number whatever a training minimises.

What the print leaves open, and is decided here: real and generated samples share t' and e', so that what tells them
apart is no noise; one step of the heads follows each step of the student (FastGen's LADD has five); S takes each
sample's losses at its step's time, so that the first step, at pure noise, has the teacher alone; the penalty compares
noised data with the same perturbed, at one time; the generator's loss is the one that does not saturate, in place of
log(1 - D); of the teacher S takes the output alone, and no features.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from harness.architecture.prediction import VELOCITY
from harness.diffusion.flow_matching import Prompts, interpolate, velocity
from harness.diffusion.prediction import velocity_of
from harness.diffusion.solvers import SOLVERS, Velocity, euler_step, solve
from harness.models.discriminator import Discriminator
from harness.records.errors import UserError, unknown_name
from harness.records.record import CurvePoint
from harness.training.batches import TrainingData
from harness.training.device import to_device
from harness.training.objective import Auxiliary, Losses
from harness.training.objective_config import DiscriminatorConfig, StepDistillationConfig
from harness.training.objectives.adversarial import (
    DISCRIMINATOR,
    FOOLING,
    GENERATED,
    REAL,
    Logits,
    no_match,
    over_heads,
    r1_penalty,
    verdict,
)
from harness.training.objectives.distillation import (
    Learner,
    Taught,
    TaughtImages,
    mean_square,
    relative_error,
    scaled,
    squared_error,
)
from harness.training.optimizer import AdamW
from harness.training.randomness import Draws, stream_seed
from harness.training.recipe import Recipe
from harness.training.teacher import Teacher

DEPTHS = 4
"""Of the teacher's places that have features, how many are judged by unless they are named: spread over its depth."""


@dataclass(frozen=True, slots=True)
class SteppedImages(TaughtImages):
    """`time` is the step's."""

    step: Tensor  # (B,) which of the student's steps, from 0
    renoised_at: Tensor  # (B,)
    renoise: Tensor  # (B, C, H, W)
    nudge: Tensor  # (B, C, H, W) N(0, 1), for the penalty

    def __getitem__(self, samples: slice) -> "SteppedImages":
        parts: dict[str, Any] = {each.name: getattr(self, each.name) for each in fields(self)}
        cut: dict[str, Any] = {name: None if part is None else part[samples] for name, part in parts.items()}
        return SteppedImages(**cut)


class StepDistillation(Taught):
    def __init__(
        self,
        config: StepDistillationConfig,
        data: TrainingData,
        prompts: Prompts,
        recipe: Recipe,
        device: torch.device,
        teacher: Teacher,
        learner: Learner,
    ) -> None:
        super().__init__(config, data, prompts, recipe, device, teacher)
        self.config = config
        self.times = config.sampling.solver_times
        self.ends = torch.tensor(self.times[1:], device=device)  # once: a recorded step copies nothing from the host
        self.discriminator: Discriminator | None = None
        if (chosen := config.judge) is not None:
            self.tapped = judged_by(chosen, teacher.taps)
            self.discriminator = self._heads(learner.seed)
            optimizer = AdamW(learning_rate=chosen.learning_rate, betas=chosen.betas, clip=recipe.clip)
            auxiliary = Auxiliary(
                name=DISCRIMINATOR, module=self.discriminator, optimizer=optimizer, loss=self.judgement
            )
            self.auxiliaries = (auxiliary,)

    def _heads(self, seed: int) -> Discriminator:
        """On the device, with first weights that depend on the seed alone."""
        channels = [self.teacher.taps[place] for place in self.tapped]
        with torch.random.fork_rng():
            torch.manual_seed(stream_seed(seed, DISCRIMINATOR, 0))
            return Discriminator(channels, self.config.discriminator.width).to(self.device)

    def batch(self, rows: Tensor, labels: Tensor, draws: Draws) -> SteppedImages:
        steps, chosen = self.config.steps, self.config.discriminator
        step = (draws.uniform() * steps).long().clamp_max(steps - 1)
        drop, x0 = self._drop(draws), self._x0(rows, draws)
        noise, renoise, nudge = (draws.normal(x0.shape[1:]) for _ in range(3))
        renoised_at = torch.sigmoid(chosen.renoised_mean + chosen.renoised_deviation * draws.normal(()))
        time = torch.tensor(self.times, device=step.device)[step]
        taught = self._with_prompts(x0, labels, noise, time, drop)
        own = (to_device(each, self.device) for each in (step, renoised_at, renoise, nudge))
        return SteppedImages(*taught.arguments(), taught.labels, taught.drop, *own)

    # the student's loss

    def loss(self, network: nn.Module, batch: SteppedImages) -> Losses:  # type: ignore[override]
        parts: dict[str, Tensor] = {}
        total = torch.zeros_like(batch.time)
        noised = interpolate(batch.x0, batch.noise, batch.time)
        x0_hat, predicted = self._both(network, batch, noised)
        if self.discriminator is not None:
            logits = self._logits(x0_hat, batch, differentiable=True)
            parts["adversarial"] = over_heads(FOOLING[self.config.adversarial_loss], logits)
            total = total + self.config.adversarial_weight * parts["adversarial"]
        if self.config.distillation_weight > 0:
            parts["task"] = squared_error(predicted, velocity(batch.x0, batch.noise))
            u = self._taught(noised, batch)
            parts["output"] = squared_error(predicted, u)
            if self.config.scaling == "timestep_aware":
                least = self.rounding * relative_error(parts["task"], u) * mean_square(u)
                taught = scaled(parts["task"], parts["output"], batch.time, least)
            else:
                taught = self.config.task_weight * parts["task"] + parts["output"]
            total = total + self.config.distillation_weight * taught
        return Losses(total=total.mean(), parts={name: each.mean() for name, each in parts.items()})

    def _both(self, network: nn.Module, batch: SteppedImages, noised: Tensor) -> tuple[Tensor, Tensor]:
        """x0_hat where the student's own steps lead, and its velocity at `noised`: one pass, over both."""
        needs_own = self.discriminator is not None and self.config.backward_simulation
        if not needs_own:
            predicted = self._velocity(network, noised, batch)
            return _denoised(noised, predicted, batch.time), predicted
        simulated = self.simulated(network, batch)
        if self.config.distillation_weight == 0:
            own = self._velocity(network, simulated, batch)
            return _denoised(simulated, own, batch.time), own
        context, mask = batch.context, batch.context_mask
        twice = replace(
            batch, time=batch.time.repeat(2), context=torch.cat([context, context]),
            context_mask=None if mask is None else torch.cat([mask, mask]),
        )  # fmt: skip
        own, predicted = self._velocity(network, torch.cat([simulated, noised]), twice).chunk(2)
        return _denoised(simulated, own, batch.time), predicted

    def _taught(self, noised: Tensor, batch: SteppedImages) -> Tensor:
        """u of the docstring."""
        count = self.config.teacher_steps
        span = self.ends[batch.step].to(batch.time.dtype) - batch.time  # (B,) below 0
        y, total = noised, torch.zeros_like(noised)
        for number in range(count):
            v = self.teacher(y, batch.time + number / count * span, batch.labels, batch.drop).velocity.to(y.dtype)
            y, total = y + _like(span / count, y) * v, total + v
        return total / count

    @torch.no_grad()
    def simulated(self, network: nn.Module, batch: SteppedImages) -> Tensor:
        """x at each sample's step, where the steps before it lead from the noise. All samples go all the way, so that
        every process makes as many passes, whatever steps its samples have."""
        v = self._of_prompts(network, batch)
        x = states = batch.noise
        for number, (t, t_next) in enumerate(pairwise(self.times[:-1]), start=1):
            x = euler_step(v, x, t, t_next, [])
            states = torch.where(_like(batch.step == number, x), x, states)
        return states

    def _velocity(self, network: nn.Module, x: Tensor, batch: TaughtImages) -> Tensor:
        out: Tensor = network(x, batch.time, batch.context, batch.context_mask)
        return out.to(x.dtype)

    def _of_prompts(self, network: nn.Module, batch: TaughtImages) -> Velocity:
        """As the sampler asks for it, without guidance."""
        evaluate = velocity_of(network, VELOCITY)
        return lambda x, t: evaluate(x, t, batch.context, batch.context_mask).to(x.dtype)

    # the discriminator's loss

    def judgement(self, network: nn.Module, batch: SteppedImages) -> Losses:
        chosen, kind = self.config.discriminator, self.config.adversarial_loss
        with torch.no_grad():
            x = self.simulated(network, batch) if self.config.backward_simulation else _noised(batch)
            x0_hat = _denoised(x, self._velocity(network, x, batch), batch.time)
        real, generated = self._logits(batch.x0, batch), self._logits(x0_hat, batch)
        total = over_heads(REAL[kind], real) + over_heads(GENERATED[kind], generated)
        parts = {
            "real_accuracy": (verdict(real) > 0).to(total.dtype),
            "generated_accuracy": (verdict(generated) < 0).to(total.dtype),
        }
        if chosen.r1_weight > 0:
            nearby = self._logits(batch.x0, batch, nudged_by=chosen.r1_sigma)
            parts["r1"] = r1_penalty(real, nearby, chosen.r1_sigma)
            total = total + chosen.r1_weight * parts["r1"]
        return Losses(total=total.mean(), parts={name: each.mean() for name, each in parts.items()})

    def _logits(
        self, x0: Tensor, batch: SteppedImages, *, nudged_by: float = 0.0, differentiable: bool = False
    ) -> Logits:
        """Of x0, noised again."""
        assert self.discriminator is not None
        x = interpolate(x0, batch.renoise, batch.renoised_at) + nudged_by * batch.nudge
        inputs = (batch.renoised_at, batch.labels, batch.drop, self.tapped)
        features = self.teacher(x, *inputs, guided=False, differentiable=differentiable).features
        return [
            each.to(x0.dtype) for each in self.discriminator([features[place].to(x0.dtype) for place in self.tapped])
        ]

    def remark(self, curve: Sequence[CurvePoint], /) -> str | None:
        return no_match(curve, self.config.discriminator.window, steps=self.recipe.steps)

    # validation

    @cached_property
    def validation(self) -> list[Any]:
        """Of each held-out sample its noise and prompt; for x0 stands where the teacher leads from there."""
        return [replace(batch, x0=self._teachers_end(batch)) for batch in self.heldout_batches()]

    @torch.no_grad()
    def _teachers_end(self, batch: TaughtImages) -> Tensor:
        def v(x: Tensor, t: float) -> Tensor:
            return self.teacher(x, x.new_full((len(x),), t), batch.labels, batch.drop).velocity.to(x.dtype)

        times = replace(self.config.sampling, steps=self.config.validation_steps).solver_times
        return solve(SOLVERS["dpmpp_2m"], v, batch.noise, times)

    def validation_loss(self, network: nn.Module, batch: TaughtImages) -> Tensor:  # type: ignore[override]
        end = solve(euler_step, self._of_prompts(network, batch), batch.noise, self.times)
        return squared_error(end, batch.x0).mean()


def judged_by(judge: DiscriminatorConfig, taps: Mapping[str, int]) -> tuple[str, ...]:
    """The places that the heads are at: those that are named, or `DEPTHS` of all, the last one among them. UserError
    where there are none, and for one that the teacher does not have."""
    if not taps:
        raise UserError(
            "objective.adversarial_weight above 0 judges by the features of the teacher's transformers, and it has "
            "none; give objective.adversarial_weight=0, or name another teacher"
        )
    for place in judge.taps or ():
        if place not in taps:
            raise unknown_name("objective.discriminator.taps", place, taps)
    every, count = list(taps), min(DEPTHS, len(taps))
    return judge.taps or tuple(every[(number + 1) * len(every) // count - 1] for number in range(count))


def check_judged_by(config: StepDistillationConfig, taps: Mapping[str, int]) -> None:
    """UserError for places that the teacher does not have, where any are asked for."""
    if config.judge is not None:
        judged_by(config.judge, taps)


def _noised(batch: SteppedImages) -> Tensor:
    return interpolate(batch.x0, batch.noise, batch.time)


def _denoised(x: Tensor, v: Tensor, time: Tensor) -> Tensor:
    return x - _like(time, x) * v


def _like(each: Tensor, x: Tensor) -> Tensor:
    """(B,) -> (B, 1, 1, 1)"""
    return each.view(-1, *[1] * (x.ndim - 1))
