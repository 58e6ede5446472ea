"""Export of `snapgen`, and of a network equal to diffusers' beside `ct.convert` of diffusers': time and peak memory.

diffusers has neither multi-query attention nor separable convolutions, so the pair that is equal in parameters is the
ladder's base; `snapgen` stands beside it. Ours is laid out for the Neural Engine, with every head by itself, and so
converts more operators: no goal is set on the ratio, memory must not be more.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from harness.measure.cost import count
from harness.models.build import build, example_inputs

from .interleaved import LINES, report
from .peers import Peer, thin_twin

pytestmark = pytest.mark.benchmark(group="export")


def measured(what, folder):
    script = str(Path(__file__).with_name("export_peak.py"))
    ended = subprocess.run([sys.executable, script, what, str(folder)], check=True, capture_output=True, text=True)
    numbers = json.loads(ended.stdout)
    LINES.append(f"export of {what} at 32x32: " + ", ".join(f"{k} {v:,.0f}" for k, v in numbers.items()))
    return numbers


def test_the_networks_are_equal():
    config = thin_twin()
    with torch.device("meta"):
        ours, peer = build(config), Peer(config)
    inputs = example_inputs(config, latent=32, device="meta")
    assert count(ours, inputs).macs == count(peer, inputs).macs
    assert count(ours, inputs).params == count(peer, inputs).params


@pytest.mark.timeout(3600)
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="reads peak memory from Linux's /proc")
def test_export_beside_diffusers(benchmark, tmp_path):
    numbers = {}
    benchmark.pedantic(
        lambda: numbers.update({x: measured(x, tmp_path) for x in ("snapgen", "twin", "peer")}), rounds=1
    )
    twin, peer = numbers["twin"], numbers["peer"]
    report(benchmark, [twin["cpu_s"]], [peer["cpu_s"]], name="export / ct.convert of diffusers', CPU time", unit="s")
    peak = report(benchmark, [twin["peak_mb"]], [peer["peak_mb"]], name="the same, peak memory", unit="MB")
    assert peak.median <= 1.05
    assert numbers["snapgen"]["package_mb"] < twin["package_mb"]
