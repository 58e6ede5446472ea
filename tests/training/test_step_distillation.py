"""Step distillation's losses against hand calculations, whom their gradients reach, and a discriminator that is no
match."""

import copy
import dataclasses
import logging
import math
from pathlib import Path
from typing import Any

import pytest
import scipy.stats
import torch
from test_distillation import leaves
from tiny_training import RECIPE, SEED, TinyData, in_float64, run, step_distillation, tiny_network, undropped
from torch import Tensor, nn
from torch.nn import functional as F
from toy_teacher import TAPS, ToyTeacher

from harness.diffusion.sampling import guided_velocity
from harness.diffusion.solvers import euler_step, solve
from harness.models.discriminator import Discriminator
from harness.records.errors import UserError
from harness.records.record import CurvePoint
from harness.training.batches import training_rows
from harness.training.objective_config import DiscriminatorConfig, StepDistillationConfig
from harness.training.objectives.adversarial import no_match, r1_penalty
from harness.training.objectives.step_distillation import StepDistillation, SteppedImages, check_judged_by, judged_by
from harness.training.randomness import HostDraws
from harness.training.teacher_config import TrainedTeacher
from harness.training.update import standing_still

TEACHER = TrainedTeacher(name="toy")
TIMES = (1.0, 0.75, 0.5, 0.25, 0.0)
HEADS = DiscriminatorConfig(width=8, r1_weight=0.7, r1_sigma=0.2)


def batch_of(objective: StepDistillation) -> SteppedImages:
    rows, labels = next(training_rows(TinyData(), RECIPE, SEED, 1, range(8)))
    return objective.batch(rows, labels, HostDraws(SEED, 1, range(8), 8))


def student() -> nn.Module:
    return undropped(tiny_network()).double().train()


def by_hand(objective: StepDistillation, network: nn.Module, batch: SteppedImages, kind: str) -> list[dict[str, Any]]:
    """Of each sample every part, one sample after the other."""
    config, heads, samples = objective.config, objective.discriminator, []
    ask = ToyTeacher()
    softplus = lambda value: torch.log1p(torch.exp(value))  # noqa: E731
    fooled = {"softplus": lambda value: softplus(-value), "hinge": lambda value: -value}[kind]
    real = {"softplus": lambda value: softplus(-value), "hinge": lambda value: (1 - value).clamp_min(0)}[kind]
    generated = {"softplus": softplus, "hinge": lambda value: (1 + value).clamp_min(0)}[kind]
    for index in range(len(batch)):
        one = batch[index : index + 1]
        k, t = int(one.step), TIMES[int(one.step)]
        assert one.time.item() == t

        def said(x: Tensor, at: float, one: SteppedImages = one) -> Tensor:
            return network(x, torch.full((1,), at, dtype=torch.float64), one.context, None)

        def logits(x0: Tensor, off: Tensor | float = 0.0, one: SteppedImages = one) -> list[Tensor]:
            at = one.renoised_at
            x = (1 - at) * x0 + at * one.renoise + off
            found = ask(x, at, one.labels, one.drop, list(TAPS), differentiable=True).features
            return [head(found[place])[0].flatten() for head, place in zip(heads.heads, TAPS, strict=True)]

        noised = (1 - t) * one.x0 + t * one.noise
        came = noised
        if config.backward_simulation:
            came = one.noise
            with torch.no_grad():
                for number in range(k):
                    came = came + (TIMES[number + 1] - TIMES[number]) * said(came, TIMES[number])
        x0_hat = came - t * said(came, t)
        y, span = noised, TIMES[k + 1] - t
        for number in range(config.teacher_steps):
            at = torch.tensor([t + span * number / config.teacher_steps], dtype=torch.float64)
            y = y + span / config.teacher_steps * ask(y, at, one.labels, one.drop).velocity
        z = math.log(t / (1 - t)) if t < 1 else math.inf
        density = scipy.stats.norm.pdf(z) / (t * (1 - t)) if t < 1 else 0.0
        on_real, on_made, nearby = logits(one.x0), logits(x0_hat), logits(one.x0, HEADS.r1_sigma * one.nudge)
        samples.append({
            "task": (said(noised, t) - (one.noise - one.x0)).square().sum() / 16,
            "output": (said(noised, t) - (y - noised) / span).square().sum() / 16,
            "share": density / (4 / math.sqrt(2 * math.pi)),
            "adversarial": sum(fooled(each).sum() / 4 for each in on_made) / 2,
            "judged": sum(real(each).sum() / 4 for each in on_real) / 2
            + sum(generated(each).sum() / 4 for each in on_made) / 2,
            "r1": sum((a - b).square().sum() / 4 for a, b in zip(on_real, nearby, strict=True)) / 2 / HEADS.r1_sigma**2,
            "real_accuracy": float(sum(each.sum() for each in on_real) > 0),
            "generated_accuracy": float(sum(each.sum() for each in on_made) < 0),
        })  # fmt: skip
    return samples


