"""One tiny trial, really trained, and what is published of it."""

import functools
import sys
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "device"))

import fake_coremltools
import torch
from requests_for_tests import StubTarget
from tiny_study import SMALL, share_cache, tiny_spec

from harness.cli import main
from harness.device.agent import Agent
from harness.device.queue import FolderQueue
from harness.trials.run import run_trial


@pytest.fixture(scope="session")
def trained(tmp_path_factory, cache):
    """A working directory whose `runs` has one trained trial; its record."""
    folder = tmp_path_factory.mktemp("publish")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        share_cache(Path("runs"), cache)
        record = run_trial(tiny_spec("sampling.guidance_scale=2", edits=SMALL), folder / "attempt")
    return folder, record


@pytest.fixture
def record(trained, monkeypatch):
    monkeypatch.chdir(trained[0])
    return trained[1]


@pytest.fixture(scope="session")
def published(trained, quick_conversions):
    """The folder, with all that a phone needs."""
    place, record = trained
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        assert main(["publish", record.key, "--to", "model"]) == 0
    return place / "model"


@pytest.fixture
def phone(monkeypatch, tmp_path):
    """`phone(folder)`: an agent's whole run, on a phone that computes the packages' own operators in torch; what it
    said. Its queue is the folder `queue`; `phone.world` says how the phone behaves."""
    from harness.coreml.interpreter import run_program
    from harness.coreml.mil_program import read_program

    world, mode = fake_coremltools.World(), "float32"
    monkeypatch.setattr(fake_coremltools, "world", world)
    (tmp_path / "queue").mkdir()

    def run_agent(folder):
        programs = {path.name: in_memory(read_program(path)) for path in folder.glob("coreml/*.mlpackage")}

        def run(package, inputs):
            tensors = {name: torch.from_numpy(values) for name, values in inputs.items()}
            return {name: each.numpy() for name, each in run_program(programs[package.name], tensors, mode).items()}

        world.run, said = run, []
        with monkeypatch.context() as patch:
            for name, module in fake_coremltools.modules().items():
                patch.setitem(sys.modules, name, module)
            queue = FolderQueue(tmp_path / "queue")
            agent = Agent(queue=queue, target=StubTarget(), once=True, report=said.append, sleep=lambda _s: None)
            assert agent.run() == 0
        return said

    run_agent.world, run_agent.queue = world, tmp_path / "queue"
    return run_agent


def in_memory(program):
    """Its constants are read from the file once."""
    return replace(program, constants={name: functools.cache(read) for name, read in program.constants.items()})
