"""Makes the sweeps without training importable, and what reads W&B's offline files."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "search"))
sys.path.insert(0, str(Path(__file__).parents[1] / "tracking"))

from fake_sweep import patch_gate


@pytest.fixture
def cheap(monkeypatch):
    """Candidates are gated without counting."""
    patch_gate(monkeypatch)
