"""Distillation's losses against hand calculations, and whom their gradients reach."""

import copy
import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from tiny_training import (
    LEARNER,
    RECIPE,
    SEED,
    TinyData,
    TinyPrompts,
    distillation,
    flow_matching,
    in_float64,
    run,
    step_distillation,
    tiny_network,
    undropped,
)  # fmt: skip
from torch import Tensor, nn
from torch.nn import functional as F
from toy_teacher import TAPS, Answers, ToyTeacher

from harness.architecture.catalogue import architecture
from harness.architecture.edits import with_edits
from harness.diffusion.flow_matching import interpolate
from harness.models.build import build
from harness.models.parameters import filled_copy
from harness.records.errors import UserError
from harness.training.batches import training_rows
from harness.training.objective_config import DiscriminatorConfig, DistillationConfig
from harness.training.objectives.distillation import (
    MAXIMUM,
    Distillation,
    Learner,
    TaughtImages,
    check_taps,
    data_share,
    logit_normal_density,
    resized,
    rounding_of,
    scaled,
)  # fmt: skip
from harness.training.randomness import HostDraws
from harness.training.teacher import TeacherOutput
from harness.training.teacher_config import TrainedTeacher

TEACHER = TrainedTeacher(name="toy")
TWO_TOKENS = {"context_length": 2, "context_width": 5}
HALVED = torch.tensor([[3.0, 3, 1, 0], [0, 1, 3, 3]], dtype=torch.float64) / 7
"""Of four pixels two: a triangle as wide as two of the new ones, cut at the edge."""


class Rounded:
    """A teacher that is the student, its weights cast."""

    identity, taps = "the same", TAPS

    def __init__(self, student: nn.Module, prompts: TinyPrompts) -> None:
        self.network, self.prompts = copy.deepcopy(student).bfloat16(), prompts

    def __call__(self, x_t: Tensor, time: Tensor, labels: Tensor, drop: Tensor, *_: Any, **__: Any) -> TeacherOutput:
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            return TeacherOutput(self.network(x_t, time, *self.prompts.context(labels, drop)).float())


def batch_of(objective: Distillation) -> TaughtImages:
    rows, labels = next(training_rows(TinyData(), RECIPE, SEED, 1, range(8)))
    return objective.batch(rows, labels, HostDraws(SEED, 1, range(8), 8))


def student() -> nn.Module:
    return undropped(tiny_network()).double().train()


def by_hand(objective: Distillation, network: nn.Module, batch: TaughtImages) -> list[dict[str, Tensor]]:
    """Of each sample the three losses, and a_t: sums written out, one sample after the other."""
    samples = []
    projection = objective.features.projection
    for index in range(len(batch)):
        one = batch[index : index + 1]
        t = one.time.item()
        x_t = (1 - t) * one.x0 + t * one.noise
        taught = ToyTeacher()(x_t, one.time, one.labels, one.drop, ["late"])
        map_of_two = torch.einsum("ih,bchw,jw->bcij", HALVED, network.enter(x_t), HALVED)
        projected = torch.einsum("oc,bchw->bohw", projection.weight[:, :, 0, 0], map_of_two)
        said = network(x_t, one.time, one.context, None)
        z = math.log(t / (1 - t))
        samples.append({
            "task": (said - (one.noise - one.x0)).square().sum() / 16,
            "output": (said - taught.velocity).square().sum() / 16,
            "feature": (projected + projection.bias[:, None, None] - taught.features["late"]).square().sum() / 16,
            "share": scipy.stats.norm.pdf(z) / (t * (1 - t)) / (4 / math.sqrt(2 * math.pi)),
        })  # fmt: skip
    return samples


def timestep_aware(one: dict[str, Any], names: tuple[str, ...]) -> Tensor:
    a, task = one["share"], one["task"]
    return sum(a * task + (1 - a) * (task.item() / one[name].item()) * one[name] for name in names)