def mean_of(samples: list[dict[str, Any]], name: str) -> Any:
    return sum(one[name] for one in samples) / len(samples)


CASES: dict[str, tuple[dict[str, Any], str]] = {
    "softplus, simulated": ({}, "softplus"),
    "hinge, simulated": ({"adversarial_loss": "hinge"}, "hinge"),
    "at noised data": ({"backward_simulation": False, "teacher_steps": 1}, "softplus"),
    "weights": ({"distillation_weight": 0.3, "adversarial_weight": 2.0}, "softplus"),
    "fixed weights": ({"scaling": "fixed", "task_weight": 0.25, "distillation_weight": 0.3}, "softplus"),
    "the teacher's steps alone": ({"scaling": "fixed", "task_weight": 0.0}, "softplus"),
    "no data and no teacher's output": ({"distillation_weight": 0.0, "teacher_steps": 4}, "softplus"),
    "no discriminator": ({"adversarial_weight": 0.0, "discriminator": DiscriminatorConfig()}, "softplus"),
}


@pytest.mark.parametrize("name", CASES)
def test_parts_sum_and_gradients_are_those_by_hand(name: str) -> None:
    config, kind = CASES[name]
    objective = in_float64(step_distillation(**{"discriminator": HEADS, **config}))
    whole = in_float64(step_distillation(**{**config, "discriminator": HEADS, "adversarial_weight": 1.0}))
    network, batch = student(), batch_of(objective)
    assert set(batch.step.tolist()) == {0, 1, 2, 3}
    samples, losses = by_hand(whole, network, batch, kind), objective.loss(network, batch)
    weights = objective.config.distillation_weight, objective.config.adversarial_weight
    expected: Any = 0
    for one in samples:
        ratio = one["task"].item() / one["output"].item()
        taught = one["share"] * one["task"] + (1 - one["share"]) * ratio * one["output"]
        if objective.config.scaling == "fixed":
            taught = objective.config.task_weight * one["task"] + one["output"]
        expected = expected + (weights[0] * taught + weights[1] * one["adversarial"]) / len(samples)
    torch.testing.assert_close(losses.total, expected, rtol=1e-8, atol=0)
    names = ["adversarial"] * (weights[1] > 0) + ["task", "output"] * (weights[0] > 0)
    assert list(losses.parts) == names
    for part in names:
        torch.testing.assert_close(losses.parts[part], mean_of(samples, part), rtol=1e-8, atol=0)
    trained = list(network.parameters())
    for ours, theirs in zip(
        torch.autograd.grad(losses.total, trained), torch.autograd.grad(expected, trained), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-11)


