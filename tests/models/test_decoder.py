"""Decoders: Stable Diffusion's is diffusers' to the unit, and every knob towards the tiny one is what it says."""

import json
import re
import subprocess
import sys

import pytest
import torch
from diffusers import AutoencoderKL
from torch.nn import functional as F

from harness.architecture.catalogue import architecture
from harness.architecture.edits import with_edits
from harness.coreml.export import export_package
from harness.models import decoder as decoder_module
from harness.models.build import build, example_inputs
from harness.records.errors import UserError

SD3, TINY = architecture("decoder/sd3"), architecture("decoder/tiny")
SMALL_SD3 = with_edits(
    SD3,
    {
        "stages.0.channels": 32,
        "stages.1.channels": 32,
        "stages.2.channels": 16,
        "stages.3.channels": 8,
        "norm.groups": 8,
    },
)
SMALL_TINY = with_edits(
    TINY,
    {
        "stages.0.channels": 16,
        "stages.1.channels": 12,
        "stages.2.channels": 8,
        "stages.3.channels": 4,
        "norm.groups": 8,
    },
)


def twin(config):
    widths = [stage.channels for stage in reversed(config.stages)]
    return AutoencoderKL(
        latent_channels=config.latent_channels,
        block_out_channels=widths,
        down_block_types=["DownEncoderBlock2D"] * len(widths),
        up_block_types=["UpDecoderBlock2D"] * len(widths),
        layers_per_block=config.stages[0].blocks - 1,
        norm_num_groups=config.norm.groups,
    ).decoder


WORDS = (
    ("mid_block.resnets", "middle.block"),
    ("mid_block.attentions.0", "middle.attention"),
    ("group_norm", "norm"),
    ("to_q", "query"),
    ("to_k", "key"),
    ("to_v", "value"),
    ("to_out.0", "out"),
    ("up_blocks", "up"),
    ("resnets", "block"),
    ("conv_shortcut", "shortcut"),
    ("upsamplers.0", "upsample"),
    ("conv_norm_out", "norm_out"),
)


def renamed(theirs):
    ours = {}
    for key, value in theirs.items():
        for before, after in WORDS:
            key = key.replace(before, after)
        ours[key] = value
    return ours


def randomised(module):
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(std=0.2)
    return module.double().eval()


def parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("name", ["decoder/sdxl", "decoder/sd3"])
def test_parameters_equal_diffusers_to_the_unit(name):
    config = architecture(name)
    with torch.device("meta"):
        assert parameters(build(config)) == parameters(twin(config))


def outputs():
    theirs, ours = randomised(twin(SMALL_SD3)), build(SMALL_SD3).double().eval()
    ours.load_state_dict(renamed(theirs.state_dict()))
    x = example_inputs(SMALL_SD3, latent=8)[0].double()
    with torch.no_grad():
        return ours(x), theirs(x)


def test_outputs_equal_diffusers_with_its_weights():
    ours, theirs = outputs()
    assert ours.shape == (1, 3, 64, 64)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-10)


def test_a_wrong_epsilon_is_seen(monkeypatch):
    monkeypatch.setattr(decoder_module, "NORM_EPS", 1e-5)
    ours, theirs = outputs()
    assert (ours - theirs).abs().max() > 1e-9


