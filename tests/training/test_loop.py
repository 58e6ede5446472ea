"""What one training does: learns, averages, stops when it diverges, leaves its caller alone."""

import dataclasses
import math
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from safetensors.torch import load_file
from tiny_training import (
    OBJECTIVES,
    RECIPE,
    SEED,
    Judged,
    TinyData,
    TinyImages,
    TinyNetwork,
    TinyPrompts,
    flow_matching,
    in_float64,
    run,
    tiny_network,
    undropped,
)
from torch import Tensor

from harness.architecture.catalogue import architecture
from harness.architecture.edits import with_edits
from harness.diffusion.flow_matching import flow_matching_loss
from harness.models.build import build
from harness.models.parameters import fill_weights
from harness.records.errors import UserError
from harness.training import batches, loop
from harness.training.batches import training_rows
from harness.training.objective_config import FlowMatchingConfig
from harness.training.objectives.flow_matching import FlowMatching
from harness.training.optimizer import AdamW, Optimizer
from harness.training.outcomes import Diverged, Trained
from harness.training.randomness import HostDraws


def values(trained: Trained, name: str) -> dict[int, float]:
    return {point.step: point.value for point in trained.curve if point.name == name}


def test_it_learns(tmp_path: Path) -> None:
    trained = run(tmp_path, dataclasses.replace(RECIPE, steps=150, schedule="constant", checkpoint_every=1000))
    losses = values(trained, "train_loss")
    assert losses[148] < 0.7 * losses[4]
    assert trained.validation_loss < 0.7 * losses[4]


def test_the_curve_has_its_points_at_its_steps(unbroken: Trained) -> None:
    for name in ("train_loss", "gradient_norm", "learning_rate"):
        assert list(values(unbroken, name)) == [4, 8, 12, 14]
    assert list(values(unbroken, "validation_loss")) == [6, 12, 14]
    assert unbroken.validation_loss == values(unbroken, "validation_loss")[14]
    assert values(unbroken, "learning_rate")[14] == RECIPE.learning_rate_at(14)


def test_against_a_loop_written_out(tmp_path: Path, unbroken: Trained) -> None:
    """The same steps by plain PyTorch: AdamW without fusion, the average by its formula."""
    model = tiny_network().train()
    average = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    decayed = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in model.parameters() if parameter.ndim == 1]
    groups = [{"params": decayed}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, betas=RECIPE.betas, weight_decay=RECIPE.weight_decay, foreach=False)
    losses = []
    objective = flow_matching()
    for step, (rows, labels) in enumerate(training_rows(TinyData(), RECIPE, SEED, 1, range(8)), start=1):
        batch = objective.batch(rows, labels, HostDraws(SEED, step, range(8), 8))
        torch.manual_seed(loop.stream_seed(SEED, "module", step))
        loss = flow_matching_loss(model, *batch.arguments())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = RECIPE.learning_rate_at(step)
        optimizer.step()
        decay = min(0.9, (1 + step) / (10 + step))
        for name, parameter in model.named_parameters():
            average[name] = decay * average[name] + (1 - decay) * parameter.detach()
        losses.append(loss.item())
    for name, parameter in unbroken.model.named_parameters():
        torch.testing.assert_close(parameter, average[name], atol=1e-5, rtol=1e-4)
    assert values(unbroken, "train_loss")[4] == pytest.approx(sum(losses[:4]) / 4, rel=1e-5)
    assert values(unbroken, "train_loss")[14] == pytest.approx(sum(losses[12:]) / 2, rel=1e-5)


