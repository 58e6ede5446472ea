"""One trial from cheap to expensive: what its record holds, what is never done twice, and how a trial may end."""

import dataclasses
import io
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from safetensors.torch import load_file
from tiny_study import SETTINGS, share_cache, tiny_spec
from torch.utils.checkpoint import checkpoint

from harness.architecture.catalogue import architecture
from harness.cli import main
from harness.coreml.export import CoremlExportError
from harness.latency.cpu import CpuLatency
from harness.launch.config import DebugLauncher
from harness.launch.events import read_steps
from harness.launch.pool import Pool
from harness.measure.quality_config import DEFAULT_METRICS
from harness.measure.quality_reference import load_reference
from harness.models import unet
from harness.models.weights import read_weights
from harness.records.errors import UserError
from harness.records.quantity import Counted, Failed, Measured, Unavailable
from harness.records.record import Protocol, why
from harness.records.store import Store
from harness.training import device, update
from harness.training.objectives import flow_matching
from harness.trials import costs, run
from harness.trials.outcomes import TRAINED
from harness.trials.prepared import prepare
from harness.trials.progress import Show
from harness.trials.queue import TrialQueue, run_all
from harness.trials.run import run_trial
from harness.trials.settings import settings_of
from harness.trials.tasks import denoise

SCORES = DEFAULT_METRICS
LEARNT = (*TRAINED, *SCORES)
TIMED = ("latency=cpu", "latency.cpu.iterations=5", "latency.cpu.warm_up=1")


def attempt(name="attempt-001"):
    folder = Path("attempts") / name
    folder.mkdir(parents=True)
    return folder / "attempt-001"


@pytest.fixture
def trainings(monkeypatch):
    """The seeds that were trained, in order."""
    seeds, train = [], run.train

    def counting(*arguments, seed, **more):
        seeds.append(seed)
        return train(*arguments, seed=seed, **more)

    monkeypatch.setattr(run, "train", counting)
    return seeds


def test_the_log_of_steps_says_what_the_attempt_trained(workplace):
    folder = attempt()
    run_trial(tiny_spec(), folder)
    lines = read_steps(folder.parent)
    assert [(line["event"], line["after"], line["to"]) for line in lines] == [
        ("began", 0, 0), ("saved", 0, 2), ("saved", 2, 4), ("saved", 4, 6), ("ended", 0, 6)
    ]  # fmt: skip
    assert {line["attempt"] for line in lines} == {folder.name}


def test_a_complete_record_has_every_quantity_curve_and_artifact(workplace):
    spec = tiny_spec(*TIMED)
    record = run_trial(spec, attempt())
    assert record.state == "complete"
    kinds = {name: type(quantity) for name, quantity in record.quantities.items()}
    assert kinds == {
        **dict.fromkeys(("params", "macs", "macs_without_attention", "flops_fvcore"), Counted),
        **dict.fromkeys(("latency_cpu", *LEARNT), Measured),
        **dict.fromkeys(("coreml_bytes", "latency_iphone"), Unavailable),
    }
    assert {point.name for point in record.curve} >= {"train_loss", "validation_loss", "learning_rate"}
    assert max(point.step for point in record.curve) == spec.settings.recipe.steps
    last = [point.value for point in record.curve if point.name == "validation_loss"][-1]
    assert last == record.quantities["validation_loss"].value
    assert Store(Path("runs/store")).trial(spec.key) == record
    assert {"code", "versions", "host", "command", "device", "precision", "stage_seconds"} <= set(record.provenance)


