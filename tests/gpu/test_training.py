"""Training on CUDA is the training that a processor does: in bfloat16, compiled, in other orders, continued, cut."""

import copy
import dataclasses
import math
from pathlib import Path

import pytest
import tiny_training
import torch
from small_training import (
    CLOSE,
    CUDA,
    DIT,
    LAPTOP,
    OF_EACH_OBJECTIVE,
    ON_BOTH,
    ON_CUDA,
    Data,
    EnoughError,
    Table,
    continued_alike,
    curve,
    first_losses,
    network_of,
    trained,
)
from torch import nn

from harness.architecture.catalogue import architecture
from harness.architecture.edits import with_edits
from harness.data import prompts
from harness.models.build import blocks_of, build, example_inputs
from harness.models.norms import RMSNorm
from harness.records.errors import UserError
from harness.training import batches, loop
from harness.training.device import compile_blocks
from harness.training.objectives.flow_matching import NoisedImages
from harness.training.optimizer import AdamW, Optimizer
from harness.training.parallel import wrapped
from harness.training.parallel_config import DdpParallel, FsdpParallel
from harness.training.randomness import IndexedDraws

pytestmark = pytest.mark.timeout(60)
COMPILES = pytest.mark.timeout(180)
MIDDLE = with_edits(
    architecture("thin_sdxl"),
    {"stages.0.channels": 128, "stages.1.channels": 256, "stages.2.channels": 448, "context_length": 16},
)
"""A quarter of the ladder's base: 0.15 G parameters."""


@OF_EACH_OBJECTIVE
@ON_CUDA
def test_a_gpu_trains_as_a_processor_does(tmp_path: Path, device: str, objective: str, no_tf32: None) -> None:
    here, there = (trained(tmp_path / on, on, objective=objective) for on in ("cpu", device))
    near = CLOSE[objective]
    assert curve(there) == pytest.approx(curve(here), rel=near)
    assert there.validation_loss == pytest.approx(here.validation_loss, rel=near)
    assert there.effort.gpu_seconds > 0
    assert there.effort.peak_memory_bytes > 10**6
    assert here.effort.peak_memory_bytes is None


@pytest.mark.parametrize(
    ("device", "config", "latent", "steps", "batch"),
    [
        pytest.param("cpu", DIT, 8, 12, 6, id="DiT, cpu"),
        pytest.param("cuda", LAPTOP, 8, 100, 64, marks=CUDA.marks, id="laptop, cuda"),
        pytest.param("cuda", MIDDLE, 32, 40, 32, marks=CUDA.marks, id="0.15 G parameters, cuda"),
    ],
)
def test_losses_in_bfloat16_are_those_in_float32(tmp_path, device, config, latent, steps, batch) -> None:
    """The same batches and draws; what differs is rounding, which a mean of steps hides and a bias would not."""
    exact, rounded = (
        first_losses(tmp_path / name, device, steps, config, latent=latent, batch_size=batch, precision=name)
        for name in ("float32", "bfloat16")
    )
    assert rounded != exact
    late = steps // 2
    ours, theirs = sum(rounded[late:]) / late, sum(exact[late:]) / late
    print(f"\nmean loss of steps {late + 1} to {steps}: bfloat16 {ours:.5f}, float32 {theirs:.5f}")
    assert ours == pytest.approx(theirs, rel=0.02)
    assert theirs < exact[0]


@pytest.mark.parametrize(
    ("device", "settings"),
    [
        pytest.param("cpu", {"channels_last": True}, id="channels last, cpu"),
        pytest.param("cuda", {}, marks=CUDA.marks, id="cuda"),
        pytest.param("cuda", {"channels_last": True}, marks=CUDA.marks, id="channels last, cuda"),
        pytest.param("cuda", {"precision": "bfloat16"}, marks=CUDA.marks, id="bfloat16, cuda"),
    ],
)
def test_a_continued_training_ends_as_one_never_stopped(tmp_path, device, settings) -> None:
    continued_alike(tmp_path, device, 1e-3, **settings)