def test_decay_shrinks_kernels_and_matrices_and_no_norm_of_any_shape() -> None:
    """A step without a gradient: what is decayed is (1 - learning rate * decay) of what it was, the rest as it was."""
    config = with_edits(architecture("laptop/thin_sdxl"), {"norm": "layer", "qk_norm": "rms"})
    model = build(config)
    fill_weights(model)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimizer = Optimizer(model, AdamW(learning_rate=0.5, weight_decay=0.1))
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step(0.5)
    shrunk = {name for name, p in model.named_parameters() if torch.allclose(p, 0.95 * before[name], rtol=1e-6, atol=0)}
    kept = {name for name, p in model.named_parameters() if torch.equal(p, before[name])}
    assert shrunk | kept == before.keys()
    assert kept == {name for name in before if "norm" in name.split(".")[-2] or name.endswith("bias")}


def test_validation_is_of_the_averaged_model_on_fixed_pairs(unbroken: Trained) -> None:
    pairs, again = flow_matching().validation, flow_matching().validation
    assert [len(batch) for batch in pairs] == [8, 2]
    assert all(torch.equal(a.noise, b.noise) and torch.equal(a.time, b.time) for a, b in zip(pairs, again, strict=True))
    assert validated(flow_matching(), unbroken.model) == unbroken.validation_loss
    # stratified: one time in each tenth of the logit-normal distribution
    tenths = torch.special.ndtr(torch.logit(torch.cat([batch.time for batch in pairs]))) * 10
    assert sorted(tenths.int().tolist()) == list(range(10))


@torch.no_grad()
def validated(objective: FlowMatching, network: torch.nn.Module) -> float:
    pairs = objective.validation
    return sum(float(objective.validation_loss(network, each)) * len(each) for each in pairs) / sum(map(len, pairs))


def test_validation_does_not_depend_on_how_it_is_cut(unbroken: Trained) -> None:
    cuts = [flow_matching(dataclasses.replace(RECIPE, batch_size=size)) for size in (1, 3, 10)]
    losses = [validated(objective, unbroken.model) for objective in cuts]
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-5)


class Failing(TinyNetwork):
    """Goes wrong at its n-th training step: in the loss, or only in the gradient."""

    weight_decay: ClassVar[dict[str, bool]] = {"zero": False}

    def __init__(self, at: int, how: str) -> None:
        super().__init__()
        self.at, self.how, self.count = at, how, 0
        self.zero = torch.nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor, time: Tensor, context: Tensor, mask: Tensor | None) -> Tensor:
        out = super().forward(x, time, context, mask)
        self.count += self.training
        if not self.training or self.count < self.at:
            return out + self.zero
        if self.how == "gradient":
            return out + torch.sqrt(self.zero * 0)  # the square root's slope at 0 is infinite, times 0 is NaN
        return out * {"nan": math.nan, "inf": math.inf, "high": 1e3}[self.how]


@pytest.mark.parametrize("read_at_once", [("cpu",), ()], ids=["read each step", "read when due"])
@pytest.mark.parametrize("how", ["nan", "inf", "high", "gradient"])
def test_divergence_has_its_step_and_last_good_loss_and_is_never_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str, read_at_once: tuple[str, ...]
) -> None:
    monkeypatch.setattr(loop, "READ_AT_ONCE", read_at_once)
    recipe = dataclasses.replace(RECIPE, log_every=1 if read_at_once else 4, checkpoint_every=5)
    points = []
    torch.manual_seed(0)
    with pytest.raises(Diverged, match=r"training diverged at step 9 \(.*\); the last good loss: it was") as caught:
        run(tmp_path, recipe, model=Failing(9, how), on_point=points.append)
    assert caught.value.step == 9
    if read_at_once:
        assert caught.value.last_good_loss == [point.value for point in points if point.name == "train_loss"][7]
    checkpoint, _ = loop.latest(tmp_path)
    assert checkpoint is not None
    assert checkpoint.step == 5
    assert all(tensor.isfinite().all() for tensor in load_file(checkpoint.path / "tensors.safetensors").values())