def test_artifacts_are_what_they_are_called(workplace):
    spec = tiny_spec()
    record = run_trial(spec, attempt())
    paths = {name: spec.store.artifact(record.key, file) for name, file in record.artifacts.items()}
    assert set(paths) == {"samples.png", "real.png", "samples.npz", "ema.safetensors"}
    assert Image.open(paths["samples.png"]).size[0] > 100
    samples = np.load(paths["samples.npz"])
    assert samples["images"].shape == (16, 1, 8, 8)
    assert samples["images"].dtype == np.uint8
    weights = read_weights(paths["ema.safetensors"], spec.architecture)
    assert sum(tensor.numel() for tensor in weights.tensors.values()) == record.quantities["params"].value
    assert (weights.training.trial, weights.training.latent) == (record.key, 8)
    assert record.provenance["artifact_bytes"] == sum(path.stat().st_size for path in paths.values())


def test_scores_say_what_the_network_was_trained_on_and_in(workplace):
    record = run_trial(tiny_spec("recipe.precision=bfloat16"), attempt())
    for name in SCORES:
        conditions = record.quantities[name].conditions
        assert (conditions["training_device"], conditions["precision"]) == ("cpu", "bfloat16")


def test_scores_are_computed_on_the_device_that_trains(workplace, monkeypatch):
    """`cpu:0` is the CPU by a name of its own, so that a device that was passed can be told from the default."""
    devices = []

    def spy(*arguments, device="cpu", **more):
        devices.append(device)
        return load_reference(*arguments, device=device, **more)

    monkeypatch.setattr(denoise, "load_reference", spy)
    monkeypatch.setattr(denoise, "resolve_device", lambda name: torch.device(f"{name}:0"))
    run_trial(tiny_spec("recipe.device=cpu"), attempt())
    assert devices == [torch.device("cpu:0")]


def test_the_grid_has_a_class_a_column(workplace, monkeypatch):
    grids = []
    monkeypatch.setattr(
        denoise, "write_grid", lambda images, _, *, columns: grids.append((images[:, 0, 0, 0], columns))
    )
    trial = run.Trial(tiny_spec(), attempt(), tracking=None)
    labels = torch.tensor([2, 0, 0, 2, 0])
    prepare(tiny_spec().settings).task.keep_samples(labels.to(torch.uint8).view(-1, 1, 1, 1), labels, trial)
    (samples, columns), (real, real_columns) = grids
    assert (samples.tolist(), columns) == ([0, 2, 0, 2, 0, 255], 2)
    assert (len(real), real_columns) == (2, 2), "a real picture of each class, in the same columns"


def test_the_same_three_are_trained_once(workplace, trainings):
    first = run_trial(tiny_spec(), attempt("a"))
    again = run_trial(tiny_spec(group="another study"), attempt("b"))
    assert again == first
    run_trial(tiny_spec(seed=1), attempt("c"))
    run_trial(tiny_spec("recipe.steps=7"), attempt("d"))
    assert trainings == [0, 1, 0]


def test_automatic_precision_is_in_the_key_as_what_it_became(workplace, monkeypatch):
    """Or a bfloat16 training on a GPU and a float32 one on a laptop would be one trial."""
    keys = [tiny_spec(f"recipe.precision={name}").key for name in ("auto", "float32", "bfloat16")]
    assert keys[0] == keys[1] != keys[2]
    monkeypatch.setattr(device, "resolve_precision", lambda *_: torch.bfloat16)
    assert tiny_spec("recipe.precision=auto").key == keys[2]


def test_a_worker_whose_precision_is_not_the_planned_one_says_so(workplace, trainings, monkeypatch):
    spec = tiny_spec("recipe.precision=auto")
    monkeypatch.setattr(device, "resolve_precision", lambda *_: torch.bfloat16)
    with pytest.raises(UserError) as refused:
        run_trial(spec, attempt())
    assert str(refused.value).startswith("recipe.precision 'auto' was float32 on the machine that began this study")
    assert "bfloat16 on its worker's" in str(refused.value)
    assert trainings == []


