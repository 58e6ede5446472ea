"""What `harness publish` writes is loaded elsewhere and makes the same pictures; what is missing or altered is said."""

import functools
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from importlib.metadata import PathDistribution
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

import harness
from harness.cli import main
from harness.data.prompts import read_prompts
from harness.models import weights as weights_module
from harness.models.weights import PICKLES
from harness.publish import write
from harness.publish.folder import read_manifest, write_manifest
from harness.records.errors import UserError
from harness.records.quantity import Measured
from harness.records.store import Store

pytestmark = pytest.mark.timeout(600)  # a conversion to Core ML
TEXTS = ["a photo of a three", "a photo of a seven", "a photo of a three"]
ELSEWHERE = """
import sys
import numpy
from harness import count, load

model = load("model")
pictures = model.sample(sys.argv[1:], steps=10, guidance=1.5)
numpy.save("pictures.npy", numpy.stack([numpy.asarray(each) for each in pictures]))
print(count(model.architecture, latent=model.shape[1]).params)
"""


@pytest.mark.slow
def test_a_fresh_process_with_the_package_alone_makes_harness_samples_pictures(published, record, tmp_path):
    """Neither the store nor a file of the repository is there, and no other process's cache."""
    site = tmp_path / "site"
    package = Path(harness.__file__).parent
    shutil.copytree(package, site / "harness", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(published, tmp_path / "model")
    environment = {**os.environ, "PYTHONPATH": str(site), "HOME": str(tmp_path / "home")}
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, *TEXTS], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == record.quantities["params"].value
    words = ["sample", record.key, "--classes", "three", "seven", "--count", "3", "--to", str(tmp_path / "a.npz")]
    assert main([*words, "sampling.steps=10", "sampling.guidance_scale=1.5"]) == 0
    with np.load(tmp_path / "a.npz") as sampled:
        assert np.array_equal(np.load(tmp_path / "pictures.npy"), sampled["arr_0"][..., 0])


def test_its_defaults_are_the_trials_and_its_grid_is_made_by_them(published, record):
    model = harness.load(published)
    assert model.sampling == harness.load(record.key).sampling
    prompts = [f"a photo of a {name}" for name in model.class_names] * 6
    pictures = model.sample(prompts)
    shown = np.asarray(Image.open(published / "samples.png"))
    factor, gap = 32 // 8, 2
    for index in (0, 13, 59):
        row, column = divmod(index, 10)
        top, left = row * (8 * factor + gap), column * (8 * factor + gap)
        tile = shown[top : top + 8 * factor : factor, left : left + 8 * factor : factor]
        assert np.array_equal(tile, np.asarray(pictures[index]))
    assert np.array_equal(np.asarray(model.sample(["zero"])[0]), np.asarray(pictures[0]))


def test_no_file_is_a_pickle(published):
    files = [path for path in published.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} <= {".json", ".safetensors", ".png", ".md", "", ".bin", ".mlmodel"}
    assert len({path.stat().st_mode for path in files}) == 1  # who may read one may read all
    assert [path for path in files if path.suffix == ".bin"] == [*published.glob("coreml/*/Data/*/weights/weight.bin")]
    assert [
        path for path in files if path.read_bytes().startswith((*PICKLES, b"\x80\x03", b"\x80\x05", b"\x93NUMPY"))
    ] == []


def test_the_card_has_the_records_numbers_with_their_protocol(published, record):
    card = (published / "README.md").read_text()
    head = yaml.safe_load(card.split("---")[1])
    assert (head["library_name"], head["license"]) == ("unet-harness", "apache-2.0")
    kid = record.quantities["kid"]
    (row,) = [line for line in card.splitlines() if line.startswith("| KID |")]
    assert f"| {kid.value:#.3g} | {kid.low:#.3g} to {kid.high:#.3g} |" in row
    assert kid.conditions["label"] in row
    assert f"| Parameters | {record.quantities['params'].value:,} parameters |" in card
    assert "seed 0" in card
    for block in card.split("```yaml\n")[1:]:
        yaml.safe_load(block.split("```")[0])  # readable
    protocol = yaml.safe_load(card.split("## Protocol")[1].split("```yaml\n")[1].split("```")[0])
    assert protocol["recipe"] == record.protocol["recipe"]
    assert "host" not in card
    assert "as the scores' samples were made" in card


def test_the_card_says_what_other_seeds_gave_and_which_defaults_differ(record, tmp_path):
    """The best of several is flattered; and other settings of sampling are not those of the scores."""
    store = Store(Path("runs/store"))
    other = replace(record, seed=5, quantities={"kid": Measured(value=0.25, unit="1")})
    store.put(other)
    try:
        words = ["publish", record.key, "--no-coreml", "--to", str(tmp_path / "m"), "sampling.steps=3"]
        assert main([*words, "sampling.solver=heun"]) == 0
    finally:
        store.delete(other)
    card = (tmp_path / "m" / "README.md").read_text()
    assert "with 1 other seed(s), in the same store: KID 0.250 (seed 5)" in card
    assert "otherwise than the scores' samples were made: solver and steps" in card
    assert not (tmp_path / "m" / "coreml").exists()
    assert harness.load(tmp_path / "m").sampling.solver == "heun"


