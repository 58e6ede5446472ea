"""A phone without a phone: coremltools' doubles, and packages whose network is made of bytes."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import fake_coremltools
from requests_for_tests import StubTarget


@pytest.fixture
def world(monkeypatch):
    """A phone attached to a Mac; changes to the world last for the test."""
    for name, module in fake_coremltools.modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(fake_coremltools, "world", fake_coremltools.World())
    return fake_coremltools.world


@pytest.fixture
def queue_folder(tmp_path):
    folder = tmp_path / "queue"
    folder.mkdir()
    return folder


@pytest.fixture
def target():
    return StubTarget()
