"""README and docs/ are true: links lead somewhere, what a command names exists; and names of locals say something."""

import ast
import re
import shlex
from pathlib import Path

import pytest
from documented import NOT_RUN, PAGES, ROOT, commands, links

from harness.reporting.sections import SECTIONS

DOCUMENTED = [command for page in PAGES for command in commands(page)]


def test_the_readme_is_short_and_shows_the_two_commands():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) < 250
    assert {"make demo", "make test"} <= {command.text for command in DOCUMENTED if command.page == "README.md"}


def test_the_readme_lists_as_many_things_as_it_says():
    section = (ROOT / "README.md").read_text().partition("\n## Five things people do\n")[2].partition("\n## ")[0]
    assert len(re.findall(r"^\*\*", section, re.MULTILINE)) == 5


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_to_files(page):
    assert [link for link in links(page) if not Path(link).exists()] == []


def test_every_page_is_reached_from_the_readme():
    reached, waiting = set(), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in reached or page.suffix != ".md":
            continue
        reached.add(page)
        waiting += map(Path, links(page))
    assert set(PAGES) <= reached


@pytest.mark.parametrize(
    "command",
    [command for command in DOCUMENTED if command.program in ("pytest", "python")],
    ids=lambda command: f"{command.page}:{command.line}",
)
def test_a_test_or_script_that_is_named_exists(command):
    paths = [word for word in shlex.split(command.text) if re.match(r"(tests|scripts)\b", word)]
    assert paths
    assert all((ROOT / path).exists() for path in paths)


def test_files_that_pages_name_exist():
    rooms = "harness|tests|sweeps|search_spaces|reports|docs|scripts"
    for page in PAGES:
        for path in re.findall(rf"`((?:{rooms})/[\w./]+)`", page.read_text()):
            assert (ROOT / path).exists() or "NAME" in path, f"{page.name} names {path}"
        for path in re.findall(r"`(records/[\w./]+)`", page.read_text()):
            assert (page.parent / path).exists(), f"{page.name} names {path}"


def test_the_guide_names_every_section():
    guide = (ROOT / "docs" / "guides" / "own_page.md").read_text()
    assert [name for name in SECTIONS if f"`{name}`" not in guide] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_a_command_that_no_test_runs_is_marked(page):
    """`harness ...`: by a test of this folder. The suite runs its own tests; not its benchmarks, nor scripts."""
    others = [each for each in commands(page) if each.program not in ("harness", "make") and not each.not_run]
    by_hand = [each.text for each in others if "-m benchmark" in each.text or each.program in ("python", "pip")]
    assert not by_hand or "run by hand" in page.read_text().casefold(), by_hand


def test_what_is_not_run_is_marked_as_the_commands_are_read():
    lines = [line for page in PAGES for line in page.read_text().splitlines() if "# not run here" in line]
    assert [line for line in lines if f"# {NOT_RUN}" not in line] == []


SAYS_NOTHING = {"found", "made", "asked", "told"}
"""What locals were called that hold anything at all."""


def test_locals_say_what_they_hold():
    vague = []
    for path in sorted((ROOT / "harness").rglob("*.py")):
        for function in ast.walk(ast.parse(path.read_text())):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                stored = {each.id for each in ast.walk(function) if isinstance(each, ast.Name) and _is_stored(each)}
                parameters = {each.arg for each in ast.walk(function.args) if isinstance(each, ast.arg)}
                vague += [f"{path}: {name} in {function.name}" for name in (stored | parameters) & SAYS_NOTHING]
    assert not vague


def _is_stored(name: ast.Name) -> bool:
    return isinstance(name.ctx, ast.Store)