def tiny_reference(state, x):
    """The tiny decoder from its description, written plainly; the widths are in the weights."""

    def conv(name, h):
        weight = state[f"{name}.weight"]
        return F.conv2d(h, weight, state[f"{name}.bias"], padding=weight.shape[-1] // 2)

    def separable(name, h):
        depthwise = state[f"{name}.depthwise.weight"]
        h = F.conv2d(h, depthwise, padding=1, groups=len(depthwise))
        return conv(f"{name}.pointwise", h)

    def norm(name, h):
        return F.group_norm(h, 8, state[f"{name}.weight"], state[f"{name}.bias"], 1e-6)

    h = conv("conv_in", x)
    inner = separable("middle.block.0.conv1", F.silu(norm("middle.block.0.norm1", h)))
    h = h + separable("middle.block.0.conv2", F.silu(norm("middle.block.0.norm2", inner)))
    for stage, blocks in enumerate((3, 3, 2, 2)):
        for block in range(blocks):
            name = f"up.{stage}.block.{block}"
            h = h + separable(f"{name}.conv2", F.silu(separable(f"{name}.conv1", F.silu(h))))
        if stage < 3:
            h = h.repeat_interleave(2, 2).repeat_interleave(2, 3)
            h = separable(f"up.{stage}.upsample.conv", h)
    return conv("conv_out", F.silu(h))


def test_the_tiny_decoder_equals_a_plain_rewriting_with_its_weights():
    module = randomised(build(SMALL_TINY))
    x = example_inputs(SMALL_TINY, latent=4)[0].double()
    with torch.no_grad():
        torch.testing.assert_close(module(x), tiny_reference(module.state_dict(), x), rtol=0, atol=1e-10)


def shapes(config):
    with torch.device("meta"):
        return {name: tuple(part.shape) for name, part in build(config).named_parameters()}


@pytest.mark.parametrize(
    ("edits", "touched"),
    [
        ({"width_change": "shortcut"}, r"up\.[123]\.block\.0\.|up\.[012]\.upsample"),
        ({"middle.norm": False}, r"middle\.block\.0\.norm[12]\.(weight|bias)"),
        ({"stages.1.norm": True}, r"up\.1\.block\.[012]\.norm[12]\.(weight|bias)"),
        ({"norm_out": True}, r"norm_out\.(weight|bias)"),
        ({"middle.attention": True}, r"middle\.attention\."),
        ({"stages.2.blocks": 3}, r"up\.2\.block\.2\."),
        ({"convolution": "regular"}, r".*(conv[12]|upsample\.conv)\.|.*norm2"),
        ({"upsample": "pixel_shuffle"}, r"up\.[012]\.upsample\.conv\."),
        ({"convolution.resampling": "none"}, r"up\.[012]\.upsample\.conv\."),
    ],
)
def test_a_knob_touches_what_it_names_and_nothing_else(edits, touched):
    before, after = shapes(TINY), shapes(with_edits(TINY, edits))
    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    assert changed
    assert [name for name in changed if not re.match(touched, name)] == []


def test_no_block_of_the_tiny_decoder_has_a_shortcut_convolution_or_attention_and_the_norms_are_in_the_middle():
    with torch.device("meta"):
        names = [name for name, part in build(TINY).named_modules() if list(part.parameters(recurse=False))]
    assert not [name for name in names if "shortcut" in name or "attention" in name]
    assert [name for name in names if "norm" in name] == ["middle.block.0.norm1", "middle.block.0.norm2"]


def test_every_parameter_of_the_tiny_decoder_gets_a_gradient():
    module = build(SMALL_TINY)
    module(*example_inputs(SMALL_TINY, latent=4)).square().mean().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in module.parameters())


def test_only_the_unet_recomputes_its_blocks():
    with pytest.raises(UserError, match="only the UNet can recompute its blocks, not DecoderConfig"):
        build(SMALL_TINY, checkpointing=True)


DECODE = """
import json, resource, sys
import torch
from harness.architecture.catalogue import architecture
from harness.models.build import build, example_inputs
config = architecture("decoder/tiny")
with torch.inference_mode():
    image = build(config).eval()(*example_inputs(config, latent=128))
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
print(json.dumps([list(image.shape), bool(image.isfinite().all()), peak / 1e9]))
"""


@pytest.mark.xdist_group("gigabytes")
@pytest.mark.slow
def test_the_tiny_decoder_runs_at_1024_pixels_in_under_5_5_gb():
    """Measured in float32 on the CPU: 4.6 GB at the peak, PyTorch included; a minute on one thread."""
    process = subprocess.run([sys.executable, "-c", DECODE], check=True, capture_output=True, text=True, timeout=280)
    shape, finite, peak_gb = json.loads(process.stdout)
    assert shape == [1, 3, 1024, 1024]
    assert finite
    assert peak_gb < 5.5


@pytest.mark.slow
def test_the_tiny_decoder_exports_to_core_ml(tmp_path):
    summary = export_package(build(TINY), example_inputs(TINY, latent=16), tmp_path / "decoder.mlpackage")
    assert summary.bytes > 2 * 1.3e6  # 16 bits a parameter
    assert not [name for name in summary.operators if "attention" in name or name == "softmax"]
