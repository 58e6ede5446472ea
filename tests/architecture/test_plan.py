"""The plan is what is built: every block stands at its place, with its channels in and out, and no other does."""

import pytest
import torch

from harness.architecture.catalogue import architecture
from harness.architecture.edits import with_edits
from harness.architecture.plan import decoder_plan, unet_plan
from harness.models.build import build, example_inputs
from harness.models.decoder import DecoderBlock
from harness.models.unet import Blocks

EDITS = (
    {},
    {"middle": None},
    {"middle": "residual"},
    {"stages.*.up_blocks": 3, "stages.1.down_blocks": 2},
    {"stages.0.block": {"kind": "transformer", "projections": False}},
    {"convolution": {"kind": "separable", "resampling": "both"}},
    {"upsample": "pixel_shuffle", "downsample": "pixel_unshuffle"},
)


def run_and_watch(config, places):
    """The input's and output's channels of the modules at these places, in the order in which they ran."""
    network, seen = build(config), []
    for place in places:

        def watch(_module, inputs, output, place=place):
            seen.append((place, inputs[0].shape[1], output.shape[1]))

        network.get_submodule(place).register_forward_hook(watch)
    with torch.no_grad():
        network(*example_inputs(config, latent=8))
    return network, seen


@pytest.mark.parametrize("edits", EDITS, ids=str)
def test_a_unet_runs_its_plan(edits):
    config = with_edits(architecture("laptop/thin_sdxl"), edits)
    planned = [(block.place, block.c_in, block.c_out) for block in unet_plan(config).blocks()]
    network, seen = run_and_watch(config, [place for place, _, _ in planned])
    assert seen == planned
    assert sum(len(part.block) for part in network.modules() if isinstance(part, Blocks)) == len(planned)


@pytest.mark.parametrize("name", ["decoder/tiny", "decoder/sd3"])
def test_a_decoder_runs_its_plan(name):
    config = architecture(name)
    if name == "decoder/sd3":
        config = with_edits(config, {"stages.*.channels": 32, "width_change": "shortcut"})
    planned = [(block.place, block.c_in, block.c_out) for block in decoder_plan(config).blocks()]
    network, seen = run_and_watch(config, [place for place, _, _ in planned])
    assert seen == planned
    assert sum(isinstance(part, DecoderBlock) for part in network.modules()) == len(planned)
