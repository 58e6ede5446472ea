"""`harness sample`: the images that the trial itself was scored on, however the network is named, in every form."""

import functools
import json
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from whole_images import sample_images

from harness.architecture.catalogue import architecture, to_yaml
from harness.architecture.edits import with_edits
from harness.cli import main
from harness.diffusion.sampling import sample
from harness.models import tiny_autoencoder
from harness.models.autoencoder import describe, load_autoencoder
from harness.models.autoencoder_config import TinyAutoencoder
from harness.models.parameters import filled_copy
from harness.models.weights import Training, read_weights, write_weights
from harness.records.errors import UserError
from harness.records.manifest import Manifest, Rung, write_manifest
from harness.records.store import Store
from harness.trials import sample_files
from harness.trials.prepared import prepare
from harness.trials.samples import initialised_network
from harness.trials.sampling_run import class_numbers
from harness.trials.settings import settings_of
from harness.trials.trained import trained_network, weights_of

COUNT = 40  # of micro-batches of 16


@pytest.fixture
def sampled(tmp_path, capsys):
    """Call `harness sample`; the images (N, H, W, C) and the labels of the npz that it wrote."""

    def call(*words):
        path = tmp_path / "samples.npz"
        assert main(["sample", *words, "--to", str(path)]) == 0
        assert capsys.readouterr().out == f"{path}\n"
        with np.load(path) as arrays:
            assert sorted(arrays) == ["arr_0", "arr_1"]
            return arrays["arr_0"], arrays["arr_1"]

    return call


def expected(spec, count=COUNT, **sampling):
    """What the trial is scored on."""
    settings = replace(spec.settings, sampling=replace(spec.settings.sampling, **sampling))
    network = read_weights(spec.store.artifact(spec.key, "ema.safetensors")).network()
    images, labels = sample_images(network, prepare(settings), count)
    return images.permute(0, 2, 3, 1).numpy(), labels.numpy()


def test_it_samples_what_its_trial_was_scored_on_however_it_is_named(spec, sampled):
    images, labels = expected(spec)
    assert len(np.unique(images)) > 100
    file = f"runs/store/artifacts/{spec.key}/ema.safetensors"
    for what in (spec.key, spec.key[:5], file, "winner.yaml"):
        sampled_images, sampled_labels = sampled(what, "--count", str(COUNT))
        assert sampled_images.dtype == np.uint8
        assert np.array_equal(sampled_images, images), what
        assert np.array_equal(sampled_labels, labels), what


def test_a_study_that_trained_one_network_names_it(spec, refusal):
    """Of several, of none and of a sweep the sentence says what to name. What a training begins with or learns from
    has no study's name: the training's own may be it."""
    rung = Rung(
        name="tiny", title="Tiny", architecture_fingerprint=spec.architecture.fingerprint, against=None, edits={}
    )
    protocol = {"protocol": spec.protocol.sections, "protocol_fingerprint": spec.protocol.fingerprint}
    about = {"seeds": (spec.seed,), **protocol, "controls": {}, "command": "harness train tiny.yaml"}
    one = Manifest(name="alone", rungs=(rung,), **about)
    other = replace(spec.store.trial(spec.key), seed=7)
    for name in ("alone", "pair", "none", "swept"):
        Path("runs", name).mkdir(exist_ok=True)
    Path("runs/swept/sweep.json").write_text("{}")
    write_manifest(Path("runs/alone"), one)
    write_manifest(Path("runs/pair"), replace(one, name="pair", seeds=(spec.seed, 7)))
    write_manifest(Path("runs/none"), replace(one, name="none", seeds=(8,)))
    assert trained_network("alone", Path("runs")).key == trained_network("pair", Path("runs")).key == spec.key
    with pytest.raises(UserError, match=r"'alone' is neither .* nor the folder that it was published as"):
        weights_of("alone", Path("runs"))
    spec.store.put(other)
    try:
        assert f"trained 2 networks; name one: {spec.key} (tiny, seed 0), {other.key} (tiny, seed 7)" in refusal(
            "sample", "pair"
        )
    finally:
        spec.store.delete(other)
    assert "no network of the study none is trained in runs yet; `harness train tiny.yaml` does" in refusal(
        "sample", "none", "--prompt", "a three"
    )
    assert "swept is a sweep of many networks; " in refusal("sample", "swept")


