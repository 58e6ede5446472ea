"""What a trial's identity is, what a limit does, and which records are the last word."""

import dataclasses

import pytest
import torch
from tiny_study import SETTINGS

from harness.architecture.catalogue import architecture
from harness.records.quantity import Failed
from harness.records.record import why
from harness.trials.outcomes import WORKER, failed_record, finished, is_final, record_of, rejected
from harness.trials.prepared import prepare
from harness.trials.settings import settings_of
from harness.trials.tasks.denoise import Sizes


@pytest.fixture
def prepared(tmp_path):
    return prepare(settings_of([f"out='{tmp_path}'", "count_only=true", "latent=8"]))


@pytest.fixture
def spec(prepared):
    return prepared.spec("thin", architecture("laptop/thin_sdxl"), 0)


def test_a_trial_above_a_limit_is_rejected_before_anything_is_trained(spec):
    assert rejected(spec) is None
    record = rejected(dataclasses.replace(spec, limits={"params": 1000}))
    assert record.state == "rejected"
    assert record.quantities["params"].value > 1000
    assert "above the limit of 1,000" in why(record)


def test_name_limits_and_study_are_no_part_of_a_trial(spec, prepared):
    other = prepared.spec("renamed", architecture("laptop/thin_sdxl"), 0, group="g", limits={"params": 9}, parent="x")
    assert other.key == spec.key
    assert prepared.spec("thin", architecture("laptop/thin_sdxl"), 1).key != spec.key


def test_what_cannot_change_a_result_is_no_part_of_the_protocol(tmp_path):
    def protocol(*overrides):
        return prepare(settings_of([f"out='{tmp_path}'", *overrides])).protocol.fingerprint

    same = protocol()
    for override in ("launcher=debug", "tracker=none", "latency=none", "recipe.checkpoint_every=7", "seeds=[5]",
                     "recipe.gradient_checkpointing=true", "recipe.compile=true",
                     "recipe.channels_last=true", "recipe.cuda_graph=true recipe.device=auto"):  # fmt: skip
        assert protocol(*override.split()) == same, override
    for override in (
        "recipe.steps=7",
        "sampling.steps=3",
        "sampling.seed=1",
        "quality.samples=9",
        "text.template='the {}'",
    ):
        assert protocol(override) != same, override


def test_other_samples_are_another_protocol_and_the_default_ones_are_those_of_every_earlier_record(tmp_path):
    """Records lie in stores under this fingerprint: a default that changed would train all of them again."""
    prepared = prepare(settings_of([f"out='{tmp_path}'", "recipe.precision=float32"]))
    assert prepared.protocol.sections["sampling"]["seed"] == 0
    assert prepared.with_scoring_seed(0).protocol == prepared.protocol
    other = prepared.with_scoring_seed(3)
    assert other.protocol == prepare(settings_of([f"out='{tmp_path}'", "sampling.seed=3"])).protocol
    changed = {name for name, section in prepared.protocol.sections.items() if other.protocol.sections[name] != section}
    assert changed == {"sampling"}


def test_counting_only_is_never_mistaken_for_training(tmp_path, prepared):
    assert prepare(settings_of([f"out='{tmp_path}'", "latent=8"])).protocol.fingerprint != prepared.protocol.fingerprint


def test_a_crash_is_tried_again_and_a_divergence_is_not(spec):
    spec.store.put(failed_record(spec, WORKER, "SIGKILL"))
    assert finished(spec) is None
    diverged = record_of(spec, "failed", {"kid": Failed(phase="train", message="training diverged at step 3")})
    spec.store.put(diverged)
    assert finished(spec) == diverged
    assert why(diverged) == "train: training diverged at step 3"


def test_a_rejection_is_not_the_last_word(spec):
    assert not is_final(rejected(dataclasses.replace(spec, limits={"params": 1000})))


def test_pixels_add_nothing_to_a_protocol(monkeypatch, tmp_path):
    """Records from before there were autoencoders keep their keys."""
    monkeypatch.chdir(tmp_path)
    prepared = prepare(settings_of((), SETTINGS))
    assert set(prepared.protocol.sections) == {"data", "text", "recipe", "sampling", "quality"}
    assert prepared.task.sizes == Sizes(image=(1, 8, 8), latent=(1, 8, 8))
    assert prepared.task.decode(torch.device("cpu")) is None
