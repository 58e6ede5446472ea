"""Every `harness` command of README and docs/ runs, page after page, as it stands but for its length.

A page's commands run in their order in one folder, because a later one reads what an earlier one wrote. Cut short are
trainings and searches, without export and latency and in this process (CUT), and watching, which has no end; a dry run
is as it stands, and what names launcher settings runs under that launcher.
Pages share a store, so that what several of them train is trained once. What is exported to Core ML is a tiny network
in the place of the laptop's.
"""

import shlex
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from documented import PAGES, ROOT, commands, files
from PIL import Image
from tiny_study import BASE, SETTINGS, SMALL, TINY, write_yaml

from harness.cli import main
from harness.data.sources.emoji import FONTS
from harness.records.store import Store
from harness.trials.studies import read_study

SHORT = {key: value for key, value in SETTINGS.items() if key != "data"} | {
    "recipe.steps": 2,
    "recipe.validate_every": 2,
}
CUT = {
    "ablate": SHORT | {"seeds": [0]},
    "train": SHORT | {"recipe.steps": 6},
    "sweep": SHORT | {"trials": 3},
    "evaluate": {"quality.samples": 16},
    "proxies": SHORT,  # scored as the sweep was
    "sample": {"sampling.steps": 2},
}
"""Verb -> the settings that make it short, in place of those that the page gives."""
LONG = ("chain",)
"""Verbs without a short form: half an hour."""
HAS_EMOJI = find_spec("emoji") is not None and any(path.is_file() for path in FONTS)
TRIALS = {"unselected": 24}  # `harness proxies` asks for so many
ASKS = ("compare", "export", "knobs", "latency", "measure", "settings")
"""Verbs that answer by their words alone: what one page has asked is not asked again on the next."""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A home with ~/my_images, and ~/from_cluster/runs, which has a store."""
    home = tmp_path_factory.mktemp("home")
    random = np.random.default_rng(0)
    for name in ("red car", "blue sky"):
        folder = home / "my_images" / name
        folder.mkdir(parents=True)
        for index in range(40):
            Image.fromarray(random.integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(folder / f"{index}.png")
    (home / "from_cluster" / "runs" / "store" / "trials").mkdir(parents=True)
    (home / "store").mkdir()
    return home


@pytest.fixture(scope="module")
def asked():
    """The words of verbs that answer by them alone."""
    return set()


def cut_short(words: list[str], home: Path, work: Path, data: str) -> list[str]:
    """The command as it stands, but for placeholders and length; a KEY is of a training on `data`."""
    words = [word.replace("~", str(home)) for word in words if word != "--watch"]
    if any(word == "KEY" or word.endswith("=KEY") for word in words):
        trained = [each for each in Store(work / "runs" / "store").trials() if "ema.safetensors" in each.artifacts]
        keys = [each.key for each in trained if each.protocol["data"]["kind"] == data]
        key = keys.pop()
        words = [key if word == "KEY" else word.replace("=KEY", f"={key}") for word in words]
    words = [str(home / "my_images" / "red car") if word == "FOLDER" else word for word in words]
    if "--dry-run" in words:  # trains nothing
        return words
    cut = dict(CUT.get(words[0], {}))
    if any(word.startswith("launcher") for word in words):
        cut.pop("launcher", None)
    if any(word.startswith("autoencoder/") for word in words):  # which samples nothing
        cut = {key: value for key, value in cut.items() if not key.startswith(("sampling.", "quality."))}
    if words[0] == "sweep":
        cut["trials"] = TRIALS.get(words[1], cut["trials"])
        if "budgets" in read_study("sweeps", words[1]):  # they say how long, not the recipe
            del cut["recipe.steps"]
            cut["budgets"] = [2, 4]
        words = ["finalists.seeds=2" if word.startswith("finalists.seeds=") else word for word in words]
    if words[0] == "export" and "--preflight" not in words:
        words = ["tiny.yaml" if word == "laptop/thin_sdxl" else word for word in words]
    kept = [word for word in words if word.partition("=")[0] not in cut]
    return kept + [f"{key}={value}" for key, value in cut.items()]


def test_what_takes_long_is_a_dry_run_or_marked():
    listed = [command for page in PAGES for command in commands(page) if command.program == "harness"]
    long = [command for command in listed if command.text.split()[1] in LONG and "--dry-run" not in command.text]
    assert long
    assert not [f"{each.page}:{each.line}: {each.text}" for each in long if not each.not_run]


@pytest.mark.xdist_group("documentation")  # one process, so that there is one store
@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "page", [page for page in PAGES if commands(page)], ids=lambda page: page.relative_to(ROOT).as_posix()
)
def test_commands_run(page, place, asked, workplace, quick_conversions, monkeypatch):
    data = "emoji" if page.stem == "text_to_image" else "digits"
    if data == "emoji" and not HAS_EMOJI:
        pytest.skip("needs Debian's fonts-noto-color-emoji and the package emoji")
    monkeypatch.setenv("HOME", str(place))
    monkeypatch.setattr("harness.search.driver.floor_of", lambda *_: float("inf"))  # nothing beats it in four steps
    write_yaml(workplace / "tiny.yaml", {**BASE, "edits": TINY | SMALL})
    (workplace / "runs" / "store").symlink_to(place / "store")  # beside the cache, which all tests share
    for path, content in files(page).items():
        file = workplace / path
        file.parent.mkdir(exist_ok=True)
        file.write_text(content)
    for command in commands(page):
        if command.program != "harness" or command.not_run:
            continue
        words = cut_short(shlex.split(command.text)[1:], place, workplace, data)
        if words[0] in ASKS:
            if command.text in asked:
                continue
            asked.add(command.text)
        assert main(words) == 0, f"{command.page}:{command.line}: {command.text}"