def test_data_that_changed_under_the_study_train_nothing(workplace, trainings):
    """The record would say that it comes from the images that the driver saw."""
    spec = tiny_spec()
    sections = {**spec.protocol.sections, "data": {**spec.protocol.sections["data"], "content": "0" * 16}}
    planned = dataclasses.replace(spec, protocol=Protocol(sections=sections))
    with pytest.raises(UserError, match=r"^data changed since this study began; run the same command again"):
        run_trial(planned, attempt())
    assert trainings == []
    assert planned.store.trial(planned.key) is None


def test_seeds_repeat_bit_for_bit(workplace, cache):
    def trial(out, seed):
        spec = tiny_spec(f"out={out}", seed=seed)
        record = run_trial(spec, attempt(f"{out}-{seed}"))
        samples = np.load(io.BytesIO(spec.store.artifact(record.key, "samples.npz").read_bytes()))
        weights = load_file(spec.store.artifact(record.key, "ema.safetensors"))
        return record, samples["images"], weights

    share_cache(Path("elsewhere"), cache)
    here, there, other = trial("runs", 0), trial("elsewhere", 0), trial("elsewhere", 1)
    assert np.array_equal(here[1], there[1])
    assert all(torch.equal(tensor, there[2][name]) for name, tensor in here[2].items())
    assert here[0].curve == there[0].curve
    for name in ("kid", "fd", "class_agreement", "validation_loss"):
        assert here[0].quantities[name] == there[0].quantities[name]
    assert not np.array_equal(here[1], other[1])


def test_recomputed_blocks_train_the_same_network(workplace, monkeypatch):
    """It is no part of a trial's identity, because it changes nothing that the trial finds."""
    recomputed = []
    monkeypatch.setattr(unet, "checkpoint", lambda *call, **more: recomputed.append(call) or checkpoint(*call, **more))

    def weights(out, *overrides):
        spec = tiny_spec(f"out={out}", *overrides)
        record = run_trial(spec, attempt(f"{out}-1"))
        under = {name: record.quantities[name].conditions for name in ("train_seconds", "validation_loss", "kid")}
        return record.key, load_file(spec.store.artifact(record.key, "ema.safetensors")), under

    key, kept, under = weights("kept")
    assert not recomputed
    same_key, again, recomputed_under = weights("again", "recipe.gradient_checkpointing=true")
    assert recomputed
    assert same_key == key
    assert recomputed_under.pop("train_seconds") == {**under.pop("train_seconds"), "gradient_checkpointing": True}
    assert recomputed_under == under, "it changes the time alone"
    for name, tensor in kept.items():
        torch.testing.assert_close(again[name], tensor, msg=name)


def test_what_rounds_otherwise_is_said_of_all_that_was_learnt(workplace):
    """So that a report does not compare such rungs with others unmarked; beside it the same conditions."""
    (plain, other) = (
        run_trial(tiny_spec(f"out={out}", *more), attempt(out))
        for out, more in (("plain", ()), ("other", ("recipe.channels_last=true",)))
    )
    assert other.key == plain.key
    for name in LEARNT:
        expected = {**plain.quantities[name].conditions, "channels_last": True}
        assert other.quantities[name].conditions == expected, name


def test_only_a_unet_recomputes_its_blocks(workplace):
    with pytest.raises(UserError, match="recomputes the blocks of a UNet, and DiTConfig is none"):
        prepare(settings_of(["recipe.gradient_checkpointing=true"], SETTINGS)).adapt_to_data(architecture("laptop/dit"))


def test_a_limit_rejects_before_training_and_names_itself(workplace, trainings):
    spec = tiny_spec(limits={"params": 1000})
    record = run_trial(spec, attempt())
    assert record.state == "rejected"
    assert "params is 181,873, above the limit of 1,000" in why(record)
    assert all(isinstance(record.quantities[name], Unavailable) for name in LEARNT)
    assert trainings == []
    assert spec.store.trial(spec.key) == record
    assert run_trial(tiny_spec(), attempt("without limit")).state == "complete"


