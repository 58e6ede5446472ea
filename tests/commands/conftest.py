"""The tiny study of tests/trials, and `harness` called as a user calls it."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "trials"))

from tiny_study import lay_out

from harness.cli import main


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    """Embedded prompts and reference statistics, computed once for all tests."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def workplace(tmp_path, monkeypatch, cache):
    """A working directory with sweeps/tiny.yaml."""
    monkeypatch.chdir(tmp_path)
    return lay_out(tmp_path, cache)


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