def test_a_continued_training_that_diverges_tells_its_whole_curve(tmp_path: Path) -> None:
    recipe, heard = dataclasses.replace(RECIPE, log_every=1, checkpoint_every=5), []
    with pytest.raises(Diverged) as first:
        run(tmp_path, recipe, model=Failing(9, "nan"))
    with pytest.raises(Diverged, match="at step 9") as second:
        run(tmp_path, recipe, model=Failing(4, "nan"), on_point=heard.append)
    assert {point.step for point in heard} == set(range(1, 9))  # those of the checkpoint first
    assert [point.step for point in second.value.curve if point.name == "train_loss"] == list(range(1, 9))
    assert second.value.curve == first.value.curve


def test_a_first_step_that_is_not_a_number_has_no_good_loss(tmp_path: Path) -> None:
    with pytest.raises(Diverged, match=r"step 1 \(train_loss is nan\); the last good loss: there was none"):
        run(tmp_path, model=Failing(1, "nan"))
    assert loop.latest(tmp_path) == (None, ())


def test_weights_that_are_not_finite_are_not_saved_whatever_the_loss(tmp_path: Path) -> None:
    network = tiny_network()

    def spoil(step: int, _of: int) -> None:
        if step == 13:
            network.norm.running_var[0] = math.inf

    with pytest.raises(Diverged):
        run(tmp_path, model=network, on_progress=spoil)
    checkpoint, _ = loop.latest(tmp_path)
    assert checkpoint is not None
    assert checkpoint.step == 10


def test_reading_losses_late_changes_nothing(
    tmp_path: Path, unbroken: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "READ_AT_ONCE", ())
    assert run(tmp_path).curve == unbroken.curve


def test_images_too_large_for_memory_give_the_same_training(
    tmp_path: Path, unbroken: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "IN_MEMORY_BYTES", 0)
    assert run(tmp_path).curve == unbroken.curve


@pytest.mark.parametrize("workers", [0, 2])
def test_an_image_that_changed_while_in_use_is_one_sentence_from_a_loader_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    monkeypatch.setattr(batches, "IN_MEMORY_BYTES", 0)
    monkeypatch.setattr(TinyImages, "__getitem__", _changed_after_the_first)
    with pytest.raises(UserError) as refused:
        run(tmp_path, dataclasses.replace(RECIPE, data_workers=workers))
    assert str(refused.value) == "image 7 changed while in use; run the same command again"


def _changed_after_the_first(images: TinyImages, index: int) -> tuple[Tensor, int]:
    if index == 7 and len(images) == 21:
        raise UserError("image 7 changed while in use; run the same command again")
    return images.pixels[index], int(images.labels[index])


def test_data_workers_change_nothing(tmp_path: Path, unbroken: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "IN_MEMORY_BYTES", 0)
    assert run(tmp_path, dataclasses.replace(RECIPE, data_workers=2)).curve == unbroken.curve


def test_the_callers_randomness_is_left_alone(tmp_path: Path) -> None:
    model = tiny_network()
    state = torch.get_rng_state()
    run(tmp_path, model=model)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("part", ["train", "heldout"])
def test_data_without_images_is_refused_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    data = TinyData()
    monkeypatch.setattr(data, part, [])
    with pytest.raises(UserError, match="the data has no"):
        run(tmp_path, data=data)


def test_bfloat16_trains_with_float32_weights(tmp_path: Path, unbroken: Trained) -> None:
    trained = run(tmp_path, dataclasses.replace(RECIPE, precision="bfloat16"))
    assert trained.effort.precision == "bfloat16"
    assert all(parameter.dtype == torch.float32 for parameter in trained.model.parameters())
    assert trained.validation_loss == pytest.approx(unbroken.validation_loss, rel=0.02)
    assert trained.curve != unbroken.curve


