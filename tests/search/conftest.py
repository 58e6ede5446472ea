"""Makes the trials' tiny study importable; a working directory to search in."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "trials"))

from tiny_study import lay_out


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    """Embedded prompts and reference statistics, computed once for all tests."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def workplace(tmp_path, monkeypatch, cache):
    """A working directory with sweeps/search.yaml, a space of six candidates."""
    monkeypatch.chdir(tmp_path)
    return lay_out(tmp_path, cache)
