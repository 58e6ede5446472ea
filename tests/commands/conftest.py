"""`harness` called as a user calls it."""

import sys
from pathlib import Path

import pytest

from harness.cli import main
from harness.records.store import Store

sys.path.insert(0, str(Path(__file__).parent))  # stored_trials


@pytest.fixture
def store(tmp_path, monkeypatch):
    """An empty one, in the default place under the test's folder, from which commands then run."""
    monkeypatch.chdir(tmp_path)
    return Store(Path("runs/store"))


@pytest.fixture
def refused(capsys):
    """Call `harness` with a mistake in it: status 2, nothing on stdout, one line on stderr, which is returned."""

    def call(*words: str) -> str:
        assert main(list(words)) == 2
        printed = capsys.readouterr()
        lines = printed.err.splitlines()
        assert lines[-1].startswith("harness: ")
        assert "Traceback" not in printed.err
        assert [line for line in lines if line.startswith("harness: ")] == lines[-1:]
        return lines[-1]

    return call