@ON_BOTH
def test_kernels_in_another_order_are_trained_to_the_same(tmp_path, device, no_tf32: None) -> None:
    rows, last = (trained(tmp_path / str(order), device, channels_last=order) for order in (False, True))
    assert curve(last) == pytest.approx(curve(rows), rel=1e-4)
    assert all(parameter.is_contiguous() for parameter in last.model.parameters())


@ON_BOTH
def test_a_training_may_go_on_in_another_order(tmp_path, device, no_tf32: None) -> None:
    with pytest.raises(EnoughError):
        trained(tmp_path, device, stop_after=7)
    continued = trained(tmp_path, device, channels_last=True)
    assert continued.effort.continued_from == (4,)


@pytest.mark.parametrize("on_disk", [False, True], ids=["prompts on the device", "prompts on the disk"])
@pytest.mark.parametrize(
    ("noise", "precision", "recorded"),
    [("host", "float32", False), ("indexed", "bfloat16", False), ("host", "bfloat16", True)],
)
@OF_EACH_OBJECTIVE
@ON_CUDA
def test_no_step_waits_for_the_device_between_points_of_the_curve(
    tmp_path, device, objective, noise, precision, recorded, on_disk, monkeypatch
) -> None:
    """PyTorch refuses what waits, from step 6 to 18; with losses read after each step it does. A student's prompts may
    come from the disk meanwhile, batch by batch."""
    if on_disk:
        monkeypatch.setattr(prompts, "MOST_IN_MEMORY", 0)

    def refuse(step: int, _of: int) -> None:
        torch.cuda.set_sync_debug_mode("error" if 5 <= step < 18 else "default")

    settings = {"steps": 40, "log_every": 20, "validate_every": 40, "checkpoint_every": 40, "noise": noise}
    settings |= {"precision": precision, "cuda_graph": recorded, "ema_spans": (0.05,), "stop_after": 19}
    settings |= {"objective": objective, "prompts": Table(LAPTOP).table}
    try:
        with pytest.raises(EnoughError):
            trained(tmp_path / "a", device, listeners={"on_progress": refuse}, **settings)
        monkeypatch.setattr(loop, "READ_AT_ONCE", ("cuda",))
        with pytest.raises(RuntimeError, match="synchroniz"):
            trained(tmp_path / "b", device, listeners={"on_progress": refuse}, **settings)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.slow
@ON_BOTH
def test_batches_made_ahead_and_read_by_workers_change_nothing(tmp_path, device, monkeypatch) -> None:
    expected = trained(tmp_path / "memory", device)
    monkeypatch.setattr(loop, "MADE_AHEAD", (device,))
    monkeypatch.setattr(batches, "IN_MEMORY_BYTES", 0)
    for workers in (0, 2):
        found = trained(tmp_path / str(workers), device, data_workers=workers)
        assert curve(found) == pytest.approx(curve(expected), rel=0 if device == "cpu" else 1e-4)


@ON_CUDA
def test_the_numbers_of_indexed_noise_are_the_processors(device) -> None:
    here, there = (IndexedDraws(0, 3, range(1000), 1000, torch.device(on)) for on in ("cpu", device))
    torch.testing.assert_close(there.normal((4, 8, 8)).cpu(), here.normal((4, 8, 8)), atol=1e-5, rtol=1e-4)
    assert torch.equal(there.uniform().cpu(), here.uniform())


@ON_BOTH
def test_fused_adamw_is_adamw(device) -> None:
    network = network_of(LAPTOP).to(device)
    plain = copy.deepcopy(network)
    ours = Optimizer(network, AdamW(learning_rate=1e-3, clip=1.0))
    theirs = torch.optim.AdamW(
        plain.parameters(), lr=1e-3, betas=(0.9, 0.99), weight_decay=0, foreach=False, fused=False
    )
    inputs = example_inputs(LAPTOP, latent=8, batch=2, device=device)
    for _ in range(4):
        gradients(plain, inputs)
        for mine, other in zip(network.parameters(), plain.parameters(), strict=True):
            mine.grad = other.grad.clone()
        norm = nn.utils.clip_grad_norm_(plain.parameters(), 1.0)
        theirs.step()
        torch.testing.assert_close(ours.step(1e-3), norm)
    for mine, other in zip(network.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-6)