def test_any_text_is_asked_for_and_a_prompt_of_training_is_that(spec, tmp_path, capsys):
    """Each prompt a column, in the order of asking; the same picture wherever the noise and the text are the same."""
    by_class, by_text = tmp_path / "class.npz", tmp_path / "text.npz"
    assert main(["sample", spec.key, "--classes", "three", "--count", "3", "--to", str(by_class)]) == 0
    capsys.readouterr()
    asked = ["--prompt", "a photo of a three", "--prompt", "a zero like a three"]
    assert main(["sample", spec.key, *asked, "--count", "4", "--to", str(by_text)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said == ["0: a photo of a three", "1: a zero like a three", str(by_text)]
    with np.load(by_class) as classes, np.load(by_text) as texts:
        assert texts["arr_1"].tolist() == [0, 1, 0, 1]
        same = (texts["arr_0"][:3] == classes["arr_0"]).all((1, 2, 3))
        assert same.tolist() == [True, False, True]


@pytest.mark.parametrize(("words", "sentence"), [
    (["--prompt", "three", "--classes", "3"], "--classes and --prompt both say what samples are to show"),
    (["--prompt", "\N{GRINNING FACE}"], "reads nothing in '\N{GRINNING FACE}'; write it in words"),
    (["--prompt", "a photo of a very long three " * 3], "tokens but text.length is 7; raise it, or shorten the prompt"),
    (["--prompt", "a", "text=class_table"], "was trained with a text encoder, not with text=class_table"),
])  # fmt: skip
def test_a_text_that_cannot_be_asked_for_is_one_sentence(words, sentence, refused, spec):
    assert sentence in refused(spec.key, *words)


def test_what_the_command_line_says_changes_that(spec, sampled):
    images, labels = sampled(
        spec.key, "--count", "20", "sampling.steps=3", "sampling.seed=5", "sampling.labels=balanced"
    )
    more = {"steps": 3, "seed": 5, "labels": "balanced"}
    assert np.array_equal(images, expected(spec, 20, **more)[0])
    assert sorted(labels) == sorted([*range(10)] * 2)
    euler, _ = sampled(spec.key, "--count", "20", "sampling=full", "sampling.steps=2", "sampling.solver=euler")
    assert np.array_equal(
        euler, expected(spec, 20, guidance_scale=1.5, guidance_interval=(0.0, 1.0), micro_batch=64)[0]
    )


def test_a_class_or_a_list_of_them_by_name_or_number(spec, sampled):
    _, labels = sampled(spec.key, "--count", "5", "--classes", "seven", "3")
    assert labels.tolist() == [7, 3, 7, 3, 7]
    assert class_numbers(["10", "1", "cat"], ["cat", *"abcdefghi", "1"]) == (10, 10, 0)  # a name before a number
    with pytest.raises(UserError, match="there is no class '11'; give a number from 0 to 10, or a name: "):
        class_numbers(["11"], ["cat", *"abcdefghi", "1"])


def test_a_grid_has_a_class_a_column(spec, sampled, tmp_path):
    images, _ = sampled(spec.key, "--count", "6", "--classes", "3", "7")
    assert main(["sample", spec.key, "--count", "6", "--classes", "3", "7", "--to", str(tmp_path / "grid.png")]) == 0
    sheet = np.asarray(Image.open(tmp_path / "grid.png"))
    assert sheet.shape == (3 * 34 - 2, 2 * 34 - 2)
    for index, image in enumerate(images):
        row, column = divmod(index, 2)
        assert np.array_equal(sheet[34 * row : 34 * row + 32 : 4, 34 * column : 34 * column + 32 : 4], image[..., 0])


def test_without_a_place_the_grid_lies_with_the_runs(spec, capsys):
    assert main(["sample", spec.key, "--count", "4"]) == 0
    assert capsys.readouterr().out == f"runs/samples/{spec.key}.png\n"
    assert Image.open(f"runs/samples/{spec.key}.png").size == (4 * 34 - 2, 34 - 2)


@pytest.fixture
def ctrl_c(monkeypatch):
    """Ctrl-C at the n-th PNG; how many were encoded."""
    encoded, encode = [], sample_files._png

    def stop_at(number):
        def png(image):
            encoded.append(image)
            if len(encoded) == number:
                raise KeyboardInterrupt
            return encode(image)

        monkeypatch.setattr(sample_files, "_png", png)
        return encoded

    return stop_at


def test_a_folder_goes_on_where_it_stopped(spec, tmp_path, ctrl_c, sampled, monkeypatch, capsys):
    words = ["sample", spec.key, "--count", str(COUNT), "--to", str(tmp_path / "images")]
    encoded = ctrl_c(22)
    assert main(words) == 130
    assert len(list((tmp_path / "images").glob("*.png"))) == 21
    assert not list((tmp_path / "images").glob(".*"))
    batches = []
    noise = sample_files.SamplingRun.images
    monkeypatch.setattr(
        sample_files.SamplingRun, "images", lambda run, part=None: batches.append(part) or noise(run, part)
    )
    assert main(words) == 0
    assert len(encoded) == COUNT + 1  # the one that was stopped twice, the others once
    assert batches == [range(16, 32), range(32, 40)]
    capsys.readouterr()
    images, labels = sampled(spec.key, "--count", str(COUNT))
    names = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    for index, image in enumerate(images):
        file = tmp_path / "images" / f"{index:06d}_{names[labels[index]]}.png"
        assert np.array_equal(np.asarray(Image.open(file)), image[..., 0])
    assert main([*words[:3], "44", *words[4:]]) == 0  # more are added
    assert len(encoded) == COUNT + 5


def test_a_file_that_ctrl_c_stops_is_not_there(spec, tmp_path, monkeypatch):
    def stopped(run, _indices=None):
        yield 0, torch.zeros(run.shape, dtype=torch.uint8)
        raise KeyboardInterrupt

    monkeypatch.setattr(sample_files.SamplingRun, "images", stopped)
    for name in ("images.npz", "images.png"):
        assert main(["sample", spec.key, "--to", str(tmp_path / name)]) == 130
    assert list(tmp_path.iterdir()) == []


def test_an_npz_has_the_same_bytes_each_time(spec, tmp_path):
    for name in ("one.npz", "two.npz"):
        assert main(["sample", spec.key, "--count", "20", "--to", str(tmp_path / name)]) == 0
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()


def test_a_file_of_weights_without_its_record_says_what_it_takes(spec, tmp_path, capsys):
    shutil.copy(spec.store.artifact(spec.key, "ema.safetensors"), tmp_path / "mine.safetensors")
    words = ["sample", str(tmp_path / "mine.safetensors"), f"out={tmp_path / 'empty'}", "--to", str(tmp_path / "a.png")]
    assert main([*words, "--count", "2", "--classes", "1"]) == 0
    assert f"note: trial {spec.key} of" in capsys.readouterr().err


def test_latents_are_decoded_by_the_autoencoder_that_made_them(spec, sampled, tmp_path, capsys):
    torch.manual_seed(0)
    for half in ("encoder", "decoder"):
        torch.save(getattr(tiny_autoencoder, half)(5, pooled=False).state_dict(), tmp_path / f"{half}.pth")
    chosen = TinyAutoencoder(encoder=tmp_path / "encoder.pth", decoder=tmp_path / "decoder.pth")
    scale = (0.5, 1.0, 1.5, 2.0, 3.0)
    architecture = with_edits(spec.architecture, {"latent_channels": 5})
    network = filled_copy(initialised_network(architecture, 0))
    text, made_by = prepare(spec.settings).task.prompts, describe(chosen).identity(scale)
    training = Training(trial="0123456789abcdef", latent=4, text=text.identity, autoencoder=made_by)
    write_weights(tmp_path / "latents.safetensors", network.state_dict(), architecture, training)
    what = [str(tmp_path / "latents.safetensors"), "--classes", "4", "--count", "3"]
    files = [f"autoencoder.{half}={tmp_path / half}.pth" for half in ("encoder", "decoder")]
    images, _ = sampled(*what, "autoencoder=tiny", *files, "sampling.rounding=truncate", "out=nowhere")
    decode = partial(load_autoencoder(chosen, torch.device("cpu"), scale=scale).decode, rounding="truncate")
    config = settings_of(["sampling.rounding=truncate"]).sampling
    by_hand = sample(network, text, torch.tensor([4, 4, 4]), config, shape=(5, 4, 4), decode=decode)
    assert images.shape == (3, 32, 32, 3)
    assert np.array_equal(images, by_hand.permute(0, 2, 3, 1).numpy())
    assert main(["sample", *what]) == 2
    assert "its channels is None, theirs 5; give the settings" in capsys.readouterr().err


@pytest.fixture
def refused(spec, refusal):
    return functools.partial(refusal, "sample")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["nothing"], "'nothing' is neither the key of a trial in runs/store, or its first digits, nor a file of"),
        (["nowhere.safetensors"], "cannot read nowhere.safetensors"),
        (["nowhere.yaml"], "cannot read the architecture nowhere.yaml"),
        (["KEY", "out=nowhere"], "in nowhere/store"),
        (["KEY", "--classes", "sevn"], "there is no class 'sevn'; give a number from 0 to 9, or a name: seven"),
        (["KEY", "--count", "0"], "--count is at least 1, not 0"),
        (["KEY", "--count", "2000"], "a grid shows at most 1024 samples, not 2000; give a folder or an .npz"),
        (["KEY", "--to", "a.jpg"], "--to is FILE.png (a grid), FILE.npz or a folder, whose name has no dot in it"),
        (["KEY", "quality.samples=3"], "samples depend on sampling.SETTING, data.SETTING, autoencoder.SETTING, out,"),
        (["KEY", "sampling.stepz=3"], "unknown setting 'sampling.stepz'; choose one of: sampling.steps,"),
        (["KEY", "sampling.guidance_scale=1"], "guidance_interval means nothing with guidance_scale=1"),
        (["KEY", "autoencoder=tiny"], "was trained on pixels; leave out autoencoder=tiny"),
        (["KEY", "data=image_folder", "data.path=/x"], "/x"),
        (["KEY", "text=huggingface", "text.name=/no/such"], "/no/such"),
    ],
)
def test_a_mistake_is_one_sentence(words, sentence, refused, spec):
    assert sentence in refused(*(spec.key if word == "KEY" else word for word in words))


