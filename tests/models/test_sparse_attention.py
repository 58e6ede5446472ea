"""Sparse self-attention against full attention where both are the same, masks, means and arithmetic."""

from dataclasses import dataclass
from typing import Literal

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from harness.architecture import knobs
from harness.architecture.catalogue import architecture
from harness.architecture.edits import with_edits
from harness.architecture.kinds import kind_of
from harness.architecture.knobs import AdaptiveSparse, GroupedQuery, MultiHead, MultiQuery, RMSNormConfig, Rope2dConfig
from harness.measure.cost import count
from harness.models.attention import AttentionPlace, SharedHeadAttention
from harness.models.build import build, example_inputs
from harness.models.embeddings import Rope2d
from harness.models.sparse_attention import SparseAttention, bands, sparse_attention
from harness.records.errors import UserError
from harness.trials.costs import cost_of

WIDTH, HEAD, SIZE = 32, 8, (8, 6)
KINDS = [MultiHead(), GroupedQuery(groups=2), MultiQuery()]
BANDS = [(8, 1), (8, 3), (4, 1), (4, 2), (2, 1)]


def place(qk_norm=None):
    return AttentionPlace(width=WIDTH, source_width=WIDTH, head_dim=HEAD, qk_norm=qk_norm)


def drawn(module):
    torch.manual_seed(0)
    for parameter in module.double().parameters():
        nn.init.normal_(parameter, std=0.5)
    return module


def sparse(attention, *, qk_norm=None, **settings):
    return drawn(sparse_attention(AdaptiveSparse(**settings), attention, place(qk_norm)))


def tokens(size=SIZE):
    return torch.randn(2, size[0] * size[1], WIDTH).double()


def rotation(size=SIZE):
    return Rope2d(Rope2dConfig(base=100.0), HEAD)(*size, torch.zeros(1).double())


def mask_of(blocks, radius, size=SIZE):
    """Which tokens see which: those whose rows' blocks are near."""
    block = torch.arange(size[0] * size[1]) // size[1] // (size[0] // blocks)
    return (block[:, None] - block[None, :]).abs() <= radius


@pytest.mark.parametrize("qk_norm", [None, RMSNormConfig()], ids=["no norm", "qk norm"])
@pytest.mark.parametrize("attention", KINDS, ids=lambda spec: spec.kind)
def test_without_compression_and_with_one_block_it_is_full_attention_to_the_bit(attention, qk_norm):
    """Whatever the gate says, both parts being the same."""
    module, x = sparse(attention, qk_norm=qk_norm, compression=1, blocks=1), tokens()
    full = SharedHeadAttention(attention, place(qk_norm)).double()
    full.load_state_dict({name: value for name, value in module.state_dict().items() if not name.startswith("gate")})
    turned = rotation()
    assert torch.equal(module(x, x, rotation=turned, size=SIZE), full(x, x, rotation=turned))
    local = sparse(attention, qk_norm=qk_norm, compression=1, blocks=4)
    assert not torch.allclose(local(x, x, rotation=turned, size=SIZE), full(x, x, rotation=turned))


@pytest.mark.parametrize(("blocks", "radius"), BANDS)
@pytest.mark.parametrize("attention", KINDS, ids=lambda spec: spec.kind)
def test_what_is_near_equals_full_attention_under_a_mask(attention, blocks, radius):
    module, x = sparse(attention, blocks=blocks, radius=radius), tokens()
    q, k, v = module.projected(x, x, rotation())
    shared = module.heads // module.groups
    heads = [each.repeat_interleave(shared, dim=2).transpose(1, 2) for each in (k, v)]
    mask = mask_of(blocks, radius)
    assert mask.all() == (blocks <= radius + 1)
    masked = F.scaled_dot_product_attention(q.transpose(1, 2), *heads, attn_mask=mask).transpose(1, 2).flatten(2)
    torch.testing.assert_close(module._local(q, k, v), masked, rtol=0, atol=1e-12)
    wider = F.scaled_dot_product_attention(q.transpose(1, 2), *heads, attn_mask=mask_of(blocks, radius + 1))
    assert mask.all() or not torch.allclose(module._local(q, k, v), wider.transpose(1, 2).flatten(2))


