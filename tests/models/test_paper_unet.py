"""Every rung of the ladder, and `snapgen`, against a second writing of the paper's prose that shares no code."""

import sys
from pathlib import Path

import pytest
import torch

from harness.architecture.catalogue import architecture
from harness.architecture.edits import with_edits
from harness.models.build import build, example_inputs
from harness.models.embeddings import Rope2d, Rotation
from harness.models.norms import RMSNorm

sys.path.insert(0, str(Path(__file__).parent))
from paper_unet import RUNGS, Choices, Size, paper_unet

SMALL = Size(
    widths=(16, 32, 48),
    middle=3,
    head=8,
    time_features=16,
    time_width=24,
    groups=4,
    latent_channels=4,
    depths=(0, 2, 4),
)
EDITS = {
    "stages.0.channels": 16,
    "stages.1.channels": 32,
    "stages.2.channels": 48,
    "head_dim": 8,
    "time_features": 16,
    "time_width": 24,
    "norm.groups": 4,
    "latent_channels": 4,
    "context_width": 12,
    "context_length": 5,
}


def small(name, edits=None):
    """A small twin of the rung, weights drawn so that no part of it is silent."""
    torch.manual_seed(0)
    config = with_edits(architecture(name), EDITS | (edits or {}))
    module = build(config).double().eval()
    for key, parameter in module.named_parameters():
        mean = 1.0 if "norm" in key and key.endswith("weight") else 0.0
        torch.nn.init.normal_(parameter, mean=mean, std=0.3 if parameter.dim() == 1 else parameter[0].numel() ** -0.5)
    return module, [part.double() for part in example_inputs(config, latent=8, batch=2)]


def taking(module):
    weights = module.state_dict()

    def take(name, *shape):
        assert tuple(weights[name].shape) == shape, name
        return weights[name]

    return take


def assert_equal_to_the_paper(name, module, inputs, take=None):
    with torch.no_grad():
        actual = module(*inputs)
        expected = paper_unet(take or taking(module), *inputs, Choices(**RUNGS[name]), SMALL)
    assert expected.std() > 0.1
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", RUNGS)
def test_outputs_equal_the_papers_prose(name):
    module, inputs = small(name)
    assert_equal_to_the_paper(name, module, inputs)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["thin_sdxl", "sepconv", "expanded_sepconv", "snapgen"])  # the others have their names
def test_parameters_at_full_size_are_those_of_the_papers_prose(name):
    """Every name and every shape, on the meta device."""
    config, taken = architecture(name), {}

    def take(key, *shape):
        taken[key] = shape
        return torch.empty(shape, device="meta")

    inputs = example_inputs(config, latent=32, device="meta")
    with torch.inference_mode():
        out = paper_unet(take, *inputs, Choices(**RUNGS[name]), Size())
    with torch.device("meta"):
        ours = {key: tuple(parameter.shape) for key, parameter in build(config).named_parameters()}
    assert out.shape == inputs[0].shape
    assert ours == taken


def test_weights_of_one_size_serve_any_other():
    """Nothing learnt depends on the size: the network of 32x32 latents runs at 128x128."""
    module, inputs = small("snapgen")
    wide = torch.randn(1, 4, 32, 32).double()
    assert_equal_to_the_paper("snapgen", module, (wide, inputs[1][:1], inputs[2][:1]))
    with torch.no_grad():
        out = module.float()(torch.randn(1, 4, 128, 128), *(part[:1].float() for part in inputs[1:]))
    assert out.shape == (1, 4, 128, 128)
    assert out.isfinite().all()


# What the comparison must see: each of these mistakes turns it red.
def test_sees_keys_and_values_that_are_not_shared():
    module, inputs = small("snapgen", {"self_attention": "mhsa"})
    weights = module.state_dict()

    def first_head_only(name, *shape):
        if not name.endswith("key_value.weight"):
            return weights[name]
        keys, values = weights[name].chunk(2)
        return torch.cat([keys[: shape[0] // 2], values[: shape[0] // 2]])

    with pytest.raises(AssertionError):
        assert_equal_to_the_paper("snapgen", module, inputs)
    with pytest.raises(AssertionError, match="not close"):
        assert_equal_to_the_paper("snapgen", module, inputs, take=first_head_only)


def test_sees_rope_off(monkeypatch):
    module, inputs = small("snapgen")
    monkeypatch.setattr(Rope2d, "forward", lambda *args: Rotation(args[-1].new_ones(1), args[-1].new_zeros(1)))
    with pytest.raises(AssertionError, match="not close"):
        assert_equal_to_the_paper("snapgen", module, inputs)


def test_sees_rows_and_columns_exchanged(monkeypatch):
    module, inputs = small("snapgen")
    forward = Rope2d.forward

    def exchanged(self, height, width, like):
        turn = forward(self, width, height, like)
        order = torch.arange(height * width).view(height, width).T.flatten()
        return Rotation(turn.cos[order], turn.sin[order])

    monkeypatch.setattr(Rope2d, "forward", exchanged)
    with pytest.raises(AssertionError, match="not close"):
        assert_equal_to_the_paper("snapgen", module, inputs)


def test_sees_a_layer_norm_in_the_place_of_the_rms_norm(monkeypatch):
    module, inputs = small("snapgen")
    forward = RMSNorm.forward
    monkeypatch.setattr(RMSNorm, "forward", lambda self, x: forward(self, x - x.mean(-1, keepdim=True)))
    with pytest.raises(AssertionError, match="not close"):
        assert_equal_to_the_paper("snapgen", module, inputs)