def test_a_key_that_begins_two_trials_is_refused(spec, refused):
    record = spec.store.trial(spec.key)
    other = spec.store.root / "trials" / f"{spec.key[:8]}00000000.json"
    other.write_text(json.dumps({"name": record.name}))
    try:
        assert f"begins the keys of 2 trials; give more of the key: {spec.key[:8]}" in refused(spec.key[:6])
    finally:
        other.unlink()


def test_a_promoted_file_that_was_edited_has_no_weights(spec, refused):
    text = Path("winner.yaml").read_text()
    Path("edited.yaml").write_text(text.replace("{ratio: 4.0, kind: geglu}", "{ratio: 2.0, kind: geglu}"))
    assert Path("edited.yaml").read_text() != text
    assert "edited.yaml was edited since its promotion, so there are no weights of it" in refused("edited.yaml")
    Path("edited.yaml").write_text(to_yaml(architecture("winner.yaml")))
    assert "names no trial, as `harness promote` writes it" in refused("edited.yaml")
    Path("edited.yaml").write_text(text)
    assert f"was promoted from trial {spec.key}, which is not in elsewhere/store" in refused(
        "edited.yaml", "out=elsewhere"
    )


def test_a_trial_without_weights_says_so(spec, refused):
    store, record = Store(Path("other/store")), spec.store.trial(spec.key)
    store.put(replace(record, artifacts={}))
    assert "is complete, and counted only: it left no weights to use" in refused(spec.key, "out=other")