@pytest.mark.parametrize("kind", ["softplus", "hinge"])
def test_the_discriminators_loss_is_that_by_hand(kind: str) -> None:
    objective = in_float64(step_distillation(discriminator=HEADS, adversarial_loss=kind))
    network, batch = student(), batch_of(objective)
    samples, losses = by_hand(objective, network, batch, kind), objective.judgement(network, batch)
    expected = mean_of(samples, "judged") + HEADS.r1_weight * mean_of(samples, "r1")
    torch.testing.assert_close(losses.total, expected, rtol=1e-8, atol=0)
    assert list(losses.parts) == ["real_accuracy", "generated_accuracy", "r1"]
    for part, value in losses.parts.items():
        torch.testing.assert_close(value, torch.as_tensor(mean_of(samples, part)).to(value), rtol=1e-8, atol=0)
    weights = list(objective.discriminator.parameters())
    for ours, theirs in zip(
        torch.autograd.grad(losses.total, weights), torch.autograd.grad(expected, weights), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-11)


def test_the_penalty_is_the_squared_norm_of_the_gradient() -> None:
    """In the mean over perturbations that are small."""
    torch.manual_seed(0)
    heads = Discriminator([1], 8).double()
    x = torch.randn(1, 1, 4, 4, dtype=torch.float64, requires_grad=True)
    logits = heads([x])[0][0]
    exact = sum(torch.autograd.grad(each, x, retain_graph=True)[0].square().sum() for each in logits) / len(logits)
    nudges, sigma = torch.randn(40_000, 1, 4, 4, dtype=torch.float64), 1e-4
    with torch.no_grad():
        found = r1_penalty(heads([x.expand_as(nudges)]), heads([x + sigma * nudges]), sigma).mean()
    torch.testing.assert_close(found, exact, rtol=0.03, atol=0)