def test_a_divergence_is_a_failed_record_with_its_step_and_last_good_loss(workplace, trainings, monkeypatch):
    losses, loss = [], flow_matching.flow_matching_loss

    def poisoned(*arguments):
        losses.append(loss(*arguments))
        return losses[-1] * torch.nan if len(losses) == 4 else losses[-1]

    monkeypatch.setattr(flow_matching, "flow_matching_loss", poisoned)
    spec = tiny_spec("recipe.log_every=1")
    record = run_trial(spec, attempt())
    assert record.state == "failed"
    expected = f"training diverged at step 4 (train_loss is nan); the last good loss: it was {losses[2].item():.4g}"
    assert {name: record.quantities[name] for name in LEARNT} == dict.fromkeys(
        LEARNT, Failed(phase="train", message=expected)
    )
    assert isinstance(record.quantities["params"], Counted)
    assert (record.provenance["device"], record.provenance["precision"]) == ("cpu", "float32")
    assert record.provenance["cpu_seconds"] > 0
    assert [point.step for point in record.curve if point.name == "train_loss"] == [1, 2, 3]
    assert run_trial(spec, attempt("again")) == record
    assert trainings == [0]


def test_a_huge_learning_rate_diverges_and_keeps_no_samples(workplace):
    spec = tiny_spec("recipe.learning_rate=1e4", "recipe.warmup_steps=0", "recipe.clip=null", "recipe.steps=30")
    record = run_trial(spec, attempt())
    assert record.state == "failed"
    assert "training diverged at step" in why(record)
    assert record.artifacts == {}


def test_samples_that_are_no_numbers_are_a_failed_record_not_black_images(workplace, monkeypatch):
    train = run.train

    def spoils(*arguments, **more):
        trained = train(*arguments, **more)
        trained.model.conv_out.bias.data.fill_(torch.nan)
        return trained

    monkeypatch.setattr(run, "train", spoils)
    record = run_trial(tiny_spec(), attempt())
    failed = Failed(phase="sample", message="16 of 16 images have values that are NaN or infinite")
    assert record.state == "failed"
    assert {name: record.quantities[name] for name in SCORES} == dict.fromkeys(SCORES, failed)
    assert isinstance(record.quantities["validation_loss"], Measured)
    assert record.provenance["device"] == "cpu"


def test_a_network_that_does_not_convert_is_trained_all_the_same(workplace, monkeypatch):
    def refuses(*_):
        raise CoremlExportError("no operator for this")

    monkeypatch.setattr(costs, "export_package", refuses)
    record = run_trial(tiny_spec("coreml=ios17"), attempt())
    assert record.quantities["coreml_bytes"] == Failed(phase="coreml", message="no operator for this")
    assert record.state == "complete"
    assert isinstance(record.quantities["kid"], Measured)


def test_counting_only_trains_nothing_and_says_so(workplace, trainings):
    record = run_trial(tiny_spec("count_only=true", "latency=cpu", "latent=16"), attempt())
    assert record.state == "complete"
    assert record.quantities["macs"].conditions["latent"] == 16
    for name in ("coreml_bytes", "latency_cpu", *LEARNT):
        assert record.quantities[name] == Unavailable(reason="this study counts only")
    assert trainings == []


@pytest.mark.slow
def test_counting_only_names_no_weights_that_are_not_there(workplace, capsys):
    words = ["count_only=true", "data=digits", "recipe.steps=6", "launcher=debug", "latency=none"]
    assert main(["train", "tiny_base.yaml", *words]) == 0
    printed = capsys.readouterr().out
    assert "macs" in printed
    assert "ema.safetensors" not in printed


