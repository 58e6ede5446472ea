"""Under bfloat16 autocast, norms, rotations, softmax and angles compute in float32; in float32 nothing has changed."""

from pathlib import Path

import pytest
import torch
import yaml
from torch import nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from harness.architecture.catalogue import architecture
from harness.architecture.edits import with_edits
from harness.architecture.knobs import MultiQuery, RMSNormConfig, Rope2dConfig
from harness.architecture.ladder import Ladder
from harness.models import norms
from harness.models.attention import AttentionPlace, SharedHeadAttention
from harness.models.build import build, example_inputs
from harness.models.embeddings import Rope2d, sinusoids
from harness.models.parameters import fill_weights
from harness.models.peers.vit import positions_2d
from harness.records.plain import from_plain

SWEEP = Path(__file__).parents[2] / "sweeps" / "fig3.yaml"
RUNGS = {
    rung.name: config
    for rung, config in from_plain(Ladder, yaml.safe_load(SWEEP.read_text())["architecture"]).architectures()
}
NETWORKS = {
    "first rung": RUNGS["thin_sdxl"],
    "last rung": RUNGS["qknorm_rope"],
    "map layer norm": with_edits(RUNGS["thin_sdxl"], {"norm": "layer"}),
    "map and token rms norm": with_edits(RUNGS["thin_sdxl"], {"norm": "rms", "token_norm": "rms"}),
    "dit": architecture("laptop/dit"),
    "uvit": architecture("laptop/uvit"),
}
NORMS = {
    "group": (norms.GroupNorm(4, 16), (2, 16, 5, 3)),
    "layer": (norms.LayerNorm(16), (2, 7, 16)),
    "layer without weights": (norms.LayerNorm(16, elementwise_affine=False), (2, 7, 16)),
    "rms": (norms.RMSNorm(16), (2, 7, 16)),
    "map rms": (norms.RMSNorm(16, dim=1), (2, 16, 5, 3)),
    "map layer": (norms.MapLayerNorm(16, eps=1e-5), (2, 16, 5, 3)),
}


def autocast():
    return torch.autocast("cpu", torch.bfloat16)


@pytest.mark.parametrize("name", NORMS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_norm_of_half_precision_is_that_of_float32_rounded_once(name, dtype):
    module, shape = NORMS[name]
    fill_weights(module)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)) + 30  # far from its mean, as feature maps are
    x = x.to(dtype)
    with autocast():
        output = module(x)
    assert output.dtype == dtype
    assert torch.equal(output, module(x.float()).to(dtype))


@pytest.mark.parametrize("name", NORMS)
def test_a_norm_in_float32_is_bit_by_bit_its_formula(name):
    module, shape = NORMS[name]
    fill_weights(module)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    if isinstance(module, norms.GroupNorm):
        expected = F.group_norm(x, module.num_groups, module.weight, module.bias, module.eps)
    elif isinstance(module, norms.LayerNorm):
        expected = F.layer_norm(x, (16,), module.weight, module.bias, module.eps)
    elif isinstance(module, norms.RMSNorm):
        expected = x * torch.rsqrt(x.square().mean(module.dim, keepdim=True) + module.eps) * module.weight
    else:
        centred = x - x.mean(1, keepdim=True)
        scale = torch.rsqrt(centred.square().mean(1, keepdim=True) + module.eps)
        expected = centred * scale * module.weight + module.bias
    assert torch.equal(module(x), expected)


def test_a_rotation_of_half_precision_is_that_of_float32_rounded_once():
    """Rows up to 127 radians: in bfloat16 a table's cosine is off by up to 2^-9, and so is the score of two tokens."""
    x = torch.randn(1, 128 * 128, 1, 16, generator=torch.Generator().manual_seed(0)).bfloat16()
    rotation = Rope2d(Rope2dConfig(), 16)(128, 128, x)
    assert rotation.cos.dtype == rotation.sin.dtype == torch.float32
    exact = Rope2d(Rope2dConfig(), 16)(128, 128, x.double())
    assert torch.allclose(rotation.cos.double(), exact.cos, rtol=0, atol=1e-5)
    with autocast():
        output = rotation(x)
    assert output.dtype == torch.bfloat16
    assert torch.equal(output, rotation(x.float()).bfloat16())


def test_angles_and_positions_are_float32_whatever_is_asked():
    assert sinusoids(torch.rand(3).bfloat16(), 8).dtype == torch.float32
    assert positions_2d(3, 4, 16, torch.zeros(1).bfloat16()).dtype == torch.float32
    assert positions_2d(3, 4, 16, torch.zeros(1).double()).dtype == torch.float64


def test_softmax_over_many_tokens_sums_to_one_in_bfloat16():
    """2,000 equal scores: a sum kept in bfloat16 stops at 256, so the mean of ones would be about 8."""
    module = SharedHeadAttention(
        MultiQuery(), AttentionPlace(width=16, source_width=16, head_dim=8, qk_norm=RMSNormConfig())
    )
    with torch.no_grad():
        module.query.weight.zero_()
        module.key_value.weight.copy_(torch.ones(16, 16) / 16)
        module.out.weight.copy_(torch.eye(16))
        module.out.bias.zero_()
    with autocast(), torch.no_grad():
        output = module(torch.randn(1, 3, 16), torch.ones(1, 2000, 16))
    assert output.dtype == torch.bfloat16
    torch.testing.assert_close(output.float(), torch.ones(1, 3, 16), rtol=2**-7, atol=0)


EXACT_OPERATORS = ("group_norm", "layer_norm", "rsqrt", "_softmax", "cos", "sin", "mean")


class Recorded(TorchDispatchMode):
    """The types of the floating-point inputs of the operators that must be exact."""

    def __init__(self):
        super().__init__()
        self.seen = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        if any(part in name for part in EXACT_OPERATORS):
            kinds = {a.dtype for a in args if isinstance(a, torch.Tensor) and a.is_floating_point()}
            self.seen.setdefault(name, set()).update(kinds)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", NETWORKS)
def test_a_whole_network_under_autocast(name):
    config = NETWORKS[name]
    module = build(config).eval()
    fill_weights(module)
    kinds = []
    for part in module.modules():
        if isinstance(part, norms.GroupNorm | norms.LayerNorm | norms.RMSNorm | norms.MapLayerNorm):
            part.register_forward_hook(lambda _module, given, output: kinds.append((given[0].dtype, output.dtype)))
    inputs = example_inputs(config, latent=config.native_latent or 8, batch=2)
    recorded = Recorded()
    with torch.no_grad(), autocast(), recorded:
        output = module(*inputs)
    assert kinds
    assert all(given == back for given, back in kinds)
    assert set().union(*recorded.seen.values()) == {torch.float32}, recorded.seen
    if name != "uvit":  # its table of positions is a float32 parameter, so its tokens stay float32
        assert torch.bfloat16 in {given for given, _ in kinds}, "the norms were given bfloat16, and widened it"
    with torch.no_grad():
        expected = module(*inputs)
    assert (output.float() - expected).norm() < 0.05 * expected.norm()


def test_the_norms_of_a_peer_from_elsewhere_are_ours():
    pytest.importorskip("diffusers")
    with torch.device("meta"):
        parts = [
            part for part in build(architecture("ldm_4")).modules() if isinstance(part, nn.GroupNorm | nn.LayerNorm)
        ]
    assert parts
    assert {type(part) for part in parts} == {norms.GroupNorm, norms.LayerNorm}
