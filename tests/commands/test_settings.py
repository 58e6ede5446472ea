"""`harness settings` shows every group, option and setting that exists, and none that does not."""

import re
from dataclasses import fields
from typing import get_type_hints

import pytest

from harness.cli import main
from harness.launch.config import SlurmLauncher
from harness.records.errors import UserError
from harness.records.fields import describe_fields, forms
from harness.records.plain import from_plain
from harness.training.recipe import Recipe
from harness.trials.compose import groups
from harness.trials.settings import Settings


def shown(capsys, *words: str) -> str:
    assert main(["settings", *words]) == 0
    return capsys.readouterr().out


def test_every_group_with_its_options_and_every_setting_outside_groups(capsys):
    text = shown(capsys)
    for name, options in groups().items():
        (line,) = re.findall(rf"^{name}=(.*)$", text, re.MULTILINE)
        assert tuple(line.replace(" (default)", "").split(", ")) == options
        assert line.count("(default)") == 1
    assert all(re.search(rf"^{field.name}\b", text, re.MULTILINE) for field in fields(Settings))


def test_every_field_of_a_group_and_of_each_of_its_kinds(capsys):
    recipe = shown(capsys, "recipe")
    listed = re.findall(r"^recipe\.\w+", recipe, re.MULTILINE)
    assert listed == [f"recipe.{field.name}" for field in fields(Recipe)]
    assert "AdamW's peak learning rate." in recipe
    slurm = shown(capsys, "launcher").split("kind slurm:")[1]
    assert all(f"launcher.{field.name} " in slurm for field in fields(SlurmLauncher) if field.name != "kind")


@pytest.mark.parametrize("name", groups())
def test_what_is_shown_is_a_setting(name, capsys):
    """Every path that is shown, given what no setting takes, is refused for its value and not for its name."""
    text = shown(capsys, name)
    for form in forms(get_type_hints(Settings)[name]):
        for line in describe_fields(form, name):
            assert re.search(rf"^{line.path}( =|  )", text, re.MULTILINE)
            content: object = object()
            for part in reversed(line.path.split(".")[1:]):
                content = {part: content}
            with pytest.raises(UserError, match=r"must be|choose one of|missing setting") as refusal:
                from_plain(form, content, where=name)
            assert "unknown setting" not in str(refusal.value)


def test_an_unknown_group_lists_them(refused):
    assert "unknown group of settings 'recipy'; choose one of: recipe," in refused("settings", "recipy")
