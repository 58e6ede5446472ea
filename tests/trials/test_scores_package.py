"""`harness evaluate PACKAGE`: the quality of what ships, sampled by the package's own program."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_study import SETTINGS, SMALL, TINY, share_cache, write_yaml

from harness.cli import main
from harness.coreml.mil_program import read_program
from harness.coreml.packaged import PackagedNetwork
from harness.coreml.parity import EXPECTED_DB, psnr_db
from harness.measure.quality import samples_for
from harness.models.weights import read_weights
from harness.records.errors import UserError
from harness.trials.prepared import prepare
from harness.trials.sampled_inputs import sampled_inputs
from harness.trials.sampling_run import sampling_run
from harness.trials.scores.network import _packaged
from harness.trials.trained import network_and_settings, trained_network

QUALITY = [f"{name}={value}" for name, value in SETTINGS.items() if name.startswith("quality.")]


def export(spec, name, capsys, *flags):
    weights = spec.store.artifact(spec.key, "ema.safetensors")
    assert main(["export", str(weights), "--to", name, "--json", *flags]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.fixture
def package(spec, capsys):
    """Of the trial, exported once a module: it stays in its working directory."""
    path = Path("winner.mlpackage")
    if not path.exists():
        export(spec, str(path), capsys)
    return path


def test_many_images_at_once_are_each_as_the_network_makes_it(spec, package):
    network = read_weights(spec.store.artifact(spec.key, "ema.safetensors")).network()
    many = [torch.cat(parts) for parts in zip(*sampled_inputs(*_named(spec), 6), strict=True)]
    with torch.no_grad():
        reference = network(*many)
    assert psnr_db(reference, PackagedNetwork(package, "float32")(*many)) > 60
    assert psnr_db(reference, PackagedNetwork(package, "float16")(*many)) > 35


def _named(spec):
    trained, settings = network_and_settings(spec.key, ())
    return trained, read_weights(trained.weights).network(), settings


def test_the_inputs_are_those_of_its_sampling_the_same_every_time(spec):
    rows, again = (sampled_inputs(*_named(spec), 5) for _ in range(2))
    assert all(
        torch.equal(a, b) for row, other in zip(rows, again, strict=True) for a, b in zip(row, other, strict=True)
    )
    times = {float(row[1]) for row in rows}
    assert len(times) > 1
    assert all(0 < time <= 1 for time in times)
    assert all(len(each) == 1 for row in rows for each in row)


def test_a_package_is_scored_by_its_own_samples(spec, package, capsys):
    scores = {}
    for name in (spec.key, str(package)):
        assert main(["evaluate", name, "--json", *QUALITY]) == 0
        scores[name] = json.loads(capsys.readouterr().out)
    whole, shipped = (scores[name]["kid"] for name in (spec.key, str(package)))
    assert shipped["value"] != whole["value"], "it is sampled anew"
    assert shipped["value"] == pytest.approx(whole["value"], rel=0.05)
    assert shipped["conditions"]["weight_bits"] == "16"
    assert "weight_bits" not in whole["conditions"]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_fewer_bits_make_pictures_that_are_further_off(spec, package, capsys):
    """From the same noise; the scores' difference has its interval."""
    assert export(spec, "four.mlpackage", capsys, "--bits", "4")["bits"] == 4
    trained, settings = network_and_settings(spec.key, QUALITY, scored=True)
    data = prepare(spec.settings).task.images
    run = sampling_run(trained, settings, samples_for(settings.quality, data))
    whole = torch.cat([images for _, images in run.batches(range(16))]).float()
    off = []
    for path in (package, Path("four.mlpackage")):
        images = torch.cat([images for _, images in _packaged(run, path).batches(range(16))]).float()
        off.append(float((images - whole).abs().mean()))
    assert off[0] < 1
    assert off[0] < off[1]
    assert main(["evaluate", "four.mlpackage", "--beside", spec.key, "--json", *QUALITY]) == 0
    difference = json.loads(capsys.readouterr().out)[f"kid less that of {spec.key}"]
    assert difference["low"] < difference["value"] < difference["high"]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_parity_is_of_what_its_own_sampling_shows_it(spec, capsys):
    answer = export(spec, "tried.mlpackage", capsys, "--parity", "--cut")
    assert answer["inputs"] == "4 inputs of its own sampling"
    assert answer["parity"]["float16_db"] > 35
    assert answer["chunks_db"] >= 60
    assert all(Path(each).is_dir() for each in answer["chunks"])