# What is missing or altered


def altered(path, content=None):
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(path.read_bytes()[:-1] + b"\x00" if content is None else content)


DAMAGE = {
    "no folder": (shutil.rmtree, "'MODEL' is neither the key of a trial .* nor a folder that `harness publish` wrote"),
    "no manifest": (lambda m: (m / "config.json").unlink(), "MODEL has no config.json; give a folder that"),
    "no JSON": (lambda m: altered(m / "config.json", b"{"), "is none that `harness publish` wrote, or was damaged"),
    "another program's": (lambda m: altered(m / "config.json", b'{"a": 1}'), "is none that `harness publish` wrote"),
    "another version": (lambda m: edited(m, format="unet-harness-model-9"), "has the format unet-harness-model-9, and"),
    "another name": (lambda m: edited(m, name="better"), "config.json was altered"),
    "weights": (lambda m: altered(m / "model.safetensors"), "model.safetensors was altered: its sha256 begins"),
    "no weights": (
        lambda m: (m / "model.safetensors").unlink(),
        "MODEL lacks model.safetensors; fetch the folder again",
    ),
    "prompts": (lambda m: altered(m / "text" / "prompts.safetensors"), "prompts.safetensors was altered"),
    "a stranger's file": (
        lambda m: altered(m / "autoencoder" / "config.json", b"{}"),
        "autoencoder/config.json was not published with the rest; remove it",
    ),
}


def edited(folder, **changes):
    plain = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(plain | changes))


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_one_sentence_before_anything_is_built(name, published, tmp_path, monkeypatch):
    damage, sentence = DAMAGE[name]
    copied = tmp_path / "model"
    shutil.copytree(published, copied, ignore=shutil.ignore_patterns("coreml"))
    monkeypatch.setattr(weights_module, "build", lambda *_: pytest.fail("a network was built"))
    monkeypatch.chdir(tmp_path)
    damage(copied)
    with pytest.raises(UserError, match=sentence.replace("MODEL", "(.*/)?model")):
        harness.load(copied)


def test_the_licence_is_there_whatever_the_metadata_lacks(monkeypatch):
    """In a checkout a build leaves metadata without it, which Python finds first."""
    monkeypatch.setattr(PathDistribution, "read_text", lambda *_: None)
    assert "Apache License" in write.own_license().text


def test_a_device_that_is_not_here_is_one_sentence(published):
    with pytest.raises(
        UserError, match=r"^device is 'gpu', which this machine does not have; choose one of: auto, cpu"
    ):
        harness.load(published, device="gpu")


def test_an_architecture_that_another_version_reads_otherwise_is_refused(published, tmp_path):
    copied = tmp_path / "model"
    shutil.copytree(published, copied, ignore=shutil.ignore_patterns("coreml"))
    manifest = replace(read_manifest(copied), architecture_fingerprint="0" * 16)
    write_manifest(copied, manifest)
    with pytest.raises(UserError, match=r"is of the architecture 0{16}, which this version of unet-harness reads as"):
        harness.load(copied)


def test_the_card_may_be_edited_and_the_folder_renamed(published, tmp_path):
    shutil.copytree(published, tmp_path / "renamed", ignore=shutil.ignore_patterns("coreml"))
    (tmp_path / "renamed" / "README.md").write_text("mine")
    assert len(harness.load(tmp_path / "renamed").sample(["three"], steps=1)) == 1


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"stepz": 3}, "unknown setting 'sampling.stepz'; choose one of: sampling.steps"),
        ({"steps": "ten"}, "'sampling.steps' must be a whole number, not 'ten'"),
        ({"guidance": 0.5}, "guidance_scale must be a number from 1"),
        ({"steps": 0}, "steps must be at least 1"),
        ({"texts": []}, "there is no text to make a picture of"),
        ({"texts": [3]}, "is a text, not 3: a prompt, or a class by its name, such as 'zero'"),
        ({"legacy_guided_channels": 1}, "is to leave some channels unguided"),
    ],
)
def test_what_cannot_be_sampled_is_one_sentence(asked, sentence, published):
    with pytest.raises(UserError, match=sentence):
        harness.load(published).sample(**{"texts": ["three"], **asked})


