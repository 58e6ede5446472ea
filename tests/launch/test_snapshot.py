"""Jobs run a copy of the code as it was at their study's start, and their records say which."""

import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from harness.launch import snapshot as module
from harness.launch.snapshot import python_command, snapshot
from harness.records.provenance import code_state, source_files

PACKAGE = module.PACKAGE


@pytest.fixture(autouse=True)
def _forget() -> None:
    snapshot.cache_clear()


def test_the_copy_has_every_source_file_and_nothing_else(tmp_path: Path) -> None:
    copy = snapshot(tmp_path) / "harness"
    copied = {path.relative_to(copy): path.read_bytes() for path in copy.rglob("*") if path.is_file()}
    assert copied == {path.relative_to(PACKAGE): path.read_bytes() for path in source_files(PACKAGE)}
    assert {Path("cli.py"), Path("conf/config.yaml"), Path("py.typed")} <= copied.keys()
    assert not any("__pycache__" in path.parts for path in copied)


def test_the_copy_tells_the_commit_it_was_made_from(tmp_path: Path) -> None:
    copy = snapshot(tmp_path)
    state = code_state(copy / "harness" / "records")
    assert state == {**code_state(PACKAGE), "snapshot": copy.name.removeprefix("code-")}


def test_the_same_code_is_copied_once_and_other_code_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = snapshot(tmp_path)
    written = (first / "harness" / "cli.py").stat().st_mtime_ns
    snapshot.cache_clear()  # another driver
    assert snapshot(tmp_path) == first
    assert (first / "harness" / "cli.py").stat().st_mtime_ns == written
    edited = tmp_path / "edited" / "harness"
    shutil.copytree(PACKAGE, edited, ignore=shutil.ignore_patterns("__pycache__"))
    (edited / "cli.py").write_text("changed = True\n")
    monkeypatch.setattr(module, "PACKAGE", edited)
    snapshot.cache_clear()
    assert snapshot(tmp_path) != first
    assert len(list(tmp_path.glob("code-*"))) == 2
    assert list(tmp_path.glob(".code-*")) == [], "nothing half-made stays"


WHERE = "import harness.cli; print(harness.cli.__file__)"


@pytest.mark.parametrize("name", ["runs", "a:b", "with space", "it's", "-m"])
def test_python_imports_the_copy_even_in_the_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Whatever the copy's path holds, and though `python -m` would import from the working directory first."""
    out = tmp_path / name
    out.mkdir()
    (tmp_path / "where.py").write_text(WHERE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    command = [*python_command(out), "-m", "where"]
    python = subprocess.run(command, cwd=PACKAGE.parent, capture_output=True, text=True, check=True)
    assert Path(python.stdout.strip()).parent.parent == snapshot(out)
    shell = subprocess.run(shlex.join(command), cwd=PACKAGE.parent, shell=True, capture_output=True, text=True)
    assert shell.stdout == python.stdout, "as a job's script has it"


def test_an_installed_package_is_copied_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = tmp_path / "site-packages" / "harness"
    shutil.copytree(PACKAGE, installed, ignore=shutil.ignore_patterns("__pycache__"))
    (installed / "__pycache__").mkdir()
    (installed / "__pycache__" / "cli.pyc").touch()
    monkeypatch.setattr(module, "PACKAGE", installed)
    copy = snapshot(tmp_path)
    assert not list(copy.rglob("*.pyc"))
    assert (copy / "harness" / "cli.py").exists()
    assert code_state(copy / "harness")["commit"] == "not a git checkout"
