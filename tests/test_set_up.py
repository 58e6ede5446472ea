"""`make` sets up: what is missing is one sentence, and what is installed already is not asked for again."""

import importlib.util
import shutil
import sys
from argparse import Namespace
from pathlib import Path
from types import SimpleNamespace

import pytest

SCRIPT = Path(__file__).parents[1] / "scripts" / "set_up.py"


@pytest.fixture
def set_up(tmp_path, monkeypatch):
    """The script, as if its checkout were an empty folder."""
    spec = importlib.util.spec_from_file_location("set_up", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "ROOT", str(tmp_path))
    return module


def options(**given):
    return Namespace(**{"venv": ".venv", "torch_index": "", "extra": [], **given})


def free(monkeypatch, gigabytes):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=gigabytes * 1e9))


@pytest.mark.parametrize(("version", "is_fine"), [((3, 10), False), ((3, 11), True), ((3, 13), True), ((3, 14), False)])
def test_a_python_that_does_not_do_is_told_in_a_sentence(set_up, monkeypatch, version, is_fine):
    monkeypatch.setattr(sys, "version_info", (*version, 0))
    if is_fine:
        set_up.check_python()
        return
    with pytest.raises(SystemExit, match=rf"Python 3\.11 to 3\.13 is needed, this is 3\.{version[1]} .*make PYTHON="):
        set_up.check_python()


def test_too_small_a_disk_is_told_in_a_sentence_with_both_sizes(set_up, monkeypatch, tmp_path):
    free(monkeypatch, 3)
    monkeypatch.setattr(sys, "platform", "linux")
    with pytest.raises(SystemExit, match=rf"10 GB of free disk are needed in {tmp_path}, 3\.0 GB are there"):
        set_up.check_disk(options())
    with pytest.raises(SystemExit, match="4 GB of free disk are needed"):
        set_up.check_disk(options(torch_index="https://index.invalid/cpu"))
    free(monkeypatch, 5)
    set_up.check_disk(options(torch_index="https://index.invalid/cpu"))


def test_what_is_installed_needs_no_room(set_up, monkeypatch, tmp_path):
    free(monkeypatch, 0.1)
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / ".installed-run").touch()
    set_up.check_disk(options())


@pytest.mark.parametrize("index", ["", "https://index.invalid/cpu"])
def test_everything_is_installed_under_the_pinned_versions_and_torch_from_the_chosen_index(set_up, monkeypatch, index):
    commands = []
    monkeypatch.setattr(set_up.subprocess, "call", lambda command: commands.append(command) or 0)
    set_up.install(".venv", options(torch_index=index, extra=["test"]))
    *installs, compiles = commands
    assert all("--constraint" in command for command in installs)
    assert installs[-1][-1].endswith("[study,test]")
    assert [command[-4:] for command in installs[:-1]] == [["--index-url", index, "torch", "torchvision"]] * bool(index)
    assert compiles[1:3] == ["-m", "compileall"]


def test_where_pip_fails_a_sentence_says_how_to_go_on(set_up, monkeypatch):
    monkeypatch.setattr(set_up.subprocess, "call", lambda _: 1)
    with pytest.raises(SystemExit, match="once mended, run make again"):
        set_up.install(".venv", options())
