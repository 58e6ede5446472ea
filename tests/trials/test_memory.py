"""The memory that a training is said to take: against arithmetic, and against what PyTorch really keeps."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from tiny_study import TINY
from torch import nn

from harness.architecture.catalogue import architecture
from harness.architecture.edits import with_edits
from harness.launch.config import SlurmLauncher
from harness.measure.kept import kept_by, kept_for_backward
from harness.models.build import build, example_inputs
from harness.records.quantity import Measured
from harness.training.parallel_config import DdpParallel, FsdpParallel
from harness.trials.memory import memory_lines, memory_of
from harness.trials.settings import settings_of

CONFIG = with_edits(architecture("laptop/thin_sdxl"), TINY)
PARAMS = sum(each.numel() for each in build(CONFIG).parameters())


def test_what_is_kept_of_two_layers_is_arithmetic():
    """The input, what goes into the SiLU, what comes out of it: float32. In bfloat16 these, and the second
    layer's weights, cast, by which the gradient goes on."""
    module = nn.Sequential(nn.Linear(10, 100, bias=False), nn.SiLU(), nn.Linear(100, 10, bias=False))
    rows = torch.randn(7, 10)
    out = 7 * 10 * 4  # the loss keeps what it squares
    assert kept_by(module, [rows], precision=torch.float32) == (7 * 10 + 2 * 7 * 100) * 4 + out
    assert kept_by(module, [rows], precision=torch.bfloat16) == (7 * 10 + 2 * 7 * 100 + 1000) * 2 + out


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_fake_tensors_tell_what_real_ones_keep(precision):
    real = kept_by(build(CONFIG).train(), example_inputs(CONFIG, latent=8, batch=3), precision=precision)
    assert kept_for_backward(CONFIG, 8, 3, precision=precision, checkpointing=False) == real > 0


def test_blocks_that_are_computed_again_keep_less_and_no_less_than_what_goes_into_them():
    whole, again = (
        kept_for_backward(CONFIG, 8, 16, precision=torch.float32, checkpointing=each) for each in (False, True)
    )
    assert whole > 2 * again
    assert again > 16 * 16 * 8 * 8 * 4 * 3, "the inputs of the first stage's blocks, 16 channels wide"


def memory(*overrides, parallel=None, processes=1, records=()):
    settings = settings_of(["recipe.device=cpu", *overrides], {"recipe.batch_size": 64})
    if processes > 1:
        settings = replace(settings, parallel=parallel, launcher=SlurmLauncher(processes=processes, gpus=0))
    return memory_of(CONFIG, 8, settings, records)


def test_states_are_arithmetic_and_cut_as_the_processes_cut_them():
    alone, ddp = memory("recipe.ema_spans=[0.05,0.1]"), memory(parallel=DdpParallel(), processes=4)
    shared = memory(parallel=FsdpParallel(), processes=4)
    assert alone.parts["averages"] == 3 * 4 * PARAMS
    assert {name: ddp.parts[name] for name in ("weights", "gradients", "optimiser", "averages", "DDP's buckets")} == {
        "weights": 4 * PARAMS,
        "gradients": 4 * PARAMS,
        "optimiser": 8 * PARAMS,
        "averages": 4 * PARAMS,
        "DDP's buckets": 4 * PARAMS,
    }
    assert shared.parts["weights"] == PARAMS
    assert shared.parts["optimiser"] == 2 * PARAMS
    assert 0 < shared.parts["gathered"] < 4 * PARAMS
    assert (alone.together, ddp.together) == (64, 16)
    assert ddp.parts["activations"] == pytest.approx(alone.parts["activations"] / 4, rel=0.01)
    assert ddp.parts["batch"] * 4 == alone.parts["batch"]


def test_a_teacher_is_its_weights_in_its_own_precision_shared_if_it_is_to_be():
    teacher = SimpleNamespace(
        params=1001, macs=5, precision=lambda planned: "bfloat16" if planned == "bfloat16" else "float32",
        prompts_bytes=lambda planned: 22 if planned == "bfloat16" else 44,
    )  # fmt: skip

    def of(*overrides, processes=1, part="teacher"):
        words = ["recipe.device=cpu", "objective=distillation", "objective.teacher.name=x", *overrides]
        settings = settings_of(words, {"recipe.batch_size": 64})
        if processes > 1:
            launcher = SlurmLauncher(processes=processes, gpus=0)
            settings = replace(settings, parallel=DdpParallel(), launcher=launcher)
        return memory_of(CONFIG, 8, settings, (), teacher).parts[part]

    assert of() == 4 * 1001
    assert of("recipe.precision=bfloat16") == 2 * 1001
    assert of(processes=4) == 4 * 1001
    assert of("objective.teacher.sharded=true", processes=4) == 1001
    assert (
        of("objective.teacher.sharded=true", "recipe.precision=bfloat16", processes=4, part="teacher's prompts") == 22
    )
    assert not {"teacher", "teacher's prompts"} & memory().parts.keys()


def test_micro_batches_take_less():
    assert memory("recipe.micro_batch=8").together == 8
    assert memory("recipe.micro_batch=8").parts["activations"] < memory().parts["activations"] / 7


def test_what_a_training_of_this_network_took_is_told_where_it_was_cut_likewise():
    def record(**under):
        return SimpleNamespace(
            key="f" * 16,
            architecture_fingerprint=CONFIG.fingerprint,
            trained_latent=8,
            provenance={"peak_memory_bytes": 12_300_000_000},
            protocol={"recipe": {"batch_size": 64, "precision": "float32"}},
            quantities={"train_seconds": Measured(value=1, unit="s", conditions={"device": "NVIDIA H200", **under})},
        )

    told = memory(records=[record()])
    assert told.measured == f"12.3 GB at most, measured on NVIDIA H200 by trial {'f' * 16}"
    assert told.measured in memory_lines(told)[-1]
    assert not memory(records=[record(gradient_checkpointing=True)]).measured
    assert not memory(records=[record(micro_batch=8)]).measured, "the peak of 8 pictures is not that of 64"
    assert memory("recipe.micro_batch=8", records=[record(micro_batch=8)]).measured
    assert not memory(records=[record(compile=True)]).measured
    assert not memory(records=[record(watch={"grids": 5, "scores": 0})]).measured
    assert not memory(records=[record(processes=2, parallel="ddp")]).measured
    assert not memory("recipe.batch_size=32", records=[record()]).measured


def test_a_precision_that_is_decided_elsewhere_is_assumed_and_said(monkeypatch):
    """On a login node there is no CUDA: nothing is refused there, and nothing counted as if it trained there."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    bfloat16 = memory("recipe.device=cuda", "recipe.precision=bfloat16")
    for words in (["recipe.device=cuda"], ["recipe.device=auto", "launcher=slurm", "launcher.gpus=1"]):
        told = memory(*words, "recipe.precision=auto")
        assert told.parts["activations"] == bfloat16.parts["activations"]
        assert "is taken for bfloat16, an assumption" in memory_lines(told)[-1]
    assert not bfloat16.assumed


def test_the_whole_average_that_fsdp_gathers_is_told():
    shared = memory(parallel=FsdpParallel(), processes=4)
    assert shared.at_looks == 4 * PARAMS
    assert "at each look and at the end" in "\n".join(memory_lines(shared))
    assert not memory(parallel=DdpParallel(), processes=4).at_looks