@ON_CUDA
def test_where_memory_does_not_suffice_auto_finds_what_fits(tmp_path, device, caplog, no_tf32: None) -> None:
    settings = {"batch_size": 512, "data": Data((1, 32, 32), count=512), "latent": 32}
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    whole = first_losses(tmp_path / "whole", device, 3, **settings)
    peak, total = torch.cuda.max_memory_allocated(), torch.cuda.get_device_properties(0).total_memory
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 0.75 * peak) / total)
    try:
        found = first_losses(tmp_path / "auto", device, 3, micro_batch="auto", **settings)
        with pytest.raises(UserError, match=r"no memory for 512 images at once; set recipe\.micro_batch=auto"):
            trained(tmp_path / "refused", device, **settings)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert found == pytest.approx(whole, rel=1e-3)
    assert "from step 1 on in micro-batches of 256, which fit" in caplog.text


RECORDED = [{}, {"precision": "bfloat16"}, {"micro_batch": 3}, {"noise": "indexed", "data_workers": 1}]


@pytest.mark.parametrize("settings", RECORDED, ids=str)
@OF_EACH_OBJECTIVE
@ON_CUDA
def test_a_recorded_step_trains_as_one_that_is_not(tmp_path, device, objective, settings, no_tf32: None) -> None:
    plain = trained(tmp_path / "plain", device, objective=objective, **settings)
    recorded = trained(tmp_path / "recorded", device, objective=objective, cuda_graph=True, **settings)
    near = CLOSE[objective]
    assert curve(recorded) == pytest.approx(curve(plain), rel=near)
    assert curve(recorded, "gradient_norm") == pytest.approx(curve(plain, "gradient_norm"), rel=10 * near)
    assert recorded.validation_loss == pytest.approx(plain.validation_loss, rel=near)


@ON_CUDA
def test_a_recorded_training_has_dropout_and_buffers(tmp_path, device, no_tf32: None) -> None:
    """A replay begins with the generator's state as every step does, so its masks are those of a step as it is."""
    curves = []
    for recorded in (False, True):
        recipe = dataclasses.replace(tiny_training.RECIPE, device=device, cuda_graph=recorded)
        objective = tiny_training.flow_matching(recipe)
        objective.prompts = Table(LAPTOP, classes=3).to(device)
        objective.prompts.rows = torch.ones(4, 2, 5, device=device)
        network = tiny_training.tiny_network()
        curves.append(curve(tiny_training.run(tmp_path / str(recorded), recipe, model=network, objective=objective)))
    assert curves[1] == pytest.approx(curves[0], rel=1e-3)


@pytest.mark.slow
@ON_BOTH
def test_a_batch_is_left_out_of_a_recorded_training_too(tmp_path, device, monkeypatch, no_tf32: None) -> None:
    """Step 7, behind the recording: its gradients are no numbers, and the next replay's are."""
    advance = loop.Training.advance

    def advancing(self: loop.Training, step: int, batch: NoisedImages) -> None:
        advance(self, step, dataclasses.replace(batch, x0=batch.x0 * math.nan) if step == 7 else batch)

    monkeypatch.setattr(loop.Training, "advance", advancing)
    plain, recorded = (
        trained(tmp_path / str(graph), device, max_rollbacks=1, cuda_graph=graph and device == "cuda")
        for graph in (False, True)
    )
    assert recorded.effort.notes[0].startswith("step 7 is left out")
    assert curve(recorded) == pytest.approx(curve(plain), rel=1e-3)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"device": "cpu"}, "records what CUDA computes, and this training is on cpu"),
        pytest.param(
            {"device": "cuda", "gradient_checkpointing": True}, "no block that is computed twice", marks=CUDA.marks
        ),
    ],
)
def test_what_cannot_be_recorded_is_refused(tmp_path, settings, says) -> None:
    with pytest.raises(UserError, match=says):
        trained(tmp_path, settings["device"], cuda_graph=True, **{n: v for n, v in settings.items() if n != "device"})


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@ON_CUDA
def test_the_norm_of_one_kernel_is_the_one_written_out(device, dtype) -> None:
    random = torch.Generator().manual_seed(0)
    norm, x, weights = RMSNorm(48), torch.randn(2, 7, 48, generator=random).to(dtype), torch.randn(48, generator=random)
    results = []
    for on in ("cpu", device):
        moved, given = copy.deepcopy(norm).to(on), x.detach().to(on).requires_grad_()
        out = moved(given)
        (out.float() * weights.to(on)).sum().backward()
        assert out.dtype == dtype
        results.append([each.detach().float().cpu() for each in (out, given.grad, moved.weight.grad)])
    tolerance = 1e-5 if dtype == torch.float32 else 2e-2
    for here, there in zip(*results, strict=True):
        torch.testing.assert_close(there, here, rtol=tolerance, atol=tolerance * float(here.abs().max()))