CASES: dict[str, tuple[dict[str, Any], Any]] = {
    "timestep-aware": ({}, lambda one: timestep_aware(one, ("output", "feature"))),
    "output alone": ({"features": False}, lambda one: timestep_aware(one, ("output",))),
    "fixed": (
        {"scaling": "fixed", "output_weight": 0.3, "feature_weight": 2.0},
        lambda one: one["task"] + 0.3 * one["output"] + 2 * one["feature"],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_parts_sum_and_gradients_are_those_by_hand(name: str) -> None:
    """The gradient of each weight of the student and of the projection; r is a number in it."""
    config, total = CASES[name]
    objective, whole = in_float64(distillation(**config)), in_float64(distillation())
    network = student()
    batch = batch_of(objective)
    samples = by_hand(whole, network, batch)
    with torch.autocast("cpu", torch.bfloat16):
        losses = objective.loss(network, batch)
    expected = sum(map(total, samples)) / len(samples)
    torch.testing.assert_close(losses.total, expected, rtol=1e-9, atol=0)
    names = ["task", "output"] + ["feature"] * config.get("features", True)
    assert list(losses.parts) == names
    for part, value in losses.parts.items():
        torch.testing.assert_close(value, sum(one[part] for one in samples) / len(samples), rtol=1e-9, atol=0)
    weights = list(network.parameters())
    for ours, theirs in zip(
        torch.autograd.grad(losses.total, weights, retain_graph=True),
        torch.autograd.grad(expected, weights, retain_graph=True), strict=True,
    ):  # fmt: skip
        torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=1e-12)
    if objective.features is not None:
        (ours,) = torch.autograd.grad(losses.total, objective.features.projection.weight)
        (theirs,) = torch.autograd.grad(expected, whole.features.projection.weight)
        torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=1e-12)


