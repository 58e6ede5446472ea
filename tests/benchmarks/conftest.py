"""Timings against a peer. They run with `make bench` (`pytest tests/benchmarks -m benchmark`), not by default."""

import sys
from pathlib import Path

import pytest
import torch

from .interleaved import LINES

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "search"))  # the storms


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if "benchmark" not in config.option.markexpr:
        for item in items:
            if HERE in item.path.parents:
                item.add_marker(pytest.mark.skip(reason="times against a peer; make bench"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if LINES:
        terminalreporter.section("ours against a peer: median of the pairs' ratios [quartiles]")
        for line in LINES:
            terminalreporter.write_line(line)


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