SPARSE = (
    TINY
    | SMALL
    | {
        "stages.1.block.span": {"kind": "assa", "blocks": 4},
        "self_attention": "mqa",
        "qk_norm": "rms",
        "position": "rope_2d",
        "feed_forward.ratio": [4, 4, 3, 3],
    }
)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_sparse_attention_that_was_trained_is_what_is_exported(tmp_path, cache, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    share_cache(Path("runs"), cache)
    write_yaml(Path("sparse.yaml"), {"base": "laptop/thin_sdxl", "edits": SPARSE})
    settings = {**SETTINGS, "recipe.steps": 40, "recipe.checkpoint_every": 40, "recipe.validate_every": 40}
    words = [f"{name}={value}" for name, value in settings.items() if name != "seeds"]
    assert main(["train", "sparse.yaml", *words]) == 0
    (weights,) = Path("runs").rglob("ema.safetensors")
    for layout in ("ane", "plain"):
        capsys.readouterr()
        package = ["--layout", layout, "--to", f"{layout}.mlpackage"]
        assert main(["export", str(weights), *package, "--parity", "--json"]) == 0
        answer = json.loads(capsys.readouterr().out)
        assert answer["inputs"] == "4 inputs of its own sampling"
        assert answer["parity"]["float16_db"] >= EXPECTED_DB, answer


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_mixed_bits_are_planned_written_and_taken_again(spec, capsys):
    answer = export(spec, "mixed.mlpackage", capsys, "--at-most-mb", "0.1")
    plan = Path("mixed.palettes.yaml")
    assert "4 inputs of its own sampling" in plan.read_text()
    again = export(spec, "again.mlpackage", capsys, "--plan", str(plan))
    assert again["bytes"] == pytest.approx(answer["bytes"], rel=0.01)
    assert trained_network("again.mlpackage", Path("runs")).key == spec.key


def test_a_package_that_is_of_no_trial_or_of_one_that_is_elsewhere_is_refused(spec, capsys, tmp_path):
    assert main(["export", "laptop/dit", "--to", "dit.mlpackage"]) == 0
    assert main(["evaluate", "dit.mlpackage", *QUALITY]) == 2
    assert "does not say which trial's network it is" in capsys.readouterr().err
    assert main(["evaluate", "nowhere.mlpackage", *QUALITY]) == 2
    assert "there is no Core ML package nowhere.mlpackage" in capsys.readouterr().err
    Path("dit.mlpackage/Manifest.json").unlink()
    assert main(["evaluate", "dit.mlpackage", *QUALITY]) == 2
    assert "dit.mlpackage cannot be read as a Core ML package" in capsys.readouterr().err


def test_a_package_without_a_mask_is_not_shown_padding(spec, package):
    """Exported from the architecture alone, as for timing, it would read the padding."""
    program = read_program(package)
    network = PackagedNetwork(package)
    assert network.takes_mask
    x, time, context, mask = (torch.cat(parts) for parts in zip(*sampled_inputs(*_named(spec), 3), strict=True))
    assert not mask.all()
    assert not torch.allclose(network(x, time, context), network(x, time, context, mask))
    network.program = replace(program, inputs=program.inputs[:3])
    with pytest.raises(UserError, match="takes no mask, so that it would read the padding"):
        network(x, time, context, mask)


def test_averages_of_a_package_are_refused(package, capsys):
    assert main(["evaluate", str(package), "--ema", "0.1", *QUALITY]) == 2
    assert "has one average of the weights; leave out --ema" in capsys.readouterr().err