def test_an_objective_trains_its_own_modules_by_their_own_losses(tmp_path: Path) -> None:
    """Held against a loop written out: the uncertainty with the network, the judge after it and by its own loss."""
    objective, written_out = Judged(), Judged()
    network, model = undropped(tiny_network()), undropped(tiny_network()).train()
    trained = run(tmp_path, model=network, objective=objective)
    modules = (model, written_out.uncertainty, written_out.judge)
    optimizers = [
        torch.optim.AdamW(module.parameters(), lr=1.0, betas=RECIPE.betas, weight_decay=0, foreach=False)
        for module in modules
    ]
    optimizers[0] = torch.optim.AdamW(
        [{"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": 0.01},
         {"params": [p for p in model.parameters() if p.ndim == 1], "weight_decay": 0.0}], betas=RECIPE.betas,
    )  # fmt: skip
    for step, (rows, labels) in enumerate(training_rows(TinyData(), RECIPE, SEED, 1, range(8)), start=1):
        batch = written_out.batch(rows, labels, HostDraws(SEED, step, range(8), 8))
        for which, loss in (((0, 1), written_out.loss), ((2,), written_out.judged)):
            for module in modules:
                module.zero_grad()
            loss(model, batch).total.backward()
            for number in which:
                if number != 1:
                    torch.nn.utils.clip_grad_norm_(modules[number].parameters(), 1.0)
                rate = {0: RECIPE.learning_rate, 1: 1e-3, 2: 1e-2}[number] / RECIPE.learning_rate
                for group in optimizers[number].param_groups:
                    group["lr"] = rate * RECIPE.learning_rate_at(step)
                optimizers[number].step()
    for ours, theirs in zip((network, objective.uncertainty, objective.judge), modules, strict=True):
        torch.testing.assert_close(dict(ours.named_parameters()), dict(theirs.named_parameters()), atol=1e-5, rtol=1e-4)
    names = ("train_loss", "train_loss.velocity", "train_loss.fooled", "judge_loss")
    norms = ("gradient_norm", "uncertainty_gradient_norm", "judge_gradient_norm")
    assert all(list(values(trained, name)) == [4, 8, 12, 14] for name in (*names, *norms))
    assert trained.model.state_dict().keys() == network.state_dict().keys()  # what it trained beside is not in it


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("micro_batch", [1, 3, 8])
def test_micro_batches_change_nothing_but_rounding(tmp_path: Path, micro_batch: int, objective: str) -> None:
    whole, cut = (
        run(
            tmp_path / name,
            recipe,
            model=undropped(tiny_network()).double(),
            objective=in_float64(OBJECTIVES[objective]()),
        )
        for name, recipe in (("whole", RECIPE), ("cut", dataclasses.replace(RECIPE, micro_batch=micro_batch)))
    )
    ours, theirs = whole.model.state_dict(), cut.model.state_dict()
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-10, atol=1e-12)
    assert [point.value for point in whole.curve] == pytest.approx([point.value for point in cut.curve], rel=1e-10)


def test_where_memory_does_not_suffice_auto_halves_the_micro_batch_and_says_so(tmp_path: Path) -> None:
    class Large(FlowMatching):
        """Holds three images at once, from step 5 on."""

        def loss(self, network, batch):
            self.count = getattr(self, "count", 0) + 1
            if self.count > 4 and len(batch) > 3:
                raise torch.OutOfMemoryError
            return super().loss(network, batch)

    def large(recipe):
        return Large(FlowMatchingConfig(), TinyData(), TinyPrompts(), recipe, torch.device("cpu"))

    auto = dataclasses.replace(RECIPE, micro_batch="auto")
    trained = run(tmp_path / "auto", auto, model=undropped(tiny_network()), objective=large(auto))
    whole = run(tmp_path / "whole", model=undropped(tiny_network()))
    assert trained.effort.notes == (
        "from step 5 on in micro-batches of 4, which fit", "from step 5 on in micro-batches of 2, which fit",
    )  # fmt: skip
    assert trained.validation_loss == pytest.approx(whole.validation_loss, rel=1e-5)
    with pytest.raises(UserError, match=r"cpu has no memory for 8 images at once; set recipe\.micro_batch=auto"):
        run(tmp_path / "refused", objective=large(RECIPE))
