"""What the demo promises, on one rung at the demo's own budget: the prompts work, and the images beat a Gaussian."""

import dataclasses

import pytest
import torch
from safetensors.torch import load_file
from whole_images import control_images, sample_images

from harness.architecture.catalogue import architecture
from harness.diffusion.config import SamplingConfig
from harness.measure.quality import quality
from harness.measure.quality_reference import load_reference
from harness.trials.prepared import prepare
from harness.trials.run import run_trial
from harness.trials.samples import initialised_network
from harness.trials.settings import settings_of
from harness.trials.spec import cache_folder

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("headline")]  # one process trains once


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The record of the first rung with the demo's settings, and what scores it."""
    out = tmp_path_factory.mktemp("headline")
    settings = settings_of([f"out={out}", "launcher=debug", "tracker=none", "coreml=none", "latency=none"])
    prepared = prepare(settings)
    spec = prepared.spec("thin_sdxl", architecture("laptop/thin_sdxl"), seed=0)
    record = run_trial(spec, out / "attempt")
    reference = load_reference(settings.quality, prepared.task.images, cache=cache_folder(out))
    return record, spec, prepared, reference


def test_samples_beat_the_pixel_gaussian_in_kid_and_fd(trained):
    record, _, prepared, reference = trained
    images, labels = control_images("pixel_gaussian", prepared.task.images, prepared.settings.quality, SamplingConfig())
    gaussian = quality(images, labels, reference)
    assert record.quantities["kid"].value < gaussian["kid"].value / 2
    assert record.quantities["fd"].value < gaussian["fd"].value / 2


def test_a_classifier_of_real_digits_reads_the_asked_class(trained):
    record, *_ = trained
    assert record.quantities["class_agreement"].value >= 0.8


def test_with_shuffled_prompts_it_reads_the_asked_class_no_oftener_than_by_chance(trained):
    _, spec, prepared, reference = trained
    prompts = prepared.task.prompts
    # a cycle: every class gets the prompt of another one, so a network that reads its prompt is always wrong
    moved = prompts.embeddings.roll(1, 0), prompts.mask.roll(1, 0)
    shuffled = dataclasses.replace(prompts, embeddings=moved[0], mask=moved[1])
    misled = dataclasses.replace(prepared, loaded=dataclasses.replace(prepared.task, prompts=shuffled))
    network = initialised_network(spec.architecture, spec.seed)
    network.load_state_dict(load_file(spec.store.artifact(spec.key, "ema.safetensors")))
    with torch.inference_mode():
        images, labels = sample_images(network, misled, 256)
    assert quality(images, labels, reference)["class_agreement"].value <= 0.1
    was_asked = (labels - 1) % len(prompts)  # the class whose prompt it got
    assert quality(images, was_asked, reference)["class_agreement"].value >= 0.8
