"""A table of classes is trained and sampled like text; weights of others are scored like a trial's."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from tiny_study import SETTINGS, TINY

import harness
from harness.architecture.catalogue import architecture
from harness.architecture.edits import with_edits
from harness.cli import main
from harness.data.prompts import class_table
from harness.models.build import build
from harness.models.weights import read_weights
from harness.records.errors import UserError
from harness.records.store import Store
from harness.trials.ablation import ablation, run_ablation
from harness.trials.prepared import prepare
from harness.trials.progress import Show
from harness.trials.settings import settings_of

TABLE = {"width": 16, "depth": 1, "context_width": 11, "context_length": 1, "condition": "class_table"}
STUDY = {
    "architecture": {
        "base": "laptop/dit",
        "mode": "one_at_a_time",
        "rungs": [
            {"name": "table", "title": "A row for each class", "edits": TABLE},
            {"name": "unet", "title": "Attends to the class", "base": "laptop/thin_sdxl", "edits": TINY},
        ],
    },
    "settings": {**SETTINGS, "text": "class_table", "recipe.learning_rate": 0.01},
}


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "sweeps" / "tables.yaml").write_text(yaml.safe_dump(STUDY))
    return tmp_path


def test_networks_learn_rows_of_classes_and_of_none(place, capsys):
    records = {record.name: record for _, record in run_ablation(ablation("tables", [], ""), Show())[0]}
    assert {name: record.state for name, record in records.items()} == {"table": "complete", "unet": "complete"}
    store, key = Store(Path("runs") / "store"), records["table"].key
    file = store.artifact(key, "ema.safetensors")
    weights = read_weights(file)
    assert weights.training.text["prompts"][:3] == ["zero", "one", "two"]
    assert records["table"].protocol["text"]["encoder"] == "class_table"
    rows = weights.tensors["text.rows"]
    assert rows.shape == (11, 16)
    capsys.readouterr()
    assert main(["sample", key, "--classes", "seven", "--count", "2", "--to", "a.npz"]) == 0
    assert main(["sample", key, "--classes", "seven", "--count", "2", "--to", "b.npz", "text=minilm"]) == 0
    assert Path("a.npz").read_bytes() == Path("b.npz").read_bytes()  # the table needs no text encoder
    assert main(["sample", key, "--prompt", "a red seven", "--to", "d.npz"]) != 0
    assert "knows no texts but its classes, and 'a red seven' is none" in capsys.readouterr().err
    model = harness.load(key)
    images = model.images(["seven", "two"], steps=2)
    assert images.shape == (2, 1, 8, 8)
    with pytest.raises(UserError, match="knows no texts but its classes, and 'a photo of a 7' is none"):
        model.sample(["a photo of a 7"])
    assert main(["sample", records["unet"].key, "--classes", "seven", "--count", "2", "--to", "c.npz"]) == 0


def test_a_row_moves_with_its_class_alone():
    torch.manual_seed(0)
    network = build(with_edits(architecture("laptop/dit"), TABLE))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(std=0.2)
    prompts, x = class_table([str(number) for number in range(10)]), torch.randn(2, 1, 8, 8)
    context, mask = prompts.context(torch.tensor([3, 5]), torch.tensor([False, True]))
    assert mask is None
    network(x, torch.tensor([0.2, 0.8]), context).square().sum().backward()
    moved = network.text.rows.grad.abs().sum(1) > 0
    assert moved.nonzero().flatten().tolist() == [3, 10]  # 5 was dropped: no class
    assert torch.equal(network.text(context, None)[0], network.text.rows[3])


@pytest.fixture(scope="module")
def by_text(tmp_path_factory):
    return prepare(settings_of(["data=digits", f"out={tmp_path_factory.mktemp('runs')}"]))


@pytest.mark.parametrize(
    ("edits", "sentence"),
    [
        (TABLE, "condition=class_table learns a row for each class, and the classes come as text; give text="),
        (
            {"prediction": {"kind": "epsilon", "beta_schedule": "linear"}},
            "networks are trained to predict {'kind': 'velocity'",
        ),
        ({"prediction": {"kind": "velocity", "time": "from_noise"}}, "this architecture's prediction is"),
    ],
)
def test_what_training_does_not_know_is_refused(edits, sentence, by_text):
    with pytest.raises(UserError) as refused:
        by_text.adapt_to_data(with_edits(architecture("laptop/dit"), edits))
    assert sentence in str(refused.value)


def test_a_table_of_captions_is_refused():
    with pytest.raises(UserError, match="at most 20,000 classes, and these are 20,001; give a text encoder"):
        class_table([str(number) for number in range(20_001)])


NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def published(folder):
    """A small DiT of pixels in the form of the published ones, and its file, random."""
    edits = {"width": 16, "depth": 1, "heads": 2, "latent_size": 8, "latent_channels": 1, "context_width": 11}
    (folder / "small.yaml").write_text(yaml.safe_dump({"base": "published/dit_xl_2", "edits": edits}))
    (folder / "names.txt").write_text("\n".join(NAMES) + "\n")
    torch.manual_seed(0)
    network = build(architecture(str(folder / "small.yaml")))
    torch.save({name: 0.1 * torch.randn_like(tensor) for name, tensor in network.state_dict().items()}, folder / "a.pt")
    return folder


def test_others_weights_are_scored_alone_and_over_guidance(place, capsys, monkeypatch):
    published(place)
    monkeypatch.setattr("harness.models.convert._program_of", lambda _: "state_dict")
    assert main(["convert", "small.yaml", "--weights", "a.pt", "--to", "dit.safetensors", "--names", "names.txt"]) == 0
    fixed = [f"{key}={value}" for key, value in SETTINGS.items() if key.startswith(("quality", "sampling"))]
    capsys.readouterr()
    assert main(["evaluate", "dit.safetensors", "data=digits", *fixed]) == 0
    assert "dit.safetensors against digits: KID-EffLite0@32" in capsys.readouterr().out
    words = ["evaluate", "dit.safetensors", "data=digits", "--guidance", "1", "3", "--json", *fixed]
    assert main(words) == 0
    points = json.loads(capsys.readouterr().out)
    assert [point["sampling"]["guidance_scale"] for point in points] == [1, 3]
    assert points[0]["scores"]["kid"]["value"] != points[1]["scores"]["kid"]["value"]
    assert main(["evaluate", "dit.safetensors", "data=digits", "--to", "a.npz", *fixed]) == 0
    assert (place / "a.npz").is_file()
