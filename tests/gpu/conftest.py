"""What needs CUDA, in one folder: `make test-gpu`. Most of it runs on a processor too, as small as that asks for, so
that the code of a test is known to work before a GPU sees it."""

import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "training")]


@pytest.fixture
def no_tf32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Convolutions in float32 proper, which are comparable with a processor's."""
    import torch

    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


@pytest.fixture
def compiler(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[None]:
    """On a processor the compiler's front end alone, which takes seconds instead of minutes."""
    import torch

    if request.node.callspec.params["device"] == "cpu":
        monkeypatch.setattr("harness.training.device.COMPILER", "aot_eager")
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.fixture
def group(request: pytest.FixtureRequest) -> Iterator[None]:
    """A process group of this process alone."""
    import torch.distributed as dist

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        where = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    backend = "gloo" if request.node.callspec.params["device"] == "cpu" else "cpu:gloo,cuda:nccl"
    dist.init_process_group(backend, init_method=where, rank=0, world_size=1)
    yield
    dist.destroy_process_group()


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
