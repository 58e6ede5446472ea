"""How sides are doubled and halved between stages: what is shuffled can do all that a nearest or a strided one does, it
is counted and predicted as what it is, and no network that had no choice has another fingerprint."""

import itertools

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from harness.architecture.catalogue import architecture
from harness.architecture.edits import with_edits
from harness.architecture.kinds import builder_of
from harness.architecture.knobs import Nearest, PixelShuffle, PixelUnshuffle, Regular, Separable, Strided
from harness.measure.cost import count
from harness.models.build import build, example_inputs
from harness.predictor.predict import predict_latency
from harness.records.plain import from_plain, to_plain

UNET, DECODER = architecture("laptop/thin_sdxl"), architecture("decoder/tiny")
SHUFFLED = {
    "unet": with_edits(UNET, {"upsample": "pixel_shuffle", "downsample": "pixel_unshuffle"}),
    "decoder": with_edits(DECODER, {"upsample": "pixel_shuffle"}),
}
ORIGINAL = {"unet": UNET, "decoder": DECODER}


def layer(spec, convolution=None, c_in=3, c_out=5):
    torch.manual_seed(0)
    return builder_of(spec)(spec, convolution or Regular(), c_in, c_out).double()


def test_a_convolution_behind_nearest_is_a_shuffled_one_with_certain_weights():
    """Of a pixel's four, each sees the smaller map through the kernel's rows and columns that fall on one pixel."""
    nearest, shuffled = layer(Nearest()), layer(PixelShuffle())
    kernel = nearest.conv.weight.data  # (5, 3, 3, 3)
    folded = torch.zeros(2, 2, *kernel.shape, dtype=kernel.dtype)
    for row in range(2):
        for column in range(2):
            for i in range(3):
                for j in range(3):
                    seen = ((row + i - 1) // 2 + 1, (column + j - 1) // 2 + 1)
                    folded[row, column, :, :, *seen] += kernel[:, :, i, j]
    with torch.no_grad():
        shuffled.conv.weight.copy_(folded.permute(2, 0, 1, 3, 4, 5).reshape(20, 3, 3, 3))
        shuffled.conv.bias.copy_(nearest.conv.bias.repeat_interleave(4))
        x = torch.randn(2, 3, 6, 4, dtype=torch.float64)
        torch.testing.assert_close(shuffled(x), nearest(x))


def test_a_strided_convolution_is_an_unshuffled_one_with_certain_weights():
    strided, unshuffled = layer(Strided()), layer(PixelUnshuffle())
    kernel = strided.weight.data  # (5, 3, 3, 3): its middle is on the upper left pixel of the square
    spread = torch.zeros(5, 3, 2, 2, 3, 3, dtype=kernel.dtype)
    for i in range(3):
        for j in range(3):
            spread[:, :, (i - 1) % 2, (j - 1) % 2, (i - 1) // 2 + 1, (j - 1) // 2 + 1] = kernel[:, :, i, j]
    with torch.no_grad():
        unshuffled.conv.weight.copy_(spread.reshape(5, 12, 3, 3))
        unshuffled.conv.bias.copy_(strided.bias)
        x = torch.randn(2, 3, 6, 4, dtype=torch.float64)
        torch.testing.assert_close(unshuffled(x), strided(x))


def test_separable_ones_are_shuffled_too():
    up, down = layer(PixelShuffle(), Separable()), layer(PixelUnshuffle(), Separable())
    assert up.conv.depthwise.weight.shape == (3, 1, 3, 3)
    assert up.conv.pointwise.weight.shape == (20, 3, 1, 1)
    assert down.conv.pointwise.weight.shape == (5, 12, 1, 1)
    x = torch.randn(1, 3, 4, 4, dtype=torch.float64)
    assert up(x).shape == (1, 5, 8, 8)
    assert down(x).shape == (1, 5, 2, 2)


def test_networks_that_had_no_choice_are_what_they_were():
    for config in ORIGINAL.values():
        plain = to_plain(config)
        for name in ("upsample", "downsample"):
            plain.pop(name, None)
        assert from_plain(type(config), plain).fingerprint == config.fingerprint
        assert "upsample" not in config.canonical()
    assert UNET.fingerprint == "f84dcb6580be87e5"
    assert DECODER.fingerprint == "54a910e7d44eb376"
    prints = {each.fingerprint for each in (*ORIGINAL.values(), *SHUFFLED.values())}
    assert len(prints | {with_edits(UNET, {"downsample": "pixel_unshuffle"}).fingerprint}) == 5
    one = with_edits(DECODER, {"stages": to_plain(DECODER.stages)[:1]})
    assert with_edits(one, {"upsample": "pixel_shuffle"}).fingerprint == one.fingerprint


def on_meta(config, latent):
    with torch.device("meta"):
        module = build(config)
    return module, example_inputs(config, latent=latent, device="meta")


@pytest.mark.parametrize("name", SHUFFLED)
def test_it_is_counted_by_the_weights_and_the_size_at_which_they_are_used(name):
    """By hand, layer by layer between stages; all else is the same."""
    before, after = (count(*on_meta(each[name], 16)) for each in (ORIGINAL, SHUFFLED))
    weights = multiply_adds = 0
    if name == "unet":
        widths = [stage.channels for stage in UNET.stages[:-1]]
        ups = [stage.channels for stage in UNET.stages[1:]]
        weights = sum(3 * (9 * width**2 + width) for width in ups) + sum(3 * 9 * width**2 for width in widths)
        multiply_adds = sum(3 * 9 * width**2 * (16 >> depth) ** 2 // 4 for depth, width in enumerate(widths))
    else:
        channels = [stage.channels for stage in DECODER.stages]
        for depth, (c_in, c_out) in enumerate(itertools.pairwise(channels)):
            weights += 3 * (c_in + 1) * c_out
            multiply_adds -= 3 * 9 * c_in * (16 << depth) ** 2  # depthwise, at the smaller size
    assert after.params - before.params == weights
    assert after.macs - before.macs == multiply_adds
    assert after.flops_fvcore < before.flops_fvcore + multiply_adds  # nothing is interpolated


@pytest.mark.parametrize("name", SHUFFLED)
def test_it_is_predicted_as_another_network(name):
    before, after = (predict_latency(*on_meta(each[name], 32), chip="A17 Pro") for each in (ORIGINAL, SHUFFLED))
    assert before.value != after.value
    assert after.low < after.value < after.high


@pytest.mark.parametrize("name", SHUFFLED)
def test_every_parameter_gets_a_gradient(name):
    small = {"stages.*.channels": 16, "norm.groups": 8} | ({"head_dim": 8} if name == "unet" else {})
    config = with_edits(SHUFFLED[name], small)
    module = build(config)
    nn.init.normal_(module.conv_out.weight)
    out = module(*example_inputs(config, latent=8))
    assert out.shape[-1] == (8 if name == "unet" else 64)
    F.silu(out).square().mean().backward()
    names = [path for path, each in module.named_parameters() if "sample" in path and not each.grad.any()]
    assert names == []