def leaves(loss: Tensor) -> set[int]:
    """The tensors that gradients of it reach, by their identity."""
    found, seen, waiting = set(), set(), [loss.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            found.add(id(node.variable))
        waiting += [each for each, _ in node.next_functions]
    return found


def test_gradients_reach_student_and_projection_and_nothing_else() -> None:
    """Not a teacher that would take them, and not r."""
    teacher = ToyTeacher()
    teacher.answer.requires_grad_(True)
    objective, network = distillation(teacher=teacher), undropped(tiny_network()).train()
    loss = objective.loss(network, batch_of(objective)).total
    trained = [*network.parameters(), *objective.features.projection.parameters()]
    assert leaves(loss) == set(map(id, trained))
    task, taught = (torch.tensor([value], requires_grad=True) for value in (3.0, 0.5))
    scaled(task, taught, torch.tensor([0.9]), torch.zeros(1)).sum().backward()
    share = data_share(torch.tensor([0.9]))
    torch.testing.assert_close(task.grad, share)
    torch.testing.assert_close(taught.grad, (1 - share) * 6.0)


def test_the_teacher_stays_as_it_is_and_the_average_has_no_part_in_the_loss(tmp_path: Path) -> None:
    teacher = ToyTeacher()
    parts = (teacher.answer, teacher.features)
    before = copy.deepcopy([part.state_dict() for part in parts])
    trained = run(tmp_path, objective=distillation(teacher=teacher))
    for began, part in zip(before, parts, strict=True):
        torch.testing.assert_close(dict(part.state_dict()), dict(began), rtol=0, atol=0)
    began = dict(tiny_network().named_parameters())
    assert not any(torch.equal(began[name], each) for name, each in trained.model.named_parameters())
    assert all(parameter.grad is None for parameter in trained.model.parameters())
    names = {point.name for point in trained.curve}
    assert {"train_loss.task", "train_loss.output", "train_loss.feature", "projection_gradient_norm"} <= names


def test_the_share_is_the_density_over_its_maximum() -> None:
    """logit-normal(0, 1) by the change of variables, at its highest at t = 1/2, where the print has 1.596."""
    t = np.linspace(0.001, 0.999, 999)
    density = scipy.stats.norm.pdf(np.log(t / (1 - t))) / (t * (1 - t))
    times = torch.from_numpy(t)
    torch.testing.assert_close(logit_normal_density(times), torch.from_numpy(density), rtol=1e-9, atol=0)
    assert pytest.approx(1.596, abs=5e-4) == MAXIMUM == pytest.approx(density.max(), rel=1e-9)
    assert t[density.argmax()] == pytest.approx(0.5)
    assert float(torch.trapezoid(logit_normal_density(times), times)) == pytest.approx(1, abs=1e-3)
    shares = data_share(torch.cat([torch.tensor([0.0, 1.0]), times.float()]))
    assert shares[:2].tolist() == pytest.approx([0, 0], abs=1e-20)
    assert bool(((shares >= 0) & (shares <= 1)).all())
    assert data_share(torch.tensor([0.5])).item() == pytest.approx(1)


@pytest.mark.parametrize("scaling", ["timestep_aware", "fixed"])
def test_a_teacher_equal_to_the_data_falls_back_to_the_task(scaling: str) -> None:
    """The loss and its gradients are flow matching's; with fixed weights of 1, twice those."""
    objective = in_float64(distillation(features=False, scaling=scaling))
    network, batch = student(), batch_of(objective)
    objective.teacher = Answers(batch.noise - batch.x0)
    taught, plain = objective.loss(network, batch), in_float64(flow_matching()).loss(network, batch)
    times = {"timestep_aware": 1, "fixed": 2}[scaling]
    torch.testing.assert_close(taught.total, times * plain.total)
    weights = list(network.parameters())
    for ours, theirs in zip(
        torch.autograd.grad(taught.total, weights), torch.autograd.grad(plain.total, weights), strict=True
    ):
        torch.testing.assert_close(ours, times * theirs)


def test_a_student_equal_to_its_teacher_still_has_the_data_to_learn_from() -> None:
    """r is bounded: the gradient of what is 0 is 0, not no number."""
    objective = in_float64(distillation(features=False))
    network, batch = student(), batch_of(objective)
    x_t = interpolate(batch.x0, batch.noise, batch.time)
    objective.teacher = Answers(network(x_t, batch.time, batch.context, None).detach())
    weights = list(network.parameters())
    found = torch.autograd.grad(objective.loss(network, batch).total, weights)
    errors = (network(x_t, batch.time, batch.context, None) - (batch.noise - batch.x0)).square().mean((1, 2, 3))
    expected = torch.autograd.grad((data_share(batch.time) * errors).mean(), weights)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("of", ["distillation", "step_distillation"])
def test_rounding_decides_no_step(of: str) -> None:
    """A student that is its teacher but for bfloat16's rounding, as trainings compute in it: the gradient is at most
    about the task's, and mostly the data's. With no bound it was 65 and 118 times as long, and pointed anywhere."""
    recipe = dataclasses.replace(RECIPE, precision="bfloat16")
    given = {"distillation": {"features": False}, "step_distillation": {"adversarial_weight": 0.0, "discriminator":
             DiscriminatorConfig(), "teacher_steps": 1}}  # fmt: skip
    objective: Any = {"distillation": distillation, "step_distillation": step_distillation}[of](recipe, **given[of])
    torch.manual_seed(0)
    network = filled_copy(build(with_edits(architecture("laptop/thin_sdxl"), TWO_TOKENS))).train()
    objective.teacher = Rounded(network, objective.prompts)
    batch = batch_of(objective)
    weights = list(network.parameters())

    def gradient(loss: Callable[[], Tensor]) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            total = loss()
        return torch.cat([each.flatten() for each in torch.autograd.grad(total, weights)])

    def errors() -> Tensor:
        x_t = interpolate(batch.x0, batch.noise, batch.time)
        said = network(x_t, batch.time, batch.context, None).to(x_t.dtype)
        return (said - (batch.noise - batch.x0)).square().mean((1, 2, 3))

    with torch.autocast("cpu", torch.bfloat16):
        losses = objective.loss(network, batch)
    assert 0 < losses.parts["output"] < 1e-3 * losses.parts["task"]
    found, task = gradient(lambda: objective.loss(network, batch).total), gradient(lambda: errors().mean())
    data = gradient(lambda: (data_share(batch.time) * errors()).mean())
    assert found.norm() < 1.5 * task.norm()
    assert F.cosine_similarity(found, data, 0) > 0.5


def test_the_bound_is_by_precision_and_lets_all_else_be() -> None:
    """Of float32, of bfloat16 wherever one of the two computes in it; above it r is |L_task| / |L_kd|."""
    cpu, half = torch.device("cpu"), dataclasses.replace(RECIPE, precision="bfloat16")
    assert rounding_of(TEACHER, RECIPE, cpu) == 4 * 2**-23
    assert rounding_of(TEACHER, half, cpu) == 4 * 2**-7
    assert rounding_of(dataclasses.replace(TEACHER, precision="bfloat16"), RECIPE, cpu) == 4 * 2**-7
    assert rounding_of(TEACHER, RECIPE, torch.device("cuda")) in (4 * 2**-10, 4 * 2**-7), "TF32, or bfloat16"
    taught = torch.tensor([2.0, 1e-2, 0.0], requires_grad=True)
    scaled(torch.full((3,), 6.0), taught, torch.full((3,), 0.9), torch.full((3,), 0.5)).sum().backward()
    left = 1 - data_share(torch.tensor(0.9))
    torch.testing.assert_close(taught.grad, left * torch.tensor([3.0, 12.0, 12.0]))


def test_the_teacher_is_asked_for_the_students_own_samples() -> None:
    teacher = ToyTeacher()
    objective = distillation(dataclasses.replace(RECIPE, cfg_dropout=0.5), teacher=teacher, teacher_tap="early")
    batch = batch_of(objective)
    objective.loss(undropped(tiny_network()), batch)
    x_t, time, labels, drop, tap = teacher.asked[0]
    assert torch.equal(x_t, interpolate(batch.x0, batch.noise, batch.time))
    assert torch.equal(time, batch.time)
    assert torch.equal(TinyPrompts().context(labels, drop)[0], batch.context)
    assert (drop.any(), drop.all(), tap) == (True, False, ("early",))


def test_the_validation_loss_is_flow_matchings(tmp_path: Path) -> None:
    ours, plain = distillation(), flow_matching()
    network = undropped(tiny_network()).eval()
    for own, theirs in zip(ours.validation, plain.validation, strict=True):
        assert ours.validation_loss(network, own) == plain.validation_loss(network, theirs)


def test_the_projection_begins_as_the_seed_says() -> None:
    def projection(seed: int) -> Tensor:
        given = (TinyData(), TinyPrompts(), RECIPE, torch.device("cpu"), ToyTeacher())
        objective = Distillation(DistillationConfig(teacher=TEACHER), *given, dataclasses.replace(LEARNER, seed=seed))
        return objective.features.projection.weight

    assert torch.equal(projection(1), projection(1))
    assert not torch.equal(projection(1), projection(2))
    assert projection(1).shape == (TAPS["late"], LEARNER.taps["enter"], 1, 1)


@pytest.mark.parametrize("side", [2, 8])
def test_projecting_commutes_with_resizing(side: int) -> None:
    """So it is done where there are fewer pixels."""
    feature, projection = torch.randn(2, 8, 4, 4), nn.Conv2d(8, 3, 1)
    size = torch.Size((side, side))
    torch.testing.assert_close(projection(resized(feature, size)), resized(projection(feature), size))
    grown = F.interpolate(feature, size=(8, 8), mode="bilinear")
    torch.testing.assert_close(resized(feature, torch.Size((8, 8))), grown)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"scaling": "timestep-aware"}, "objective.scaling"),
        ({"output_weight": -1.0}, "objective.output_weight must be a number from 0, not -1.0"),
        ({"output_weight": 0.5}, "output_weight means nothing with objective.scaling=timestep_aware; leave out one"),
        ({"features": False, "teacher_tap": "late"}, "objective.teacher_tap means nothing with objective.features=fal"),
    ],
)
def test_settings_that_cannot_be_are_one_sentence(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says.replace(".", r"\.")):
        DistillationConfig(teacher=TEACHER, **settings)
    with pytest.raises(UserError, match=r"objective\.teacher\.guidance_scale must be a number from 1"):
        TrainedTeacher(name="toy", guidance_scale=0.5)


def test_places_that_do_not_exist_are_answered_with_those_that_do() -> None:
    config, learner = DistillationConfig(teacher=TEACHER), Learner(taps={"up.0.attention.0": 8}, seed=0)
    check_taps(config, learner.taps, TAPS)
    with pytest.raises(UserError, match=r"'elsewhere'.*early, late"):
        check_taps(dataclasses.replace(config, teacher_tap="elsewhere"), learner.taps, TAPS)
    with pytest.raises(UserError, match=r"'up\.1\.attention\.0'.*up\.0\.attention\.0"):
        check_taps(dataclasses.replace(config, student_tap="up.1.attention.0"), learner.taps, TAPS)
    with pytest.raises(UserError, match=r"the student has none; give objective\.features=false"):
        check_taps(config, {}, TAPS)
    check_taps(dataclasses.replace(config, features=False), {}, {})
