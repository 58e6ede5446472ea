"""A longer training of a candidate of the front goes on from the checkpoint that the sweep kept, or says why not."""

import shutil
from pathlib import Path

import pytest
from tiny_study import SETTINGS, SWEEP, lay_out, write_yaml

from harness.cli import main
from harness.records.store import Store
from harness.trials.promoted import Origin, promoted_in
from harness.trials.trained import trained_network

TRAIN = [f"{key}={value}".replace(" ", "") for key, value in SETTINGS.items() if key != "recipe.steps"]
OBJECTIVES = {"kid": "minimize", "macs": "minimize"}


def training(*changes: str) -> list[str]:
    """TRAIN with these settings in place of its own."""
    names = {change.split("=")[0] for change in changes}
    return [*(text for text in TRAIN if text.split("=")[0] not in names), *changes]


TIMES = ("train_seconds",)


@pytest.fixture(scope="module")
def swept(tmp_path_factory, cache):
    """A working directory with a sweep of one budget, the constant schedule, and its best candidate promoted."""
    folder = lay_out(tmp_path_factory.mktemp("swept"), cache)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_yaml(Path("sweeps/search.yaml"), {**SWEEP, "trials": 3, "objectives": OBJECTIVES})
        assert main(["sweep", "search"]) == 0
        assert main(["promote", "search", "--rule", "best", "--to", "winner.yaml"]) == 0
    return folder


@pytest.fixture
def workplace(swept, tmp_path, monkeypatch):
    """A copy of it, so that a test may train and break things."""
    shutil.copytree(swept, tmp_path / "swept", symlinks=True)
    monkeypatch.chdir(tmp_path / "swept")
    return tmp_path / "swept"


def record(name="winner", out="runs"):
    (found,) = [each for each in Store(Path(out, "store")).trials() if each.name == name]
    return found


def measured(found):
    return {name: quantity for name, quantity in found.quantities.items() if name not in TIMES}


def origin(name: str = "winner.yaml") -> Origin:
    found = promoted_in(Path(name)).origin
    assert found is not None
    return found


def kept() -> Path:
    return Path("runs", str(origin().checkpoints))


def said(capsys) -> str:
    return " ".join(capsys.readouterr().err.split())


def test_a_longer_training_of_the_front_is_bit_identical_to_a_straight_one(workplace, cache, capsys):
    before = {path: path.read_bytes() for path in kept().rglob("*") if path.is_file()}
    parent = origin().trial
    assert trained_network("winner.yaml", Path("runs")).key == parent, "not trained further yet"
    assert main(["train", "winner.yaml", *TRAIN, "recipe.steps=11"]) == 0
    assert f"winner, seed 0: goes on from step 6 of trial {parent}, from a copy of its checkpoint" in said(capsys)
    longer = record()
    assert longer.provenance["continued_from"] == [6]
    assert longer.parent == parent
    assert trained_network("winner.yaml", Path("runs")).key == longer.key, "the file now means what it was trained to"
    assert f"winner.yaml is its full training here, trial {longer.key}; trial {parent}" in said(capsys)
    assert main(["evaluate", "winner.yaml", "data=digits", "quality.samples=16"]) == 0
    assert said(capsys).count("is its full training here") == 1, "it is looked up once"
    assert {path: path.read_bytes() for path in kept().rglob("*") if path.is_file()} == before, "copied, not shared"
    assert not list(Path("runs/train-winner/attempts").glob("*/shared")), "the copy goes with the attempts' own"
    Path("straight").mkdir()
    Path("straight/cache").symlink_to(cache)
    assert main(["train", "winner.yaml", *TRAIN, "recipe.steps=11", "out=straight"]) == 0
    straight = record(out="straight")
    assert "trains from step 0" in said(capsys), "there is no sweep under that folder"
    assert straight.provenance["continued_from"] == []
    assert measured(straight) == measured(longer)
    assert straight.curve == longer.curve
    weights = [Store(Path(out, "store")).artifact(longer.key, "ema.safetensors") for out in ("runs", "straight")]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_another_checkpoint_in_its_place_would_show(workplace):
    """Broken on purpose: were the identity not checked, the longer training would go on from other weights."""
    other = next(folder for folder in Path("runs/search/checkpoints").iterdir() if folder.name != kept().name)
    shutil.rmtree(kept())
    shutil.copytree(other, kept())
    assert main(["train", "winner.yaml", *TRAIN, "recipe.steps=11"]) != 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "why"),
    [
        ("recipe.learning_rate=0.01", "it was trained otherwise, recipe.learning_rate: 0.004 -> 0.01"),
        ("recipe.schedule=cosine", "recipe.schedule=cosine depends on the last step"),
        ("recipe.cooldown=0.2", "recipe.cooldown=0.2 depends on the last step"),
        ("seeds=[1]", "its seed is 0"),
    ],
)
def test_what_is_no_continuation_trains_from_step_0_and_says_why(workplace, capsys, change, why):
    assert main(["train", "winner.yaml", *training("recipe.steps=7", change)]) == 0
    assert "trains from step 0, not from trial" in (text := said(capsys))
    assert why in text
    assert record().provenance["continued_from"] == []


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["gone", "flipped"])
def test_a_checkpoint_that_is_gone_or_damaged_trains_from_step_0_and_says_so(workplace, capsys, damage):
    if damage == "gone":
        shutil.rmtree(kept())
    for tensors in kept().rglob("tensors.safetensors"):
        content = bytearray(tensors.read_bytes())
        content[-1] ^= 1
        tensors.write_bytes(content)
    assert main(["train", "winner.yaml", *TRAIN, "recipe.steps=7"]) == 0
    assert "has no whole checkpoint (any more)" in said(capsys)
    assert record().provenance["continued_from"] == []


@pytest.mark.slow
def test_how_samples_are_scored_is_no_obstacle(workplace, capsys):
    assert main(["train", "winner.yaml", *training("recipe.steps=7", "sampling.steps=3")]) == 0
    assert "goes on from step 6" in said(capsys)
    assert record().provenance["continued_from"] == [6]


@pytest.mark.slow
def test_a_promoted_rung_of_an_ablation_has_no_checkpoint_and_says_so(workplace, capsys):
    assert main(["ablate", "tiny"]) == 0
    assert main(["promote", "tiny", "base", "--to", "rung.yaml"]) == 0
    assert origin("rung.yaml").checkpoints is None
    assert main(["train", "rung.yaml", *TRAIN, "recipe.steps=7"]) == 0
    assert "trains from step 0" in (text := said(capsys))
    assert "no checkpoint of it was kept when it was promoted" in text
