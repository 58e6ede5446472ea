"""Provenance: the code's state, the machine, the times; honest where something is not known."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from harness.records.plain import to_plain
from harness.records.provenance import code_state, completed_provenance, processor_name, provenance, versions


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    git(tmp_path, "init", "-q")
    (tmp_path / "a.py").write_text("x = 1\n")
    git(tmp_path, "add", "a.py")
    git(tmp_path, "-c", "user.name=n", "-c", "user.email=e", "commit", "-qm", "one")
    return tmp_path


def git(folder: Path, *arguments: str) -> str:
    return subprocess.run(["git", "-C", str(folder), *arguments], check=True, capture_output=True, text=True).stdout


def state(folder: Path) -> dict[str, str]:
    code_state.cache_clear()
    return code_state(folder)


def test_a_clean_checkout_is_its_commit(checkout: Path) -> None:
    assert state(checkout) == {"commit": git(checkout, "rev-parse", "HEAD").strip(), "changes": "none"}


def test_every_change_of_code_changes_the_hash(checkout: Path) -> None:
    seen = [state(checkout)["changes"]]
    for name, text in [("a.py", "x = 2\n"), ("new.py", "y = 1\n"), ("new.py", "y = 2\n"), ("space.yaml", "k: 1\n")]:
        (checkout / name).write_text(text)
        seen.append(state(checkout)["changes"])
    assert len(set(seen)) == len(seen)
    (checkout / "notes.txt").write_text("no code")
    assert state(checkout)["changes"] == seen[-1]
    for name in ("new.py", "space.yaml"):
        (checkout / name).unlink()
    (checkout / "a.py").write_text("x = 1\n")
    assert state(checkout)["changes"] == "none"


def test_outside_a_checkout_it_says_so(tmp_path: Path) -> None:
    assert state(tmp_path)["commit"] == "not a git checkout"


def test_installed_inside_a_checkout_of_something_else_it_says_so(checkout: Path) -> None:
    package = checkout / ".venv" / "site-packages" / "harness"
    package.mkdir(parents=True)
    (package / "code.py").touch()
    assert state(package)["commit"] == "not a git checkout"


def test_without_git_it_says_so(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert state(checkout)["commit"] == "not a git checkout"


def test_versions_are_read_without_importing(tmp_path: Path) -> None:
    code = "import sys; from harness.records.provenance import provenance; p = provenance(); "
    code += "print(p['versions']['torch'], sorted({'torch', 'numpy', 'transformers'} & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path).stdout
    assert out.split()[0][0].isdigit()
    assert out.split()[1] == "[]"
    assert versions(["no-such-package"]) == {"no-such-package": "not installed"}


def test_it_is_plain_and_complete() -> None:
    whole = completed_provenance(provenance(threads=2, device="cpu", command="harness ablate fig3"), gpu_hours=0.0)
    assert json.loads(json.dumps(to_plain(whole))) == whole
    assert (whole["threads"], whole["device"], whole["command"]) == (2, "cpu", "harness ablate fig3")
    assert whole["started"] <= whole["finished"]
    assert whole["wall_seconds"] >= 0
    assert processor_name()