@pytest.mark.parametrize(("blocks", "radius"), BANDS)
def test_bands_are_every_block_once_with_the_blocks_that_are_near(blocks, radius):
    seen = [
        (band.first + i, list(range(band.seen + i, band.seen + i + band.width)))
        for band in bands(blocks, radius)
        for i in range(band.blocks)
    ]
    near = lambda block: [other for other in range(blocks) if abs(other - block) <= radius]  # noqa: E731
    assert seen == [(block, near(block)) for block in range(blocks)]


@pytest.mark.parametrize("compression", [2, 4])
def test_keys_are_compressed_square_by_square_and_head_by_head(compression):
    """By hand: sum over the square's places and the head's channels."""
    size = (8, 8)
    module = sparse(GroupedQuery(groups=2), compression=compression, blocks=4)
    k = torch.randn(2, 64, 2, HEAD).double()
    small = size[0] // compression
    squares = k.reshape(2, small, compression, small, compression, 2, HEAD)
    weights = module.compress_key.weight.reshape(2, HEAD, HEAD, compression, compression)
    expected = torch.einsum("bryxsgd,gedys->brxge", squares, weights).flatten(1, 2)
    torch.testing.assert_close(module._compressed(k, module.compress_key, size), expected, rtol=0, atol=1e-12)


def test_compression_begins_as_the_mean_of_a_square():
    module = SparseAttention(AdaptiveSparse(blocks=4), MultiQuery(), place()).double()
    k = torch.randn(2, 48, 1, HEAD).double()
    means = k.reshape(2, 4, 2, 3, 2, 1, HEAD).mean((2, 4)).flatten(1, 2)
    for compress in (module.compress_key, module.compress_value):
        torch.testing.assert_close(module._compressed(k, compress, SIZE), means, rtol=0, atol=1e-12)


def test_the_gate_weighs_both_for_every_token_and_head():
    module, x = sparse(MultiHead(), blocks=4), tokens()
    q, k, v = module.projected(x, x, None)
    squeezed = [module._compressed(each, conv, SIZE) for each, conv in
                ((k, module.compress_key), (v, module.compress_value))]  # fmt: skip
    far = module.attended(q, *squeezed).unflatten(-1, (4, HEAD))
    near = module._local(q, k, v).unflatten(-1, (4, HEAD))
    gate = (1 / (1 + (-module.gate(x)).exp()))[..., None]
    expected = module.out((gate * far + (1 - gate) * near).flatten(2))
    torch.testing.assert_close(module(x, x, size=SIZE), expected, rtol=0, atol=1e-10)
    for bias, part in ((40.0, far), (-40.0, near)):
        with torch.no_grad():
            module.gate.weight.zero_()
            module.gate.bias.fill_(bias)
        torch.testing.assert_close(module(x, x, size=SIZE), module.out(part.flatten(2)), rtol=0, atol=1e-10)


@pytest.mark.parametrize("attention", KINDS, ids=lambda spec: spec.kind)
def test_every_weight_learns_and_the_gradient_is_the_function_s(attention):
    module, x = sparse(attention, qk_norm=RMSNormConfig(), blocks=4), tokens((4, 2))
    x.requires_grad_()
    turned = rotation((4, 2))
    assert torch.autograd.gradcheck(lambda each: module(each, each, rotation=turned, size=(4, 2)), x, fast_mode=True)
    module(x, x, rotation=turned, size=(4, 2)).square().sum().backward()
    assert all(parameter.grad.isfinite().all() and parameter.grad.any() for parameter in module.parameters())