def gradients(network: nn.Module, inputs: tuple[torch.Tensor, ...]) -> dict[str, torch.Tensor]:
    network.zero_grad()
    network(*inputs).square().mean().backward()
    return {
        name: parameter.grad.clone() for name, parameter in network.named_parameters() if parameter.grad is not None
    }


@COMPILES
@pytest.mark.parametrize(
    ("device", "config"),
    [
        pytest.param("cpu", DIT, id="DiT, cpu"),
        pytest.param("cuda", DIT, marks=CUDA.marks, id="DiT, cuda"),
        pytest.param("cuda", LAPTOP, marks=CUDA.marks, id="UNet, cuda"),
    ],
)
def test_compiled_blocks_compute_the_same(device, config, compiler: None, no_tf32: None) -> None:
    network = network_of(config).to(device)
    inputs = example_inputs(config, latent=8, batch=2, device=device)
    expected = gradients(network, inputs)
    compile_blocks(network)
    found = gradients(network, inputs)
    assert any(block._compiled_call_impl is not None for block in blocks_of(network))
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-3, atol=1e-3 * float(gradient.abs().max()), msg=name)
    assert all(block._compiled_call_impl is None for block in blocks_of(copy.deepcopy(network)))


@COMPILES
@pytest.mark.parametrize(
    ("device", "config", "settings"),
    [
        pytest.param("cpu", DIT, {}, id="DiT, cpu"),
        pytest.param("cuda", DIT, {}, marks=CUDA.marks, id="DiT, cuda"),
        pytest.param(
            "cuda", LAPTOP, {"precision": "bfloat16", "channels_last": True}, marks=CUDA.marks, id="UNet, cuda"
        ),
    ],
)
def test_compiled_blocks_train_as_the_others(tmp_path, device, config, settings, compiler: None) -> None:
    plain = first_losses(tmp_path / "plain", device, 8, config, precision=settings.get("precision", "float32"))
    compiled = first_losses(tmp_path / "compiled", device, 8, config, compile=True, **settings)
    assert compiled == pytest.approx(plain, rel=2e-2 if settings else 1e-3)


@COMPILES
@ON_BOTH
def test_a_compiled_training_is_continued_and_finished(tmp_path, device, compiler: None) -> None:
    with pytest.raises(EnoughError):
        trained(tmp_path, device, DIT, stop_after=5, compile=True)
    finished = trained(tmp_path, device, DIT, compile=True)
    assert finished.effort.continued_from == (4,)
    assert finished.model.state_dict().keys() == build(DIT).state_dict().keys()


@COMPILES
@pytest.mark.parametrize("compiled", [False, True], ids=["as it is", "compiled"])
@pytest.mark.parametrize("parallel", [DdpParallel(), FsdpParallel()], ids=["ddp", "fsdp"])
@ON_BOTH
def test_ddp_and_fsdp_step_as_the_module_alone(
    device, parallel, compiled, group, compiler: None, no_tf32: None
) -> None:
    config = DIT
    alone = network_of(config).to(device)
    shared = copy.deepcopy(alone)
    if compiled:
        compile_blocks(shared)
    called = wrapped(shared, parallel)
    inputs = example_inputs(config, latent=8, batch=2, device=device)
    optimizers = [torch.optim.AdamW(each.parameters(), lr=1e-3, fused=True) for each in (alone, shared)]
    for _ in range(3):
        losses = []
        for network, optimizer in zip((alone, called), optimizers, strict=True):
            loss = (network(*inputs) - inputs[0]).square().mean()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
        assert losses[1] == pytest.approx(losses[0], rel=1e-4)
