"""Our UNet is diffusers' UNet2DConditionModel where the two can say the same."""

import sys
from pathlib import Path

import pytest
import torch

from harness.architecture.catalogue import architecture
from harness.architecture.edits import with_edits
from harness.models.build import build, example_inputs
from harness.models.convert import converted
from harness.models.weights import read_weights

sys.path.insert(0, str(Path(__file__).parent))
from diffusers_twin import twin

SMALL = {
    "context_width": 24,
    "context_length": 5,
    "stages.0.channels": 32,
    "stages.1.channels": 64,
    "stages.2.channels": 96,
    "norm.groups": 8,
    "head_dim": 16,
    "time_features": 32,
    "time_width": 128,
}


def parameters(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("name", ["sdxl", "thin_sdxl"])
def test_parameters_equal_diffusers_to_the_unit(name):
    config = architecture(name)
    with torch.device("meta"):
        ours, theirs = build(config), twin(config)
    assert parameters(ours) == parameters(theirs)


def test_sdxl_has_its_published_size():
    with torch.device("meta"):
        assert round(parameters(build(architecture("sdxl"))) / 1e6, 1) == 2562.2


@pytest.mark.parametrize(("name", "masked"), [("sdxl", True), ("thin_sdxl", False)])
def test_outputs_equal_diffusers_with_its_weights_converted(name, masked, tmp_path):
    """Narrower than they are, and as deep."""
    config = with_edits(architecture(name), SMALL)
    torch.manual_seed(0)
    theirs = twin(config).eval()
    torch.save(theirs.state_dict(), tmp_path / "theirs.pt")
    converted(tmp_path / "theirs.pt", config, tmp_path / "ours.safetensors", of="diffusers")
    ours = read_weights(tmp_path / "ours.safetensors", config).network().double()
    x, _, context = (part.double() for part in example_inputs(config, latent=16, batch=2))
    time = torch.tensor([0.125, 0.75])
    mask = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]).bool() if masked else None
    with torch.no_grad():
        expected = theirs.double()(x, time * 1000, context, encoder_attention_mask=mask).sample
        actual = ours(x, time, context, mask)
    assert expected.std() > 0.01
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-10)


def test_the_mask_matters():
    config = with_edits(architecture("sdxl"), SMALL)
    module = build(config).eval()
    torch.nn.init.normal_(module.conv_out.weight)
    x, time, context = example_inputs(config, latent=8, batch=2)
    mask = torch.tensor([[True, True, False, False, False]] * 2)
    changed = context.clone()
    changed[:, 2:] = 7.0
    with torch.no_grad():
        torch.testing.assert_close(module(x, time, context, mask), module(x, time, changed, mask))
        assert not torch.allclose(module(x, time, context, None), module(x, time, changed, None))
