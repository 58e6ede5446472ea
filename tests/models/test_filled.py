"""Random weights hide nothing: the same every time, none of them zero, and the network's output alive."""

import pytest
import torch

from harness.architecture.catalogue import architecture
from harness.models.build import build, example_inputs
from harness.models.filled import fill_weights, filled_copy

NAMES = ("laptop/thin_sdxl", "laptop/dit", "laptop/uvit")


@pytest.mark.parametrize("name", NAMES)
def test_filled_weights_hide_nothing(name):
    config = architecture(name)
    module = build(config)
    before = {key: value.clone() for key, value in module.state_dict().items()}
    first, second = filled_copy(module), build(config)
    fill_weights(second)
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(one, other)
        assert (one != 0).all()
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items()), "a copy, not the module"
    with torch.no_grad():
        output = first(*example_inputs(config, latent=8))
    assert output.std() > 0.05
