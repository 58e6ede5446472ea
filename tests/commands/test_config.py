"""`harness config`: what it prints is what would run, and runs again."""

from dataclasses import fields
from pathlib import Path

import pytest
import yaml
from tiny_study import SWEEP, write_yaml

from harness.cli import main
from harness.records.store import Store
from harness.search.definition import definition_of
from harness.training.recipe import Recipe
from harness.trials.ablation_study import ablation_study
from harness.trials.compose import groups
from harness.trials.settings import settings_of


@pytest.fixture
def printed(capsys):
    def call(*words: str) -> str:
        capsys.readouterr()
        assert main(["config", *words]) == 0
        return capsys.readouterr().out

    return call


CHANGED = ("recipe.learning_rate=0.003", "seeds=[3,4]", "limits.params=9e6", "latency=cpu_and_predicted", "out=my runs")


@pytest.mark.parametrize("name", ["fig3", "fig3_full", "tab2", "tab2_trained", "peers"])
@pytest.mark.parametrize("overrides", [(), CHANGED])
def test_an_ablation_that_is_printed_is_the_same_ablation(name, overrides, printed, tmp_path):
    file = tmp_path / "printed.yaml"
    file.write_text(printed(name, *overrides))
    study, settings = ablation_study(name, overrides)
    again, settings_again = ablation_study(str(file), [])
    assert settings_again == settings
    assert again.architecture == study.architecture
    listed = yaml.safe_load(file.read_text())["settings"]
    assert {f"recipe.{field.name}" for field in fields(Recipe)} < listed.keys()


@pytest.mark.parametrize("name", ["laptop", "unselected", "ladder_at_best_rate", "decoder"])
@pytest.mark.parametrize("overrides", [(), ("trials=7", "sampler=random", "seeds=[5]", "recipe.batch_size=16")])
def test_a_sweep_that_is_printed_is_the_same_sweep(name, overrides, printed, tmp_path):
    file = tmp_path / "printed.yaml"
    file.write_text(printed(name, *overrides))
    definition, settings = definition_of(name, overrides)
    again, settings_again = definition_of(str(file), [])
    same = {"settings", "twin"}
    assert settings_again == settings
    for field in set(definition.__slots__) - same:
        assert getattr(again, field) == getattr(definition, field), field


@pytest.mark.slow
@pytest.mark.parametrize("group", list(groups()))
def test_a_group_that_is_printed_makes_the_same_settings(group, printed):
    teacher = ["objective.teacher.name=abcd"]
    needs = {
        "image_folder": ["data.path=/x"],
        "distillation": teacher,
        "step_distillation": [*teacher, "initial=none"],
        "reconstruction": ["task=decode"],
    }
    for option in groups()[group]:
        chosen = [f"{group}={option}", *needs.get(option, [])]
        lines = yaml.safe_load(printed(group, *chosen))
        again = settings_of([word for word in chosen if word.startswith(("initial=", "task="))], lines)
        assert getattr(again, group) == getattr(settings_of(chosen), group)
        assert all(line.split(".")[0] == group for line in lines)


def test_a_study_whose_autoencoder_is_not_here_is_printed_whole(capsys):
    """All but its protocol's name, which the latents decide."""
    assert main(["config", "fig3_imagenet", "autoencoder.name=/nowhere"]) == 0
    printed = capsys.readouterr()
    assert "# protocol: not known here\n" in printed.out
    assert yaml.safe_load(printed.out)["settings"]["autoencoder.name"] == "/nowhere"
    assert "harness: the protocol is not known here: " in printed.err


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ("quality.extractor={kind: dinov2, weights: dino}",),
        ("quality.extractor={kind: inception_v3}", "seeds=[4]"),
        ("quality=fid", "quality.extractor={kind: efficientnet_lite0}", "quality.metrics=[fd]"),
        ("autoencoder={kind: tiny, encoder: e.pth, decoder: d.pth}", "data=prepared", "data.path=latents"),
        ("data={kind: prepared, path: latents}", "autoencoder=kl", "autoencoder.name=/nowhere"),
    ],
)
def test_what_is_not_here_is_said_beside_a_study_that_is_printed_and_is_the_same(words, capsys, tmp_path):
    """Neither data nor the autoencoder's files nor an extractor's: the YAML may be for another machine."""
    assert main(["config", "fig3", *words]) == 0
    printed = capsys.readouterr()
    file = tmp_path / "printed.yaml"
    file.write_text(printed.out)
    assert ablation_study(str(file), [])[1] == ablation_study("fig3", words)[1]
    assert ("harness: here it would not run: " in printed.err) == any("data=" in word for word in words)


@pytest.mark.slow
def test_what_is_printed_runs(workplace, printed):
    """An ablation, a sweep and a trial of them; the same trials are found in the store, so nothing is trained twice."""
    assert main(["ablate", "tiny"]) == 0
    keys = sorted(record.key for record in Store(Path("runs/store")).trials())
    Path("again.yaml").write_text(printed("tiny"))
    assert main(["ablate", "again.yaml"]) == 0
    assert sorted(record.key for record in Store(Path("runs/store")).trials()) == keys
    write_yaml(Path("sweeps/search.yaml"), {**SWEEP, "trials": 1})
    Path("search_again.yaml").write_text(printed("search"))
    assert main(["sweep", "search_again.yaml"]) == 0
    Path("trial.yaml").write_text(printed(keys[0]))
    assert main(["train", "trial.yaml", "recipe.steps=8", "data=digits", "launcher=debug", "latency=none"]) == 0
