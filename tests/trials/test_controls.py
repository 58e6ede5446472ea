"""The controls' job and `evaluate`: where they compute, with how many threads, under which protocol."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from tiny_study import tiny_spec

from harness.data.config import DigitsConfig
from harness.launch.config import DebugLauncher
from harness.measure import quality, quality_controls
from harness.measure.quality_reference import load_reference
from harness.models import weights
from harness.models.unet import UNet
from harness.records.errors import UserError
from harness.training import device
from harness.trials import sampling_run
from harness.trials.controls import ControlsJob, control_key
from harness.trials.prepared import Prepared, prepare
from harness.trials.run import run_trial
from harness.trials.samples import write_grid
from harness.trials.scores import evaluate, score
from harness.trials.scores.pictures import read_images
from harness.trials.task_config import DEFAULT
from harness.trials.tasks import denoise

CONTROLS = tuple(DEFAULT.judging.controls)


@pytest.fixture
def folder(workplace):
    path = Path("attempts/key/attempt-001")
    path.mkdir(parents=True)
    return path


@pytest.fixture
def on_cpu_0(monkeypatch):
    """The devices that scoring and sampling get; `cpu:0` is the CPU by a name that is no default."""
    devices = {"scoring": [], "sampling": []}

    def reference(*arguments, device="cpu", **more):
        devices["scoring"].append(device)
        return load_reference(*arguments, device=device, **more)

    def to(network, where):
        devices["sampling"].append(where)
        return torch.nn.Module.to(network, where)

    for module in (denoise, score):
        monkeypatch.setattr(module, "load_reference", reference)
    for module in (denoise, score, sampling_run):
        monkeypatch.setattr(module, "resolve_device", lambda name: torch.device(f"{name}:0"))
    monkeypatch.setattr(UNet, "to", to)
    return devices


def job(spec):
    prepared = prepare(spec.settings)
    return ControlsJob(prepared.settings, prepared.protocol, spec.architecture), prepared


def test_controls_are_sampled_and_scored_on_the_device_that_trains(folder, on_cpu_0):
    controls_job, _ = job(tiny_spec("recipe.device=cpu"))
    assert len(controls_job(folder)) == len(CONTROLS)
    assert on_cpu_0 == {"scoring": [torch.device("cpu:0")], "sampling": [torch.device("cpu:0")]}


def test_no_control_holds_more_pictures_than_a_part(folder, monkeypatch):
    """150 of them, a part of 64 at most; the measurements are those of all at once to the last digit, but for the
    Gaussian's, whose sums round otherwise."""
    held, add = [], quality.Scorer.add
    monkeypatch.setattr(quality.Scorer, "add", lambda of, images, at: held.append(len(images)) or add(of, images, at))
    spec = tiny_spec("quality.samples=150", "sampling.micro_batch=32")
    controls_job, prepared = job(spec)
    controls_job(folder)
    whole = measured(spec, prepared)
    assert held == [150] * len(CONTROLS)
    for measurement in list(spec.store.measurements()):
        spec.store.delete(measurement)
    held.clear()
    monkeypatch.setattr(quality_controls, "DRAWN_VALUES", 64 * 64)
    controls_job(folder)
    assert held == [64, 64, 22] * len(CONTROLS)
    in_parts = measured(spec, prepared)
    for name in CONTROLS:
        if name == "pixel_gaussian":
            assert in_parts[name]["kid"].value == pytest.approx(whole[name]["kid"].value, rel=1e-2)
        else:
            assert in_parts[name] == whole[name], name


def measured(spec, prepared):
    keys = {name: control_key(name, prepared, spec.architecture) for name in CONTROLS}
    return {name: spec.store.measurement(key).quantities for name, key in keys.items()}


def test_a_trial_beside_another_has_less_sampling_noise_in_the_difference(folder):
    keys = []
    for name, more in (("a", ()), ("b", ("recipe.steps=7",))):
        spec = tiny_spec("quality.samples=48", *more)
        run_trial(spec, folder.parent / name)
        keys.append(spec.key)
    prepared = prepare(tiny_spec("quality.samples=48").settings)
    one, other = (evaluate.evaluate(key, prepared.settings).quantities for key in keys)
    for name in ("kid", "fd"):
        difference = evaluate.differences(one, other, "b")[f"{name} less that of b"]
        assert difference.value == pytest.approx(one[name].value - other[name].value)
        assert difference.high - difference.low < one[name].high - one[name].low


