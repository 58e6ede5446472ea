"""Which parameters are decayed: by what they are, in every architecture and knob. Random values hide nothing."""

import copy
import re

import pytest
import torch
from torch import nn

from harness.architecture.catalogue import architecture, catalogue_names
from harness.architecture.edits import with_edits
from harness.models.build import build, example_inputs
from harness.models.parameters import fill_weights, filled_copy, weight_decays

BASE = "laptop/thin_sdxl"
TINY_DECODER = "decoder/tiny"
KNOBS = {
    "separable": {"convolution": {"kind": "separable", "expansion": 2, "relative_to": "widest", "resampling": "both"}},
    "shuffled": {"upsample": "pixel_shuffle", "downsample": "pixel_unshuffle"},
    "map layer norm": {"norm": "layer"},
    "map rms norm": {"norm": "rms"},
    "token rms norm": {"token_norm": "rms"},
    "qk layer norm": {"qk_norm": "layer"},
    "mqa, qk rms norm, rope": {"self_attention": "mqa", "qk_norm": "rms", "position": "rope_2d"},
    "gqa": {"cross_attention": {"kind": "gqa", "groups": 2}, "head_dim": 8},
    "swiglu": {"feed_forward": "swiglu"},
    "gelu": {"feed_forward": "gelu"},
    "transformer with linears": {"stages.0.block": {"kind": "transformer", "depth": 1}},
    "transformer alone": {"stages.0.block": {"kind": "transformer", "depth": 1, "projections": False}},
}
CONFIGS = {name: (name, {}) for name in catalogue_names()} | {name: (BASE, edits) for name, edits in KNOBS.items()}
CONFIGS |= {f"decoder, {kind} norm": (TINY_DECODER, {"norm": kind, "norm_out": True}) for kind in ("layer", "rms")}


def network(name):
    of, edits = CONFIGS[name]
    config = with_edits(architecture(of), edits)
    if of == "ldm_4":
        pytest.importorskip("diffusers")
    with torch.device("meta"):
        return build(config)


def kind(name):
    """By the names that the modules have: an independent reading of what a parameter is."""
    place, _, leaf = name.rpartition(".")
    if re.search(r"norm", place.rpartition(".")[2]) or leaf in ("bias", "positions", "rows"):
        return "not decayed"
    return "decayed"


@pytest.mark.parametrize("name", CONFIGS)
def test_matrices_and_kernels_decay_and_nothing_else_does(name):
    model = network(name)
    decays, shapes = weight_decays(model), {path: p.shape for path, p in model.named_parameters()}
    assert list(decays) == list(shapes), "each parameter is told, in the model's order"
    for path, decayed in decays.items():
        assert decayed == (kind(path) == "decayed"), path
        assert not decayed or len(shapes[path]) >= 2, f"{path} is a vector"
    layers = [part for part in model.modules() if isinstance(part, nn.Linear | nn.Conv2d)]
    assert sum(decays.values()) == len({id(layer.weight) for layer in layers})


@pytest.mark.parametrize("name", ["map layer norm", "map rms norm"])
def test_norms_of_maps_have_the_shape_that_misled(name):
    """(C, 1, 1): a rule by the number of dimensions decays them."""
    model = network(name)
    misled = [path for path, p in model.named_parameters() if p.ndim >= 2 and not weight_decays(model)[path]]
    assert misled
    assert all("norm" in path for path in misled)


def test_copies_and_casts_keep_what_was_said():
    model = build(with_edits(architecture(BASE), {"norm": "rms"}))
    assert weight_decays(copy.deepcopy(model).double()) == weight_decays(model)


def test_a_parameter_of_which_nobody_said_it_is_an_error():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(3, 3))

    with pytest.raises(TypeError, match=r"whether 'part\.scale' is decayed is not said; name it in Own\.weight_decay"):
        weight_decays(nn.ModuleDict({"part": Own()}))


FILLED = ("laptop/thin_sdxl", "laptop/dit", "laptop/uvit")


@pytest.mark.parametrize("name", FILLED)
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
