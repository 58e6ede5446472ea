"""Trials in forked workers: what they will import is imported before the fork, and what they train is the same."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from safetensors.torch import load_file
from tiny_study import tiny_spec

from harness.cli import main
from harness.launch.config import THREAD_VARIABLES
from harness.launch.local import ONE_THREAD
from harness.records.store import Store
from harness.trials.queue import TrialJob


def test_what_a_trial_names_can_be_imported(workplace):
    """A server passes over what it cannot import: a module that moved would cost every trial its import."""
    modules = set()
    for settings in ("coreml=ios17", "tracker=wandb"):
        modules |= set(TrialJob(tiny_spec(settings)).imports)
    assert {"harness.models.unet", "wandb.sdk.launch", "coremltools"} <= modules
    assert [name for name in sorted(modules) if find_spec(name) is None] == []


@pytest.mark.slow
def test_what_a_trial_imports_starts_no_thread_and_touches_no_gpu(workplace):
    """Or a fork after it would hang, or have a CUDA that does not work."""
    names = {name for settings in ("coreml=ios17", "tracker=wandb") for name in TrialJob(tiny_spec(settings)).imports}
    script = f"""
import importlib, os, torch
for name in {sorted(names | {"harness.trials.queue"})}:
    importlib.import_module(name)
print(len(os.listdir("/proc/self/task")), torch.cuda.is_initialized())
print([os.readlink(f"/proc/self/fd/{{n}}") for n in range(3, 64) if os.path.exists(f"/proc/self/fd/{{n}}")])
"""
    environment = os.environ | dict.fromkeys(THREAD_VARIABLES, "1") | ONE_THREAD
    out = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    threads, *opened = out.stdout.splitlines()
    assert threads == "1 False"
    assert "nvidia" not in opened[0]


@pytest.mark.slow
def test_forked_cold_and_in_process_workers_train_the_same(workplace):
    """Bit by bit: the weights, the samples and the scores."""
    results = []
    for place in ("launcher=local", "launcher=local launcher.warm=false", "launcher=debug"):
        out = Path("runs") / str(len(results))
        assert main(["ablate", "tiny", *place.split(), f"out={out}"]) == 0
        store = Store(out / "store")
        results.append(
            {
                record.key: (
                    weights(store.artifact(record.key, "ema.safetensors")),
                    store.artifact(record.key, "samples.npz").read_bytes(),
                    record.quantities["kid"].value,
                    record.quantities["validation_loss"].value,
                )
                for record in store.trials()
            }
        )
    assert len(results[0]) == 2
    assert results[0] == results[1] == results[2]


def weights(path: Path) -> dict[str, bytes]:
    """Without the file's metadata, whose order is any."""
    return {name: tensor.numpy().tobytes() for name, tensor in load_file(path).items()}