def test_gradients_reach_whom_they_should_and_nobody_else() -> None:
    """In the student's step the student, through a teacher that would take them and heads that stand still; in the
    discriminator's step the heads."""
    teacher = ToyTeacher()
    objective, network = step_distillation(teacher=teacher), undropped(tiny_network()).train()
    heads, batch = objective.discriminator, batch_of(objective)
    with standing_still(heads):
        losses = objective.loss(network, batch)
        assert leaves(losses.total) == leaves(losses.parts["adversarial"]) == set(map(id, network.parameters()))
        losses.total.backward()
    assert all(each.grad is not None and each.grad.abs().sum() > 0 for each in network.parameters())
    with standing_still(network):
        assert leaves(objective.judgement(network, batch).total) == set(map(id, heads.parameters()))
    teacher.answer.requires_grad_(True)
    assert leaves(objective.judgement(network, batch).total) == set(map(id, heads.parameters()))


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"backward_simulation": False},
        {"distillation_weight": 0.0, "teacher_steps": 4},
        {"adversarial_weight": 0.0, "discriminator": DiscriminatorConfig()},
        {"discriminator": dataclasses.replace(HEADS, r1_weight=0.0), "steps": 2, "teacher_steps": 1},
        {"guidance_scale": 1.5},
    ],
)
def test_a_step_takes_the_passes_that_it_is_reckoned_with(config: dict[str, Any]) -> None:
    """Beside one of the student forward and back; back counts twice, and once through a teacher."""
    teacher, passed = ToyTeacher(), []
    objective, network = step_distillation(teacher=teacher, **config), undropped(tiny_network()).train()
    network.register_forward_hook(
        lambda _m, inputs, _o: passed.append((3 if torch.is_grad_enabled() else 1) * len(inputs[0]) // 8)
    )
    batch = batch_of(objective)
    objective.loss(network, batch)
    if objective.discriminator is not None:
        objective.judgement(network, batch)
    passes = objective.config.passes
    assert sum(passed) == 3 * passes.trained + passes.forward
    second = teacher.guided if objective.config.teacher.guidance_scale != 1 else 0  # the empty prompt's
    assert (len(teacher.asked) + second, teacher.differentiated) == (passes.teacher, passes.through_teacher)


def test_nobody_moves_but_student_and_heads(tmp_path: Path) -> None:
    teacher = ToyTeacher()
    before = copy.deepcopy([teacher.answer.state_dict(), teacher.features.state_dict()])
    objective = step_distillation(teacher=teacher)
    first = copy.deepcopy(objective.discriminator.state_dict())
    trained = run(tmp_path, objective=objective)
    after = [teacher.answer.state_dict(), teacher.features.state_dict()]
    for one, other in zip(before, after, strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)
    of_student = tiny_network().state_dict()
    for began, ended in ((of_student, trained.model), (first, objective.discriminator)):
        assert not any(torch.equal(began[name], each) for name, each in ended.named_parameters())
    names = {point.name for point in trained.curve}
    assert names >= {f"train_loss.{part}" for part in ("adversarial", "task", "output")}
    assert names >= {f"discriminator_loss.{part}" for part in ("real_accuracy", "generated_accuracy", "r1")}
    assert "discriminator_gradient_norm" in names


@pytest.mark.parametrize(("steps", "shift"), [(4, 1.0), (3, 2.0), (1, 1.0)])
def test_simulation_is_what_the_sampler_does(steps: int, shift: float) -> None:
    """To the bit: x of each step, and behind the last one the sample."""
    objective = step_distillation(steps=steps, shift=shift)
    network, batch = undropped(tiny_network()).eval(), batch_of(objective)
    v = guided_velocity(network, objective.prompts, batch.labels, 1.0, torch.device("cpu"))
    passed: list[Tensor] = []

    def noting(x: Tensor, t: float) -> Tensor:
        passed.append(x)
        return v(x, t)

    batch = dataclasses.replace(batch, context=objective.prompts.context(batch.labels, batch.drop & False)[0])
    with torch.no_grad():
        end = solve(euler_step, noting, batch.noise, objective.config.sampling.solver_times)
    for number in range(steps):
        found = objective.simulated(network, dataclasses.replace(batch, step=torch.full((8,), number)))
        assert torch.equal(found, passed[number])
    assert objective.validation_loss(network, dataclasses.replace(batch, x0=end)) == 0


def test_its_steps_are_drawn_alike_and_its_samples_noised_by_the_settings() -> None:
    heads = DiscriminatorConfig(renoised_mean=-1.0, renoised_deviation=0.5)
    objective = step_distillation(dataclasses.replace(RECIPE, batch_size=20_000), discriminator=heads)
    rows, labels = torch.zeros(20_000, 1, 1, 1, dtype=torch.uint8), torch.zeros(20_000, dtype=torch.int64)
    batch = objective.batch(rows, labels, HostDraws(0, 1, range(20_000), 20_000))
    assert torch.bincount(batch.step).tolist() == pytest.approx([5000] * 4, rel=0.06)
    assert torch.equal(batch.time, torch.tensor(TIMES)[batch.step])
    logit = torch.logit(batch.renoised_at)
    assert (logit.mean().item(), logit.std().item()) == pytest.approx((-1, 0.5), abs=0.02)
    own, whole = slice(3, 8), batch_of(step_distillation())
    rows, labels = next(training_rows(TinyData(), RECIPE, SEED, 1, range(8)))
    part = step_distillation().batch(rows[own], labels[own], HostDraws(SEED, 1, range(3, 8), 8))
    for each in dataclasses.fields(part):
        ours, theirs = getattr(part, each.name), getattr(whole[own], each.name)
        assert ours is theirs is None or torch.equal(ours, theirs), each.name


def test_in_bfloat16_passes_without_gradients_leave_those_with_them_theirs() -> None:
    """Autocast keeps weights that it has cast, and once kept those of a pass without gradients."""
    objective, network = step_distillation(), undropped(tiny_network()).train()
    with torch.autocast("cpu", torch.bfloat16):
        objective.loss(network, batch_of(objective)).total.backward()
    assert all(each.grad.abs().sum() > 0 for each in network.parameters())


def test_the_validation_loss_compares_ends_of_two_ways_from_one_noise() -> None:
    """A student that is its teacher is as far from it as four Euler steps are from the teacher's own."""
    teacher = ToyTeacher()
    objective = step_distillation(teacher=teacher, validation_steps=64)

    class Copy(nn.Module):
        def forward(self, x: Tensor, time: Tensor, _context: Tensor, _mask: None) -> Tensor:
            return teacher(x, time, self.labels, torch.zeros_like(self.labels, dtype=torch.bool)).velocity

    network, few, many = Copy(), 0.0, 0.0
    for batch in objective.validation:
        network.labels = batch.labels
        few += float(objective.validation_loss(network, batch))
        objective.times = dataclasses.replace(objective.config.sampling, steps=64).solver_times
        many += float(objective.validation_loss(network, batch))
        objective.times = objective.config.sampling.solver_times
    assert 0 < many < few / 50
    assert sum(map(len, objective.validation)) == RECIPE.validation_images


def points(steps: list[int], real: list[float], generated: list[float]) -> list[CurvePoint]:
    names = ("discriminator_loss.real_accuracy", "discriminator_loss.generated_accuracy")
    return [
        CurvePoint(step=step, name=name, value=value)
        for step, *both in zip(steps, real, generated, strict=True)
        for name, value in zip(names, both, strict=True)
    ]


@pytest.mark.parametrize(
    ("real", "generated", "says"),
    [
        ([0.5, 1.0, 0.99, 1.0], [0.5, 1.0, 1.0, 0.99], "has told at least 99% of the real samples and of the gener"),
        ([0.5, 1.0, 1.0, 1.0], [0.5, 0.0, 0.01, 0.0], "wrong about at least 99% of the generated samples"),
        ([0.5, 0.0, 0.0, 0.0], [0.5, 1.0, 0.9, 0.8], "wrong about at least 99% of the real samples"),
        ([0.5, 1.0, 0.98, 1.0], [0.5, 1.0, 1.0, 1.0], None),
        ([0.5] * 4, [0.5] * 4, None),
        ([1.0] * 4, [1.0] * 4, None),  # told before
    ],
)
def test_no_match_is_told_when_it_has_lasted(real: list[float], generated: list[float], says: str | None) -> None:
    found = no_match(points([10, 20, 30, 40], real, generated), 30, steps=40)
    assert (found is None) == (says is None)
    assert says is None or (says in found and found.startswith("step 40: over the last 30 steps"))
    assert no_match(points([10, 20], real[1:3], generated[1:3]), 30, steps=40) is None  # not so long yet
    assert no_match([CurvePoint(step=40, name="train_loss", value=1.0)], 30, steps=40) is None


def test_a_training_shorter_than_the_window_is_one_window() -> None:
    always = [1.0] * 3
    assert no_match(points([10, 20], always[:2], always[:2]), 100, steps=25) is None
    said = no_match(points([10, 20, 25], always, always), 100, steps=25)
    assert said is not None
    assert said.startswith("step 25: over the last 25 steps the discriminator has told at least 99%")
    assert no_match(points([10, 20, 25], [0.9, 1.0, 1.0], always), 100, steps=25) is None
    assert no_match(points([5, 10, 15], always, always), 100, steps=15) is None  # it has only begun
    assert no_match(points([5, 10, 15], always, always), 15, steps=15) is not None


@pytest.mark.parametrize(
    ("answer", "says"), [("wins", "has told at least 99%"), ("loses", "wrong about at least 99% of the generated")]
)
def test_a_discriminator_that_is_no_match_is_told_of(
    answer: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """In the log and in the record's notes, once, whenever the training is interrupted."""
    planted = {"wins": lambda is_real: 5.0 if is_real else -5.0, "loses": lambda _is_real: 5.0}[answer]
    own = StepDistillation._logits

    def logits(self: Any, x0: Tensor, batch: SteppedImages, **more: Any) -> list[Tensor]:
        return [0 * each + planted(x0 is batch.x0) for each in own(self, x0, batch, **more)]

    monkeypatch.setattr(StepDistillation, "_logits", logits)
    with caplog.at_level(logging.WARNING):
        trained = run(tmp_path, objective=step_distillation())
    (note,) = trained.effort.notes
    assert note.startswith("step 8: over the last 8 steps the discriminator")
    assert says in note
    assert note in caplog.text
    assert run(tmp_path, objective=step_distillation()).effort.notes == (note,)


def test_a_loss_below_zero_is_no_reference_of_a_multiple(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = StepDistillation._logits
    monkeypatch.setattr(StepDistillation, "_logits", lambda *a, **more: [each + 50 for each in own(*a, **more)])
    recipe = dataclasses.replace(RECIPE, steps=4, spike=2.0, spike_window=2)
    trained = run(tmp_path, recipe, objective=step_distillation(recipe, adversarial_loss="hinge"))
    assert trained.steps == 4
    assert next(point.value for point in trained.curve if point.name == "train_loss") < 0


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"steps": 0}, "objective.steps must be at least 1, not 0"),
        ({"adversarial_loss": "lsgan"}, "objective.adversarial_loss"),
        ({"distillation_weight": -1.0}, "objective.distillation_weight must be a number from 0, not -1.0"),
        ({"distillation_weight": 0.0, "adversarial_weight": 0.0}, "are both 0; give one of them"),
        ({"adversarial_weight": 0.0, "discriminator": HEADS}, "objective.discriminator means nothing with"),
        ({"shift": 0.0}, "objective.shift must be a number above 0"),
        ({"scaling": "none"}, "objective.scaling"),
        ({"adversarial_weight": 0.0, "backward_simulation": False}, "objective.backward_simulation means nothing with"),
        ({"distillation_weight": 0.0, "teacher_steps": 2}, "objective.teacher_steps means nothing with"),
        ({"task_weight": 0.0}, "objective.task_weight means nothing with objective.scaling=timestep_aware"),
        ({"scaling": "fixed", "distillation_weight": 0.0}, "objective.scaling means nothing with"),
    ],
)
def test_settings_that_cannot_be_are_one_sentence(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says.replace(".", r"\.")):
        StepDistillationConfig(teacher=TEACHER, **settings)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"taps": ()}, "taps are different places, at least one"),
        ({"width": 0}, "width must be at least 4"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0"),
        ({"r1_weight": -1.0}, "r1_weight must be a number from 0"),
        ({"betas": (0.0, 1.0)}, "betas are from 0 to below 1"),
    ],
)
def test_so_are_those_of_the_discriminator(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=f"objective.discriminator.{says}"):
        DiscriminatorConfig(**settings)


