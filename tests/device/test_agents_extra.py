"""The Mac that has the phone installs the extra `agent`: neither torch nor Optuna nor Hydra."""

import subprocess
import sys

import pytest

BLOCKED = """
import sys
for name in ("torch", "optuna", "hydra", "omegaconf", "numpy", "coremltools", "submitit"):
    sys.modules[name] = None
import pkgutil, importlib, harness.device
for found in pkgutil.iter_modules(harness.device.__path__):
    importlib.import_module(f"harness.device.{found.name}")
from harness.cli import main
main(["latency", "agent", "--help"])
"""


def test_the_room_and_the_agents_help_load_without_the_studys_packages():
    """Nor is numpy or coremltools needed before something is measured."""
    done = subprocess.run([sys.executable, "-c", BLOCKED], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "--chip" in done.stdout


ON_THE_MAC = """
import sys
{blocked}
from harness.cli import main
agent = ["latency", "agent", sys.argv[1], "--team", "ABCDE12345"]
print([main(words) for words in (["latency", "queue", sys.argv[1]], agent)])
"""
STUDY_PACKAGES = ("torch", "torchvision", "scipy", "sklearn", "PIL", "safetensors", "transformers", "fvcore", "optuna",
                  "submitit", "hydra", "omegaconf", "wandb", "pandas", "plotly", "jinja2")  # fmt: skip
"""Of the extra `study`; numpy comes with coremltools."""


def run_on_the_mac(folder, absent):
    script = ON_THE_MAC.format(blocked=f"for name in {absent}: sys.modules[name] = None")
    return subprocess.run([sys.executable, "-c", script, str(folder)], capture_output=True, text=True, timeout=60)


@pytest.mark.skipif(sys.platform == "darwin", reason="there it looks for an iPhone")
def test_the_agents_commands_run_up_to_the_phone_without_the_studys_packages(tmp_path):
    """What other commands are checked for before they start is no reason to need the study here."""
    ended = run_on_the_mac(tmp_path, STUDY_PACKAGES)
    assert ended.stdout.splitlines()[-1] == "[0, 2]", ended.stderr
    assert "needs a Mac" in ended.stderr


def test_a_package_that_these_commands_need_would_be_missed(tmp_path):
    assert "No module named 'rich" in run_on_the_mac(tmp_path, (*STUDY_PACKAGES, "rich")).stderr