def test_frequencies_of_other_data_and_another_text_encoder_are_refused(spec, refused):
    record = spec.store.trial(spec.key)
    other = {**record.protocol, "data": {**record.protocol["data"], "content": "0" * 16}}
    try:
        spec.store.put(replace(record, protocol=other))
        said = refused(spec.key)
        assert "asks for the class frequencies of the data that trial" in said
        assert "give its settings, data=..., or sampling.labels=balanced, or --classes" in said
    finally:
        spec.store.put(record)
    foreign = Path("foreign.safetensors")
    weights = read_weights(spec.store.artifact(spec.key, "ema.safetensors"))
    text = {**weights.training.text, "encoder": "another"}
    write_weights(foreign, weights.tensors, weights.architecture, replace(weights.training, text=text))
    assert "was trained with another text encoder than text=minilm" in refused(str(foreign), "--classes", "1")


@pytest.mark.parametrize(
    ("before", "words", "sentence"),
    [
        (None, [], "is not empty, and no samples were begun there"),
        ("{", [], "samples.json cannot be read"),
        ([], ["sampling.seed=4"], "has samples made otherwise (sampling.seed: 0 -> 4); give a new folder"),
        ([], ["--count", "2"], "has samples beyond the first 2 already; give a new folder, or a larger --count"),
    ],
)
def test_a_folder_of_something_else_is_left_alone(before, words, sentence, refused, spec, tmp_path, capsys):
    folder = tmp_path / "images"
    folder.mkdir()
    if before == []:
        assert main(["sample", spec.key, "--count", "3", "--to", str(folder)]) == 0
        capsys.readouterr()
    else:
        (folder / ("notes.txt" if before is None else "samples.json")).write_text(before or "x")
    there = sorted(path.name for path in folder.iterdir())
    assert sentence in refused(
        spec.key, "--to", str(folder), *(["--count", "3"] if "--count" not in words else []), *words
    )
    assert sorted(path.name for path in folder.iterdir()) == there
