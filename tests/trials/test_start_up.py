"""Trials in forked workers: what they will import is imported before the fork, and what they train is the same."""

from importlib.util import find_spec
from pathlib import Path

import pytest
from tiny_study import tiny_spec

from harness.cli import main
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
                    store.artifact(record.key, "ema.safetensors").read_bytes(),
                    store.artifact(record.key, "samples.npz").read_bytes(),
                    record.quantities["kid"].value,
                    record.quantities["validation_loss"].value,
                )
                for record in store.trials()
            }
        )
    assert len(results[0]) == 2
    assert results[0] == results[1] == results[2]