@pytest.mark.parametrize("attention", KINDS, ids=lambda spec: spec.kind)
@pytest.mark.parametrize(("blocks", "radius", "compression"), [(4, 1, 2), (8, 2, 4)])
def test_it_counts_to_what_arithmetic_gives(attention, blocks, radius, compression):
    size, heads = (16, 8), WIDTH // HEAD
    t, groups = size[0] * size[1], int(attention.groups_of(heads))
    spec = AdaptiveSparse(blocks=blocks, radius=radius, compression=compression)
    with torch.device("meta"):
        module = sparse_attention(spec, attention, place())
        x = torch.empty(1, t, WIDTH)

        class Over(nn.Module):
            def __init__(self):
                super().__init__()
                self.inner = module

            def forward(self, x):
                return self.inner(x, x, size=size)

        counted = count(Over(), (x,))
    linear = WIDTH * WIDTH + 2 * groups * HEAD * WIDTH + WIDTH * WIDTH + WIDTH * heads
    convolution = 2 * groups * HEAD * HEAD * compression**2
    assert counted.params == linear + convolution + WIDTH + heads  # biases of the output and of the gate
    pairs = t * t // compression**2 + int(mask_of(blocks, radius, size).sum())
    layers = t * linear + (t // compression**2) * convolution
    assert counted.macs_without_attention == layers
    assert counted.macs == layers + heads * pairs * 2 * HEAD


# In a network

SPAN = {"stages.1.block.span": {"kind": "assa", "blocks": 4}}
LAPTOP = architecture("laptop/thin_sdxl")
RUNGS = ("high_res_sa", "assa", "kv_groups", "ffn4_outside")


@pytest.mark.parametrize(
    "edits",
    [
        {"self_attention": "mqa", "qk_norm": "rms", "position": "rope_2d"},
        {"self_attention": {"kind": "gqa", "groups": 2}, "head_dim": 8, "qk_norm": "layer"},
        {"stages.0.block": {"kind": "transformer", "self_attention": True, "span": {"kind": "assa", "blocks": 4}}},
    ],
    ids=str,
)
def test_it_stands_where_it_is_asked_for_and_goes_with_what_attention_has(edits):
    config = with_edits(LAPTOP, SPAN | edits)
    network, inputs = build(config), example_inputs(config, latent=8)
    nn.init.normal_(network.conv_out.weight)
    assert network(*inputs).isfinite().all()
    spans = {f"{path}.span" for path, part in network.named_modules() if isinstance(part, SparseAttention)}
    stages = {path.split(".")[1] for path in spans}
    assert stages == ({"0", "1"} if "stages.0.block" in edits else {"1"})
    assert not [path for path in spans if "cross_attention" in path]


def test_a_latent_is_one_whose_maps_divide_into_blocks():
    sixteen = with_edits(LAPTOP, {"stages.1.block.span": "assa"})
    assert (LAPTOP.latent_multiple, with_edits(LAPTOP, SPAN).latent_multiple, sixteen.latent_multiple) == (4, 8, 32)
    assert (sixteen.downsampling, sixteen.why_not_latent(64)) == (4, "")
    assert sixteen.why_not_latent(8).startswith("height and width must be multiples of 32, for the blocks that its")
    with pytest.raises(UserError, match=r"2 times, and self-attention cuts maps into blocks, so .* multiples of 32"):
        build(sixteen)(*example_inputs(sixteen, latent=8))
    module = sparse(MultiQuery(), blocks=4)
    with pytest.raises(UserError, match="cuts rows into 4 blocks, which a map of 6 x 8 does not divide into"):
        module(tokens(), tokens(), size=(6, 8))


def test_the_rungs_beyond_the_ladder_count_to_what_arithmetic_gives():
    """At a 128x128 latent: 10 layers of 8 heads of 64 over 64 x 64 tokens, and 5 of the first stage over 128 x 128."""
    full, assa, groups, wide = (cost_of(architecture(name), 128) for name in RUNGS)
    attends = lambda cost: cost.macs - cost.macs_without_attention  # noqa: E731
    t, width, head = 64 * 64, 512, 64
    gate, convolution = width * 8, 2 * head * head * 4  # of keys and of values, 2 x 2
    assert assa.params - full.params == 10 * (gate + 8 + convolution)
    assert assa.macs_without_attention - full.macs_without_attention == 10 * (t * gate + t // 4 * convolution)
    near = (2 * 2 + 14 * 3) * (t // 16) ** 2  # the blocks at the edges have one neighbour
    assert attends(full) - attends(assa) == 10 * 8 * 2 * head * (t * t - t * t // 4 - near)
    assert attends(groups) == attends(wide) == attends(assa)
    first, second = (3 * channels**2 for channels in (256, 512))  # one ratio more of a gated feed-forward
    assert wide.params - groups.params == 5 * (first + 2 * 256) + 10 * (second + 2 * 512)
    assert wide.macs - groups.macs == 5 * 4 * t * first + 10 * t * second


def test_attention_without_keys_is_refused(monkeypatch):
    monkeypatch.setattr(knobs.Attention, "forms", dict(knobs.Attention.forms))

    @kind_of(knobs.Attention, built_by=nn.Identity)
    @dataclass(frozen=True, kw_only=True, slots=True)
    class Mean(knobs.Attention):
        kind: Literal["mean"] = "mean"

        def groups_of(self, heads):
            return heads

    with pytest.raises(UserError, match="the span 'assa' is of attention by keys, and self_attention is mean; choose"):
        build(with_edits(LAPTOP, SPAN | {"self_attention": "mean"}))
