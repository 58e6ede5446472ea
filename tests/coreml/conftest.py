"""Packages that several files read: a conversion takes seconds."""

import pytest

from harness.coreml.config import Mlprogram

from .mil_packages import exported, small_last_rung


@pytest.fixture(scope="session", autouse=True)
def _converted_without_inspections(quick_conversions):
    """All of this room's."""


@pytest.fixture(scope="session")
def last_rung(tmp_path_factory):
    """The module, its inputs and the summary of its package."""
    return exported(small_last_rung(), tmp_path_factory.mktemp("last_rung"), Mlprogram())
