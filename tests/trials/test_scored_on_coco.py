"""A decoder that is scored on COCO's pictures, as they lie on disk; made-up ones, of COCO's names and annotations."""

import json
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_decoding import SIZE, decoding_spec, lay_out_prepared, pictures, prepared_data

from harness.cli import main
from harness.data.crop import square
from harness.models.autoencoder import load_matching
from harness.records.errors import UserError
from harness.trials.prepared import prepare
from harness.trials.run import run_trial

CPU, COUNT = torch.device("cpu"), 6


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return lay_out_prepared(tmp_path_factory.mktemp("decoding"))


@pytest.fixture
def coco(tmp_path):
    """The folder: pictures of unequal sides, listed by no order, and one that no annotation lists."""
    random, listed = np.random.default_rng(1), []
    (tmp_path / "coco/val2017").mkdir(parents=True)
    (tmp_path / "coco/annotations").mkdir()
    for number in (*reversed(range(COUNT)), 99):
        name, shape = f"{number:012}.jpg", random.integers(20, 48, 2)
        pixels = random.integers(0, 256, (*shape, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "coco/val2017" / name)
        if number < COUNT:
            listed.append({"id": number, "file_name": name, "height": int(shape[0]), "width": int(shape[1])})
    annotations = {"info": {}, "images": listed, "annotations": [], "categories": []}
    (tmp_path / "coco/annotations/instances_val2017.json").write_text(json.dumps(annotations))
    return tmp_path / "coco"


@pytest.fixture
def spec_of(place):
    return partial(decoding_spec, place, f"out={place}/runs")


def test_scores_are_of_the_pictures_that_the_annotations_list_as_squares_of_the_datas(place, spec_of, coco):
    spec = spec_of(f"task.scored_on={{path: {coco}}}")
    task = prepare(spec.settings).task
    files = [coco / "val2017" / f"{number:012}.jpg" for number in range(COUNT)]
    expected = np.stack([square(file.read_bytes(), task.images.crop, SIZE, 3) for file in files])
    (_, _, shown), *rest = task.decoded(lambda z: torch.zeros(len(z), 3, SIZE, SIZE), CPU)
    assert not rest
    assert np.array_equal(shown.numpy(), expected)
    assert task.samples == COUNT
    assert len(task.data.heldout) != COUNT, "training and its validation keep the data's own"
    psnr = task.control("linear", spec.architecture)["psnr"]
    assert (psnr.conditions["data"], psnr.conditions["samples"]) == ("COCO val2017", COUNT)
    error = np.square(expected.astype(float) - 128).mean((1, 2, 3))  # of grey, which 0 is
    grey = task.scored(lambda z: torch.zeros(len(z), 3, SIZE, SIZE))["psnr"]
    assert grey.value == pytest.approx(np.mean(10 * np.log10(255**2 / error)), abs=1e-3)


def test_prepared_or_encoded_the_decoder_sees_the_datas_latents(place, spec_of, coco):
    setting = f"task.scored_on={{path: {coco}}}"
    flying = prepare(spec_of(setting).settings).task
    stored = prepare(spec_of(setting, *prepared_data(place)).settings).task
    (one, pictures_), (other, again) = (next(iter(task.scored_parts([0, 3], CPU))) for task in (flying, stored))
    assert torch.equal(pictures_, again)
    scale = torch.tensor(stored.data.made_by["scale"]).view(1, -1, 1, 1)
    torch.testing.assert_close(one * scale, other)
    autoencoder = load_matching(stored.settings.autoencoder, CPU, stored.data.made_by)
    made = torch.stack([stored.originals[number][0] for number in (0, 3)])
    torch.testing.assert_close(other, autoencoder.encode(made).mean)


def test_what_is_scored_on_is_of_a_trials_identity_and_where_it_lies_is_not(spec_of, coco):
    own, scored = spec_of(), spec_of(f"task.scored_on={{path: {coco}}}")
    assert "scored_on" not in json.dumps(own.protocol.sections, default=str)
    assert str(coco) not in json.dumps(scored.protocol.sections, default=str)
    moved = coco.rename(coco.with_name("elsewhere"))
    assert spec_of(f"task.scored_on={{path: {moved}}}").protocol.fingerprint == scored.protocol.fingerprint
    Image.new("RGB", (30, 30)).save(moved / "val2017" / f"{0:012}.jpg")
    assert spec_of(f"task.scored_on={{path: {moved}}}").protocol.fingerprint != scored.protocol.fingerprint


def test_it_is_not_scored_again_on_other_pictures_unasked(place, spec_of, coco, tmp_path, refusal, capsys):
    setting = f"task.scored_on={{path: {coco}}}"
    record = run_trial(spec_of(setting, "recipe.steps=2"), tmp_path / "attempt")
    words = ["evaluate", record.key, f"out={place}/runs", *pictures(place)]
    sentence = refusal(*words)
    assert "was scored on COCO's val2017" in sentence
    assert "'task.scored_on={path: FOLDER, split: val2017}', or task.scored_on=null" in sentence
    assert main([*words, setting, "--json"]) == 0
    psnr = json.loads(capsys.readouterr().out)["psnr"]
    assert psnr["value"] == pytest.approx(record.quantities["psnr"].value, rel=1e-5)
    assert main([*words, "task.scored_on=null", "--json"]) == 0
    other = json.loads(capsys.readouterr().out)["psnr"]
    assert (psnr["conditions"]["data"], other["conditions"]["data"]) == ("COCO val2017", "image_folder")


def test_a_folder_that_is_not_whole_is_refused(spec_of, coco):
    with pytest.raises(UserError, match=r"has none of annotations/\{instances,.*\}_test2017.json"):
        spec_of(f"task.scored_on={{path: {coco}, split: test2017}}")
    (coco / "val2017" / f"{2:012}.jpg").unlink()
    with pytest.raises(UserError, match=r"1 of the 6 pictures that .* lists are not in .*, such as 000000000002.jpg"):
        spec_of(f"task.scored_on={{path: {coco}}}")
    cut_off = coco / "val2017" / f"{2:012}.jpg"
    cut_off.write_bytes((coco / "val2017" / f"{3:012}.jpg").read_bytes()[:400])
    with pytest.raises(UserError, match=r"the picture 000000000002.jpg cannot be read \(.*\); replace it"):
        spec_of(f"task.scored_on={{path: {coco}}}")
    (coco / "annotations/instances_val2017.json").write_text('{"images": [{"id": 1}]}')
    with pytest.raises(UserError, match="has no list of COCO's images"):
        spec_of(f"task.scored_on={{path: {coco}}}")
    with pytest.raises(UserError, match=r"task\.scored_on needs COCO's folder"):
        spec_of("task.scored_on={split: val2017}")
