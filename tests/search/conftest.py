"""Makes the sweeps without training importable."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from fake_sweep import patch_gate


@pytest.fixture
def cheap(monkeypatch):
    """Candidates are gated without counting."""
    patch_gate(monkeypatch)
