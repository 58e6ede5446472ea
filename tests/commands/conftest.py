"""`harness` called as a user calls it."""

import pytest

from harness.cli import main


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