@pytest.mark.slow
def test_latency_is_measured_once_an_architecture(workplace, monkeypatch):
    timed, measure = [], CpuLatency.measure

    def counting(self, module, inputs):
        timed.append(self)
        return measure(self, module, inputs)

    monkeypatch.setattr(CpuLatency, "measure", counting)
    records = [run_trial(tiny_spec(*TIMED, seed=seed), attempt(f"seed-{seed}")) for seed in (0, 1)]
    assert len(timed) == 1
    assert records[0].quantities["latency_cpu"] == records[1].quantities["latency_cpu"]
    (kept,) = [each for each in Store(Path("runs/store")).measurements() if "latency_cpu" in each.quantities]
    assert kept.quantities["latency_cpu"] == records[0].quantities["latency_cpu"]
    assert kept.provenance["versions"]
    edited = tiny_spec(*TIMED, edits={"feed_forward.ratio": 2})
    costs.measure_latency(edited.store, edited.architecture, edited.settings, edited.latent)
    assert len(timed) == 2


def test_other_costs_are_measured_without_another_training(workplace, trainings):
    """Counts, exports and latencies are no part of a trial's identity: a record kept as it was would be stale."""
    first = run_trial(tiny_spec(), attempt())
    with Pool(Path("jobs"), DebugLauncher()) as pool:
        second = TrialQueue(pool).submit(tiny_spec(*TIMED, "latent=16"))
        assert isinstance(second.quantities["latency_cpu"], Measured)
        assert second.quantities["macs"].conditions["latent"] == 16
        assert second.quantities["macs"].value > first.quantities["macs"].value
        assert second.quantities["kid"] == first.quantities["kid"]
        assert tiny_spec().store.trial(first.key) == second
        again = TrialQueue(pool).submit(tiny_spec())
    assert again.quantities["macs"] == first.quantities["macs"]
    assert again.quantities["latency_cpu"] == second.quantities["latency_cpu"]
    assert trainings == [0]


def test_a_record_goes_back_into_an_emptied_store_only_with_its_artifacts(workplace, trainings):
    """The attempts' folder still has the job's result, but not the weights and samples that it names."""
    spec = tiny_spec()

    def again():
        with Pool(Path("jobs"), DebugLauncher()) as pool:
            return run_all(TrialQueue(pool), [spec], Show(Console(quiet=True)))[spec.key]

    first = again()
    Path(spec.store.root / "trials" / f"{spec.key}.json").unlink()
    assert again() == first
    assert trainings == [0]
    shutil.rmtree(spec.store.root)
    restored = again()
    assert trainings == [0, 0]
    assert all(spec.store.artifact(spec.key, name).is_file() for name in restored.artifacts)
    assert again() == restored
    assert trainings == [0, 0]


def test_checkpoints_outlive_the_training_until_the_record_is_stored(workplace, monkeypatch, trainings):
    """A death just before the record is written repeats no step of the training."""
    spec, folder = tiny_spec(), attempt()

    def dies(*_):
        raise SystemExit

    with monkeypatch.context() as dying:
        dying.setattr(Store, "put", dies)
        with pytest.raises(SystemExit):
            run_trial(spec, folder)
    steps, whole_update = [], update.Update.__call__
    monkeypatch.setattr(
        update.Update, "__call__", lambda self, step, batch: (steps.append(step), whole_update(self, step, batch))[1]
    )
    assert run_trial(spec, folder.with_name("attempt-002")).state == "complete"
    assert steps == []
    assert not (folder.parent / "shared").exists()


def test_a_dashboard_has_architecture_recipe_and_knobs_flat_and_can_filter_by_study_and_budget(workplace):
    shown = run._tracked(tiny_spec(group="search", fidelity="final", knobs={"ffn": 3}))
    expected = {"stages.1.channels": 16, "feed_forward.ratio": 4, "recipe.steps": 6, "knob.ffn": 3, "seed": 0}
    assert expected.items() <= shown.config.items()
    assert shown.config["tree"]["knob"] == {"ffn": 3}
    assert shown.config["tree"]["architecture"]["stages"][1]["channels"] == 16
    assert (shown.job_type, shown.tags) == ("final", ("search", "final", "6 steps"))
