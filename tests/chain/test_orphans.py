"""A chain that is killed leaves its command behind, and the next one waits for it."""

import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

from harness.chain import runner
from harness.processes.locks import holder, is_held

CHAIN = """
import sys
from pathlib import Path
from types import SimpleNamespace

from harness.chain.runner import _run, in_a_process
from harness.chain.step import Step

sys.executable = str(Path("command").absolute())
chain = SimpleNamespace(folder=Path("folder"), out=Path("runs"))
_run(chain, "export", Step(words=("export",), output=Path("said.json")), lambda _: None, in_a_process)
"""
"""Of one command, in whose place another program waits."""


def test_a_command_without_a_driver_is_waited_for(tmp_path, monkeypatch):
    """As an export: begun again, it would write beside the one that is left."""
    (tmp_path / "folder").mkdir()
    command = tmp_path / "command"
    command.write_text("#!/bin/sh\nexec sleep 600\n")
    command.chmod(0o755)
    lock, end = tmp_path / "folder" / runner.COMMAND_LOCK, time.monotonic() + 120
    paths = os.pathsep.join(sys.path)
    killed = subprocess.Popen([sys.executable, "-c", CHAIN], cwd=tmp_path, env={**os.environ, "PYTHONPATH": paths})
    while "command" not in holder(lock):
        assert killed.poll() is None
        assert time.monotonic() < end
        time.sleep(0.02)
    left = holder(lock)["pid"]
    killed.kill()
    killed.wait()
    assert left != killed.pid
    assert is_held(lock), "by the command"

    said = []

    def say(text: str) -> None:
        said.append(text)
        os.kill(left, signal.SIGKILL)

    monkeypatch.setattr(runner, "WAIT_S", 0.02)
    nothing = SimpleNamespace(folder=tmp_path / "folder", study=SimpleNamespace(stages={}))
    runner.run_chain(nothing, say)
    assert len(said) == 1
    assert said[0].startswith(f"process {left} on ")
    assert said[0].endswith("is at `harness export > said.json` already; waiting for it to end")
    assert not is_held(lock)
