"""A published folder is all that a phone's picture takes: an agent makes it of packages, numbers and embeddings alone.

No phone has run this: the packages' own operators are computed in torch, and coremltools' device interface is a double.
"""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import harness
from harness.cli import main
from harness.device.picture import read_solver
from harness.publish.folder import files_of, read_manifest, write_manifest

pytestmark = pytest.mark.timeout(600)  # a conversion to Core ML
PROMPT = "a photo of a seven"


@pytest.fixture(autouse=True)
def _place(tmp_path, monkeypatch):
    """Where a picture goes that has no other."""
    monkeypatch.chdir(tmp_path)


def asked(folder, phone, *words):
    named = ["--queue", str(phone.queue), "--prompt", PROMPT, "--pictures", "1"]
    return main(["latency", "picture", str(folder), *named, *words])


def test_an_agent_makes_the_models_picture_and_tells_its_time(published, phone, tmp_path, capsys):
    target = tmp_path / "seven.png"
    phone.world.times = lambda _run: 2.5
    assert asked(published, phone, "--to", str(target)) == 0
    assert "waits in" in capsys.readouterr().out
    assert not target.exists()
    assert any("the example agrees to" in line for line in phone(published))
    assert asked(published, phone, "--to", str(target)) == 0
    printed = capsys.readouterr().out
    assert "10.00 ms a picture on iPhone, A17 Pro, 18.1 (UNet 10.00 ms; 4 predictions of the UNet" in printed
    made, expected = np.asarray(Image.open(target)).astype(int), harness.load(published).sample([PROMPT])[0]
    assert np.abs(made - np.asarray(expected)).max() <= 2  # of 255: the package's weights are fp16
    assert np.asarray(expected).std() > 20
    assert asked(published, phone, "--to", str(target), "--json") == 0
    told = json.loads(capsys.readouterr().out)["time"]
    assert (told["value"], told["low"], told["high"]) == (10.0, 10.0, 10.0)
    assert told["conditions"]["protocol"]["prompt"] == PROMPT
    assert told["conditions"]["sampling"]["steps"] == 2
    assert phone(published) == []  # what was answered is not made again


def wrong_number(folder):
    plain = json.loads((folder / "coreml" / "solver.json").read_text())
    plain["picture"][1] *= -1
    (folder / "coreml" / "solver.json").write_text(json.dumps(plain))


def published_so(folder):
    """As if that had been published."""
    write_manifest(folder, replace(read_manifest(folder), files=files_of(folder)))


def test_no_time_counts_where_the_picture_is_another(published, phone, tmp_path, capsys):
    """A phone that computes wrongly, and a solver with one wrong number."""
    phone.world.scale = 1.2
    assert asked(published, phone) == 0
    phone(published)
    capsys.readouterr()
    assert asked(published, phone) == 2
    assert "the phone made no picture: the example that the device made reaches" in capsys.readouterr().err
    phone.world.scale = 1.0
    shutil.copytree(published, tmp_path / "wrong")
    wrong_number(tmp_path / "wrong")
    assert asked(tmp_path / "wrong", phone) == 2
    assert "coreml/solver.json was altered" in capsys.readouterr().err
    published_so(tmp_path / "wrong")
    assert asked(tmp_path / "wrong", phone) == 0
    phone(published)
    assert asked(tmp_path / "wrong", phone) == 2
    assert "no time counts while the pictures are wrong" in capsys.readouterr().err


def test_an_error_of_the_phones_is_tried_again_and_then_is_the_answer(published, phone, capsys):
    def broken():
        raise RuntimeError("the app on the phone ended")

    phone.world.on_predict = broken
    assert asked(published, phone) == 0
    assert sum("tries again" in line for line in phone(published)) == 2
    assert asked(published, phone) == 2
    assert "the phone made no picture: the app on the phone ended (the last of 3 attempts)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--prompt", "a photo of a sevn"], "unknown prompt 'a photo of a sevn'; choose one of: a photo of a seven"),
        (["--to", "a.jpg"], "--to names a .png file, not a.jpg"),
        (["--pictures", "0"], "at least 1 picture is timed, not 0"),
        (["--queue", "nowhere"], "there is no queue folder nowhere"),
        (["recipe.steps=3"], "`harness latency picture` takes no settings"),
    ],
)
def test_a_mistake_is_one_sentence(words, sentence, published, phone, capsys):
    queue = [] if "--queue" in words else ["--queue", str(phone.queue)]
    assert main(["latency", "picture", str(published), *queue, *words]) == 2
    assert sentence in capsys.readouterr().err


def test_a_folder_without_a_phones_parts_says_so(published, phone, tmp_path, capsys):
    shutil.copytree(published, tmp_path / "m", ignore=shutil.ignore_patterns("coreml"))
    assert asked(tmp_path / "m", phone) == 2
    assert "has nothing for a phone (coreml/solver.json); give a folder that" in capsys.readouterr().err
    assert read_solver(published).predictions == 4