def test_images_are_scored_in_the_order_of_their_content(tmp_path):
    data = prepare(tiny_spec().settings).task.images
    for folder, names in (("one", "abcdef"), ("other", "fadbec")):
        (tmp_path / folder).mkdir()
        for at, name in enumerate(names):
            write_grid(data.train[at][0][None], tmp_path / folder / f"{name}.png")
    first, second = (read_images(tmp_path / folder, data, DigitsConfig()) for folder in ("one", "other"))
    assert torch.equal(first.read(range(6)), second.read(range(6)))


def test_a_stored_checkpoint_is_sampled_and_scored_on_the_device_that_trains(folder, monkeypatch, request):
    spec = tiny_spec("recipe.device=cpu")
    record = run_trial(spec, folder)
    devices = request.getfixturevalue("on_cpu_0")
    scores = evaluate.evaluate(spec.key, spec.settings).quantities
    assert devices == {"scoring": [torch.device("cpu:0")], "sampling": [torch.device("cpu:0")]}
    kid, own = scores["kid"], record.quantities["kid"]
    assert (kid.value, kid.replicates) == (own.value, own.replicates)
    assert own.conditions.items() <= kid.conditions.items()


def test_a_checkpoint_that_samples_no_numbers_is_one_sentence(folder, monkeypatch):
    spec = tiny_spec()
    run_trial(spec, folder)

    def read_weights(path, config):
        read = weights.read_weights(path, config)
        network = read.network()
        for parameter in network.parameters():
            parameter.data.fill_(torch.nan)
        return SimpleNamespace(network=lambda: network, training=read.training, architecture=read.architecture)

    monkeypatch.setattr(sampling_run, "read_weights", read_weights)
    with pytest.raises(UserError, match=r"cannot be scored: 16 of 16 images have values that are NaN or infinite"):
        evaluate.evaluate(spec.key, spec.settings)


def test_controls_use_the_launchers_threads_in_the_drivers_own_process_too(folder, monkeypatch):
    thread_counts = []
    monkeypatch.setattr(torch, "set_num_threads", thread_counts.append)
    spec = tiny_spec()
    controls_job, _ = job(spec)
    replace(controls_job, settings=replace(spec.settings, launcher=DebugLauncher(threads=1)))(folder)
    assert thread_counts == [1]


def test_controls_of_another_protocol_than_the_planned_one_are_refused(folder, monkeypatch):
    """The driver would wait for them under other keys."""
    controls_job, prepared = job(tiny_spec("recipe.precision=auto"))
    assert isinstance(prepared, Prepared)
    monkeypatch.setattr(device, "resolve_precision", lambda *_: torch.bfloat16)
    with pytest.raises(UserError, match=r"^recipe\.precision 'auto' was float32 on the machine that began this study"):
        controls_job(folder)


def test_many_samples_are_scored_while_they_are_sampled(folder, monkeypatch):
    """As many as are not kept: the record is that of all at once, and so is the score of the stored checkpoint."""
    spec = tiny_spec("quality.samples=48")
    whole = run_trial(spec, folder.parent / "whole")
    spec.store.delete(whole)
    monkeypatch.setattr(denoise, "KEPT_SAMPLES", 20)
    for module in (denoise, quality):
        monkeypatch.setattr(module, "WHOLE", 40)
    monkeypatch.setattr(denoise, "quality", Mock(side_effect=AssertionError("held at once")))
    record = run_trial(spec, folder.parent / "streamed")
    assert record.key == whole.key
    again = evaluate.evaluate(record.key, spec.settings).quantities
    for name in ("kid", "fd", "class_agreement"):
        for quantity in (record.quantities[name], again[name]):
            assert quantity.value == pytest.approx(whole.quantities[name].value, rel=1e-5), name
            assert quantity.conditions["samples"] == 48
    with np.load(spec.store.artifact(record.key, "samples.npz")) as kept:
        assert kept["images"].shape == (20, 1, 8, 8)
        assert kept["labels"].shape == (20,)
