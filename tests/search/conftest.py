"""Makes the sweeps without training importable."""

import sys
from pathlib import Path

import pytest
from optuna.storages._rdb.storage import _VersionManager

sys.path.insert(0, str(Path(__file__).parent))

from fake_sweep import patch_gate


@pytest.fixture(scope="session", autouse=True)
def _migrations_read_once():
    """Optuna runs the scripts of all its migrations whenever it opens a database: a tenth of these tests' time."""
    read, scripts = _VersionManager._create_alembic_script, []

    def once(self):
        if not scripts:
            scripts.append(read(self))
        return scripts[0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_VersionManager, "_create_alembic_script", once)
        yield


@pytest.fixture
def cheap(monkeypatch):
    """Candidates are gated without counting."""
    patch_gate(monkeypatch)
