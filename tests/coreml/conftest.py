"""Packages that several files read: a conversion takes seconds."""

import pytest

from harness.coreml.config import Mlprogram

from .mil_packages import exported, small_last_rung


@pytest.fixture(scope="session", autouse=True)
def _converted_without_inspections():
    """coremltools inspects its program after each of 112 passes, a quarter of a conversion: here the result is."""
    from coremltools.converters.mil.mil import Program

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Program, "validate", lambda *_, **__: None)
        yield


@pytest.fixture(scope="session")
def last_rung(tmp_path_factory):
    """The module, its inputs and the summary of its package."""
    return exported(small_last_rung(), tmp_path_factory.mktemp("last_rung"), Mlprogram())
