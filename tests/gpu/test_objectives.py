"""Objectives on CUDA: with a teacher, prompts that stay on the disk, compiled blocks, networks that processes share."""

import copy
import dataclasses

import pytest
import torch
from small_training import (
    CLOSE,
    CUDA,
    DIT,
    OBJECTIVES,
    OF_EACH_OBJECTIVE,
    ON_BOTH,
    RECIPE,
    Data,
    Table,
    continued_alike,
    first_losses,
    network_of,
    objective_of,
)

from harness.data import prompts
from harness.training.batches import training_rows
from harness.training.parallel import wrapped
from harness.training.parallel_config import DdpParallel, FsdpParallel
from harness.training.randomness import HostDraws

pytestmark = pytest.mark.timeout(180)


@pytest.mark.parametrize("objective", ["distillation", "step_distillation"])
@ON_BOTH
def test_one_with_a_teacher_is_continued_too(tmp_path, device, objective) -> None:
    continued_alike(tmp_path, device, CLOSE[objective], config=DIT, objective=objective)


@pytest.mark.parametrize(
    "settings", [{}, {"compile": True}, pytest.param({"cuda_graph": True}, marks=CUDA.marks)], ids=str
)
@ON_BOTH
def test_prompts_that_stay_on_the_disk_train_alike(tmp_path, device, settings, monkeypatch, compiler: None) -> None:
    """Two steps of each way to compute them."""
    if settings.get("cuda_graph") and device == "cpu":
        pytest.skip("a processor records nothing")
    given = {"config": DIT, "prompts": Table(DIT).table, **settings}
    expected = first_losses(tmp_path / "memory", device, 2, **given)
    monkeypatch.setattr(prompts, "MOST_IN_MEMORY", 0)
    assert first_losses(tmp_path / "disk", device, 2, **given) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("objective", ["distillation", "step_distillation"])
@ON_BOTH
def test_compiled_blocks_learn_from_a_teacher_as_the_others(
    tmp_path, device, objective, compiler: None, no_tf32: None
) -> None:
    """Whose features a hook in them keeps."""
    plain, compiled = (
        first_losses(tmp_path / str(each), device, 3, DIT, objective=objective, compile=each) for each in (False, True)
    )
    assert compiled == pytest.approx(plain, rel=CLOSE[objective])


@pytest.mark.parametrize("parallel", [DdpParallel(), FsdpParallel()], ids=["ddp", "fsdp"])
@OF_EACH_OBJECTIVE
@ON_BOTH
def test_an_objective_asks_a_shared_network_as_the_module_alone(
    device, parallel, objective, group, monkeypatch, no_tf32: None
) -> None:
    """Of its features, several times, and back: losses and gradients, with prompts that stay on the disk."""
    monkeypatch.setattr(prompts, "MOST_IN_MEMORY", 0)
    alone, on, data = network_of(DIT).to(device), torch.device(device), Data((DIT.latent_channels, 8, 8))
    called, recipe, found = wrapped(copy.deepcopy(alone), parallel), dataclasses.replace(RECIPE, device=device), []
    for network in (alone, called):
        asked = objective_of(OBJECTIVES[objective], DIT, data, Table(DIT).table, recipe, on)
        rows, labels = next(training_rows(data, recipe, 0, 1, range(6)))
        losses = asked.loss(network.train(), asked.batch(rows, labels, HostDraws(0, 1, range(6), 6)))
        losses.total.backward()
        gradients = [getattr(each.grad, "full_tensor", lambda each=each: each.grad)() for each in network.parameters()]
        found.append([losses.total.item(), *(float(each.norm()) for each in gradients)])
    assert found[1] == pytest.approx(found[0], rel=1e-3, abs=1e-6)
