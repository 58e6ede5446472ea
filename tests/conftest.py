"""Shared by the rooms: the tiny study and the documented commands, made importable, and a place to run them in."""

import functools
import gc
import signal
import sys
from pathlib import Path

import pytest

for room in ("trials", "documentation"):
    sys.path.insert(0, str(Path(__file__).parent / room))
# `nohup` and `&` start programs deaf to Ctrl-C and to a terminal that is gone, and what they start is deaf too: the
# commands under test are to hear them
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
# with all that the tests import in memory, looking for cycles after every 700 objects took an eighth of their time
gc.set_threshold(100_000, 20, 20)


@pytest.fixture(scope="session")
def tiny_sweeps_without_floor():
    """A few steps of a tiny network beat no Gaussian, and scoring one takes as long as the sweep: here sweeps of one
    budget are held against no floor. Those that are to be put `floor_of.__wrapped__` back."""
    from harness.search import driver

    real = driver.floor_of

    @functools.wraps(real)
    def of_several_budgets(problem, queue, show):
        return real(problem, queue, show) if problem.top > 0 else None

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(driver, "floor_of", of_several_budgets)
        yield


@pytest.fixture(scope="session")
def cache(tmp_path_factory, tiny_sweeps_without_floor):
    """Embedded prompts and reference statistics, computed once for all tests of tiny studies."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def quick_conversions():
    """coremltools inspects its program after each of 112 passes, a quarter of a conversion: here the result is."""
    from coremltools.converters.mil.mil import Program

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Program, "validate", lambda *_, **__: None)
        yield


@pytest.fixture
def workplace(tmp_path, monkeypatch, cache):
    """A working directory with the ablation `tiny`, and the sweep `search` over six candidates."""
    from tiny_study import lay_out  # loads torch, which most rooms' tests do without

    monkeypatch.chdir(tmp_path)
    return lay_out(tmp_path, cache)


@pytest.fixture
def refusal(capsys):
    """`refusal(*words)`: what `harness WORDS` says, in one sentence and with exit code 2."""
    from harness.cli import main  # as `workplace`

    def call(*words):
        capsys.readouterr()  # of what came before
        assert main(words) == 2
        printed = capsys.readouterr()
        assert printed.out == ""
        assert printed.err.startswith("harness: ")
        assert printed.err.count("\n") == 1
        return printed.err

    return call


def pytest_collection_modifyitems(items):
    """The longest first, as their timeouts say: one that begins last would leave the other processes without work."""
    items.sort(key=lambda item: -max((mark.args[0] for mark in item.iter_markers("timeout")), default=0))