def test_other_texts_are_read_by_the_encoder_whose_hash_it_has(published):
    model = harness.load(published)
    known, other = model.images(["a photo of a three", "a photo of a 3"], steps=2)
    assert not np.array_equal(known, other)
    assert np.array_equal(known, model.images(["three"], steps=2)[0])
    foreign = {**model.prompts.identity, "encoder": "0" * 16}
    with pytest.raises(UserError, match="was trained with the text encoder of the hash 0000000000000000"):
        replace(model, prompts=replace(model.prompts, identity=foreign)).sample(["a photo of a 3"])
    with pytest.raises(UserError, match="has no name there; give its settings to load"):
        replace(model, text=None).sample(["a photo of a 3"])


# What is refused, and what is left as it was


@pytest.fixture
def refused(record, refusal):
    return functools.partial(refusal, "publish")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["nothing", "--to", "m"], "'nothing' is neither the key of a trial in runs/store"),
        (["KEY"], "--to"),
        (["KEY", "--to", "m", "recipe.steps=3"], "a published model depends on sampling.SETTING, autoencoder.SETTING"),
        (["KEY", "--to", "m", "--no-coreml", "--bits", "8"], "--no-coreml writes no packages, so it takes no --bits"),
        (["KEY", "--to", "m", "--embed"], "--embed copies the autoencoder, and this network sees pixels"),
        (["KEY", "--to", "m", "--license", "nowhere.txt"], "cannot read the licence nowhere.txt"),
        (["KEY", "--to", "runs"], "--to runs is not empty, and no model was published there"),
        (["KEY", "--to", "file"], "--to file is a file, and a folder is to be written"),
        (["KEY", "--to", "model", "--bits", "8"], "holds this trial, published with other settings"),
    ],
)
def test_a_mistake_is_one_sentence(words, sentence, refused, record, published):
    Path("file").touch()
    assert sentence in refused(*(record.key if word == "KEY" else word for word in words))
    assert not Path("m").exists()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"artifacts": {}}, "is complete, and counted only: it left no weights to use"),
        ({"artifacts": {}, "state": "failed"}, "is failed (failed): it left no weights to use"),
    ],
)
def test_a_trial_without_weights_says_so(changes, sentence, refused, record):
    Store(Path("other/store")).put(replace(record, **changes))
    assert sentence in refused(record.key, "out=other", "--to", "m")


def test_weights_without_their_record_have_no_card(refused, record, tmp_path):
    file = shutil.copy(Path("runs/store/artifacts") / record.key / "ema.safetensors", tmp_path / "mine.safetensors")
    assert "is of no trial in a store here, and a model card has its numbers from the trial's record" in refused(
        str(file), "out=nowhere", "--to", "m"
    )


def test_what_lies_there_is_left_alone_and_checked(published, record, refused, capsys, tmp_path):
    before = {path: path.stat().st_mtime_ns for path in published.rglob("*")}
    capsys.readouterr()
    assert main(["publish", record.key, "--to", "model"]) == 0
    assert "holds this model already, whole and unaltered; nothing to do" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in published.rglob("*")} == before
    copied = tmp_path / "model"
    shutil.copytree(published, copied)
    altered(copied / "coreml" / "solver.json")
    assert "coreml/solver.json was altered" in refused(record.key, "--to", str(copied))
    store, other = Store(Path("runs/store")), replace(record, seed=6)
    store.put(other)
    shutil.copytree(Path("runs/store/artifacts") / record.key, Path("runs/store/artifacts") / other.key)
    try:
        assert f"holds the model of trial {record.key}; give a new folder" in refused(other.key, "--to", "model")
    finally:
        store.delete(other)


@pytest.mark.parametrize("end", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_one_that_is_stopped_leaves_nothing(end, record, tmp_path, monkeypatch):
    def stopped(*_):
        raise end

    monkeypatch.setattr(write, "write_manifest", stopped)
    assert main(["publish", record.key, "--no-coreml", "--to", str(tmp_path / "m")]) != 0
    assert list(tmp_path.iterdir()) == []


def test_another_licence_is_the_users(record, tmp_path):
    (tmp_path / "mine.txt").write_text("All rights reserved.")
    words = ["publish", record.key, "--no-coreml", "--to", str(tmp_path / "m"), "--license", str(tmp_path / "mine.txt")]
    assert main(words) == 0
    assert (tmp_path / "m" / "LICENSE").read_text() == "All rights reserved."
    head = yaml.safe_load((tmp_path / "m" / "README.md").read_text().split("---")[1])
    assert (head["license"], head["license_name"], head["license_link"]) == ("other", "mine", "LICENSE")


def test_prompts_are_those_of_the_weights(published):
    manifest = read_manifest(published)
    prompts = read_prompts(published / "text" / "prompts.safetensors", manifest.text)
    assert len(prompts) == len(manifest.text["prompts"]) == 10
    assert not bool(prompts.empty_mask.all())
