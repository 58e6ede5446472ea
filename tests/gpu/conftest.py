"""What needs CUDA, in one folder: `make test-gpu`. Most of it runs on a processor too, as small as that asks for, so
that the code of a test is known to work before a GPU sees it."""

import sys
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "training")]


@pytest.fixture
def no_tf32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Convolutions in float32 proper, which are comparable with a processor's."""
    import torch

    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


@pytest.fixture(autouse=True)
def _memory_is_given_back():
    yield
    import gc

    import torch

    if torch.cuda.is_available():
        gc.collect()
        torch.cuda.empty_cache()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The table last, when all else is known to work."""
    items.sort(key=lambda item: item.path.name == "test_step_times.py")