def test_places_that_do_not_exist_are_answered_with_those_that_do() -> None:
    named = DiscriminatorConfig(taps=("elsewhere",))
    with pytest.raises(UserError, match=r"objective\.discriminator\.taps 'elsewhere'.*early, late"):
        check_judged_by(StepDistillationConfig(teacher=TEACHER, discriminator=named), TAPS)
    with pytest.raises(UserError, match=r"it has none; give objective\.adversarial_weight=0"):
        check_judged_by(StepDistillationConfig(teacher=TEACHER), {})
    check_judged_by(StepDistillationConfig(teacher=TEACHER, adversarial_weight=0.0), {})
    spread = {f"block.{number}": 8 for number in range(10)}
    assert judged_by(DiscriminatorConfig(), spread) == ("block.1", "block.4", "block.6", "block.9")


def test_logits_are_of_each_sample_alone() -> None:
    torch.manual_seed(0)
    heads, features = Discriminator([3, 4], 8), [torch.randn(5, 3, 2, 2), torch.randn(5, 4, 1, 1)]
    together = heads(features)
    assert [each.shape for each in together] == [(5, 4), (5, 1)]
    alone = heads([each[2:3] for each in features])
    for one, all_of_them in zip(alone, together, strict=True):
        torch.testing.assert_close(one, all_of_them[2:3])
    assert F.softplus(together[0]).isfinite().all()
