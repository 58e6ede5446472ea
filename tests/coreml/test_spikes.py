"""One channel far larger than the others, as trained networks have them: 256 squared is infinite in fp16."""

import pytest
import torch
from torch import nn

from harness.architecture.edits import with_edits
from harness.coreml import layout_blocks
from harness.coreml.config import Mlprogram
from harness.coreml.export import export_package
from harness.coreml.interpreter import run_program
from harness.coreml.layout import for_export
from harness.coreml.mil_program import read_program
from harness.coreml.parity import EXPECTED_DB, costliest_operator, parity
from harness.models.attention import SharedHeadAttention
from harness.models.blocks import ResidualBlock
from harness.models.build import build, example_inputs
from harness.models.norms import RMSNorm
from harness.models.parameters import fill_weights

from .layouts import KNOBS, SPARSE, small
from .mil_packages import normal, small_last_rung

SPIKE = 300.0
NETWORKS = {
    "qk rms norm, rope": small_last_rung(),
    "qk layer norm, rope": with_edits(small("thin_sdxl"), KNOBS["mqa, qk layer norm, rope"]),
    "no qk norm": small("thin_sdxl"),
    "sparse, qk rms norm, rope": with_edits(small_last_rung(), {"stages.1.block.span": SPARSE}),
    "sparse, no qk norm": with_edits(small_last_rung(), {"stages.1.block.span": SPARSE, "qk_norm": None}),
    "map rms norm": with_edits(small("thin_sdxl"), KNOBS["map rms norm"]),
    "map layer norm": with_edits(small("thin_sdxl"), KNOBS["map layer norm"]),
}
CLOSE_CALLS, NEAR = ("qk layer norm, rope",), 44.0
"""A layer norm makes one spike of 300 nearly all of a head, and what is left of it nearly nothing: fp16 weights alone,
computed in float32, leave 49 dB."""
PLAIN = Mlprogram(layout="plain", target="iOS18")


def spiked(config):
    """The network with spikes planted: an output channel of every query and key, and of every residual block's first
    convolution, is SPIKE times as large. Without a norm between them the keys' is as much smaller, and nothing
    changes."""
    network = build(config).eval()
    fill_weights(network)
    with torch.no_grad():
        for part in network.modules():
            if isinstance(part, SharedHeadAttention):
                part.query.weight[0] *= SPIKE
                part.key_value.weight[0] *= 1 / SPIKE if isinstance(part.query_norm, nn.Identity) else SPIKE
            if isinstance(part, ResidualBlock):
                last = [each for each in part.conv1.modules() if isinstance(each, nn.Conv2d)][-1]
                last.weight[0] *= SPIKE
    return network, example_inputs(config, latent=8)


@pytest.fixture(scope="module")
def spiked_last_rung(tmp_path_factory):
    network, inputs = spiked(small_last_rung())
    path = export_package(network, inputs, tmp_path_factory.mktemp("spiked") / "x.mlpackage").path
    return network, inputs, read_program(path)


def test_the_last_rung_keeps_its_spikes(spiked_last_rung):
    assert parity(*spiked_last_rung).float16_db >= EXPECTED_DB


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_every_norm_keeps_its_spikes(name, tmp_path):
    network, inputs = spiked(NETWORKS[name])
    for settings in (Mlprogram(), PLAIN):
        program = read_program(export_package(network, inputs, tmp_path / "x.mlpackage", settings).path)
        result = parity(network, inputs, program)
        print(f"{settings.layout}: {result.float32_db:.1f}, {result.float16_db:.1f} dB")
        least = NEAR if name in CLOSE_CALLS else EXPECTED_DB
        assert result.float16_db >= least, costliest_operator(network, inputs, program)


def test_squares_that_are_not_scaled_first_are_red(tmp_path, monkeypatch):
    """The norm as it is written in the module."""

    def squared_at_once(x, axis, eps):
        return x * torch.rsqrt(x.square().mean(axis, keepdim=True) + eps)

    monkeypatch.setattr(layout_blocks, "over_rms", squared_at_once)
    network, inputs = spiked(small_last_rung())
    program = read_program(export_package(network, inputs, tmp_path / "x.mlpackage").path)
    assert parity(network, inputs, program).float16_db < EXPECTED_DB
    assert costliest_operator(network, inputs, program)[0] in ("square", "mul", "reduce_mean", "add")


@pytest.mark.parametrize("layout", ["ane", "plain"])
def test_a_norm_of_a_map_and_of_tokens_in_either_layout(layout):
    """Equal to the module in float64, whatever the size of what goes in."""
    for norm, shape in ((RMSNorm(6, dim=1), (2, 6, 4, 4)), (RMSNorm(6), (2, 5, 6))):
        swapped = for_export(nn.Sequential(norm.double()), layout)
        for size in (0.0, 1e-4, 1.0, 3e4):
            x = size * normal(*shape).double()
            assert torch.allclose(swapped(x), norm(x), rtol=1e-12, atol=0)


def test_eps_is_what_it_was(tmp_path):
    """coremltools' own rms_norm makes eps as many times larger as the largest entry's square."""
    norm = RMSNorm(64, dim=1)
    x = torch.cat([torch.full((1, 1, 1, 32), 300.0), 1e-3 * normal(1, 63, 1, 32)], dim=1)
    program = read_program(export_package(nn.Sequential(norm), (x,), tmp_path / "x.mlpackage").path)
    (out,) = run_program(program, {program.inputs[0].name: x}, "float16").values()
    assert torch.allclose(out, norm(x), rtol=2e-3, atol=1e-6)
