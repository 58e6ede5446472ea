"""Attention against the formula written out, and what sharing, norms and rotations must do."""

import pytest
import torch
from torch import nn

from harness.architecture.knobs import GroupedQuery, MultiHead, MultiQuery, RMSNormConfig, Rope2dConfig
from harness.models.attention import AttentionPlace, SharedHeadAttention
from harness.models.embeddings import Rope2d

WIDTH, HEAD, SOURCE = 32, 8, 12
KINDS = [MultiHead(), GroupedQuery(groups=2), MultiQuery()]


def attention(spec, *, qk_norm=None, source=SOURCE):
    torch.manual_seed(0)
    place = AttentionPlace(width=WIDTH, source_width=source, head_dim=HEAD, qk_norm=qk_norm)
    module = SharedHeadAttention(spec, place).double()
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.5)
    return module


def reference(module, x, source, *, mask=None, rotate=lambda head: head):
    """Head by head: softmax(q k^T / sqrt(D)) v, with the K and V of the head's group."""
    heads = module.query(x).split(HEAD, dim=-1)
    keys, values = module.key_value(source).chunk(2, dim=-1)
    keys, values = keys.split(HEAD, dim=-1), values.split(HEAD, dim=-1)
    out = []
    for index, q in enumerate(heads):
        group = index * len(keys) // len(heads)
        q, k = rotate(normed(module.query_norm, q)), rotate(normed(module.key_norm, keys[group]))
        scores = q @ k.transpose(1, 2) / HEAD**0.5
        if mask is not None:
            scores = scores.masked_fill(~mask[:, None, :], -torch.inf)
        out.append(scores.softmax(-1) @ values[group])
    return module.out(torch.cat(out, dim=-1))


def normed(norm, head):
    if isinstance(norm, nn.Identity):
        return head
    return head / (head.pow(2).mean(-1, keepdim=True) + norm.eps).sqrt() * norm.weight


@pytest.mark.parametrize("qk_norm", [None, RMSNormConfig()], ids=["no norm", "qk norm"])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("spec", KINDS, ids=lambda spec: spec.kind)
def test_equals_the_formula_head_by_head(spec, masked, qk_norm):
    module = attention(spec, qk_norm=qk_norm)
    x, source = torch.randn(2, 6, WIDTH).double(), torch.randn(2, 5, SOURCE).double()
    mask = torch.tensor([[True, True, True, False, False], [True, False, True, True, True]]) if masked else None
    actual = module(x, source, mask=None if mask is None else mask[:, None, None, :])
    torch.testing.assert_close(actual, reference(module, x, source, mask=mask), rtol=0, atol=1e-10)


@pytest.mark.parametrize("spec", KINDS, ids=lambda spec: spec.kind)
def test_rotated_scores_equal_complex_numbers(spec):
    """RoPE as its paper writes it: channel pairs as complex numbers, times e^(i * position * speed)."""
    module = attention(spec, source=WIDTH)
    height, width, pairs = 3, 4, HEAD // 2
    x = torch.randn(2, height * width, WIDTH).double()
    speeds = 100.0 ** (-torch.arange(pairs // 2).double() / (pairs // 2))
    row = torch.arange(height).repeat_interleave(width).double()
    column = torch.arange(width).repeat(height).double()
    turn = torch.polar(torch.ones(12, pairs).double(), torch.cat([row[:, None] * speeds, column[:, None] * speeds], 1))

    def rotate(head):
        turned = torch.complex(head[..., :pairs], head[..., pairs:]) * turn
        return torch.cat([turned.real, turned.imag], dim=-1)

    rotation = Rope2d(Rope2dConfig(base=100.0), HEAD)(height, width, x)
    actual = module(x, x, rotation=rotation)
    torch.testing.assert_close(actual, reference(module, x, x, rotate=rotate), rtol=0, atol=1e-10)
    assert not torch.allclose(actual, module(x, x))


def test_scores_under_rope_depend_on_the_distance_only():
    rope = Rope2d(Rope2dConfig(base=100.0), HEAD)
    rotation = rope(8, 8, torch.zeros(1).double())
    q, k = torch.randn(HEAD).double(), torch.randn(HEAD).double()
    at = lambda v, row, column: (rotation(v.expand(1, 64, 1, HEAD)))[0, row * 8 + column, 0]  # noqa: E731
    near = at(q, 1, 2) @ at(k, 3, 3)
    torch.testing.assert_close(near, at(q, 5, 6) @ at(k, 7, 7), rtol=0, atol=1e-12)
    assert not torch.allclose(near, at(q, 1, 2) @ at(k, 3, 4))
    assert not torch.allclose(near, at(q, 1, 2) @ at(k, 4, 3))


def test_rope_keeps_lengths_and_serves_any_size():
    rope = Rope2d(Rope2dConfig(), HEAD)
    x = torch.randn(1, 128 * 128, 1, HEAD).double()
    torch.testing.assert_close(rope(128, 128, x)(x).norm(dim=-1), x.norm(dim=-1))
    small, large = rope(4, 4, x), rope(128, 128, x)
    torch.testing.assert_close(small.cos.view(4, 4, HEAD), large.cos.view(128, 128, HEAD)[:4, :4])


@pytest.mark.parametrize("spec", [GroupedQuery(groups=2), MultiQuery()], ids=lambda spec: spec.kind)
def test_sharing_equals_multi_head_with_tied_keys_and_values(spec):
    """And stops to, when one head's key is untied: the test can fail."""
    shared, multi = attention(spec), attention(MultiHead())
    heads, groups = WIDTH // HEAD, spec.groups_of(WIDTH // HEAD)
    state = shared.state_dict()
    tied = state["key_value.weight"].view(2, groups, HEAD, SOURCE).repeat_interleave(heads // groups, dim=1)
    multi.load_state_dict(state | {"key_value.weight": tied.reshape(-1, SOURCE)})
    x, source = torch.randn(2, 6, WIDTH).double(), torch.randn(2, 5, SOURCE).double()
    torch.testing.assert_close(shared(x, source), multi(x, source), rtol=0, atol=1e-12)
    with torch.no_grad():
        multi.key_value.weight[:HEAD] += 1.0
    assert not torch.allclose(shared(x, source), multi(x, source))


def test_sharing_saves_exactly_the_other_heads_keys_and_values():
    sizes = [sum(p.numel() for p in attention(spec).parameters()) for spec in KINDS]
    head = 2 * HEAD * SOURCE
    assert [sizes[0] - sizes[1], sizes[0] - sizes[2]] == [2 * head, 3 * head]
