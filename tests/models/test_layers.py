"""Norms, feed-forwards, convolutions and blocks against plain references with their weights."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from harness.architecture.catalogue import architecture
from harness.architecture.edits import with_edits
from harness.architecture.kinds import builder_of
from harness.architecture.knobs import (
    GEGLU,
    GELU,
    GroupNormConfig,
    LayerNormConfig,
    MapLayerNormConfig,
    MapRMSNormConfig,
    Regular,
    RMSNormConfig,
    Separable,
    SwiGLU,
    TransformerBlockConfig,
)
from harness.models.blocks import Condition, ResidualBlock
from harness.models.transformer import Transformer

LAPTOP = architecture("laptop/thin_sdxl")


def built(spec, *args):
    torch.manual_seed(0)
    module = builder_of(spec)(spec, *args).double()
    for parameter in module.parameters():
        nn.init.normal_(parameter)
    return module


def close(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-10)


def test_vector_norms_equal_torch():
    x = torch.randn(3, 5, 16).double()
    rms, layer = built(RMSNormConfig(), 16), built(LayerNormConfig(), 16)
    close(rms(x), F.rms_norm(x, (16,), rms.weight, rms.eps))
    close(layer(x), F.layer_norm(x, (16,), layer.weight, layer.bias))


def test_map_norms_equal_torch_pixel_by_pixel():
    x = torch.randn(2, 16, 3, 5).double()
    pixels = x.permute(0, 2, 3, 1)
    rms, layer, group = (
        built(MapRMSNormConfig(), 16, 1e-5),
        built(MapLayerNormConfig(), 16, 1e-5),
        built(GroupNormConfig(groups=4), 16, 1e-5),
    )
    close(rms(x).permute(0, 2, 3, 1), F.rms_norm(pixels, (16,), rms.weight.flatten(), 1e-5))
    close(layer(x).permute(0, 2, 3, 1), F.layer_norm(pixels, (16,), layer.weight.flatten(), layer.bias.flatten()))
    grouped = x.view(2, 4, -1)
    expected = (grouped - grouped.mean(-1, keepdim=True)) / (
        grouped.var(-1, unbiased=False, keepdim=True) + 1e-5
    ).sqrt()
    close(group(x), expected.view_as(x) * group.weight.view(-1, 1, 1) + group.bias.view(-1, 1, 1))


@pytest.mark.parametrize(
    ("spec", "activation", "gated"),
    [(GEGLU(ratio=3), F.gelu, True), (SwiGLU(ratio=3), F.silu, True), (GELU(ratio=3), F.gelu, False)],
    ids=lambda value: getattr(value, "kind", ""),
)
def test_feed_forwards_equal_their_formulas(spec, activation, gated):
    module, x = built(spec, 16), torch.randn(2, 5, 16).double()
    weight, bias = module.expand.weight, module.expand.bias
    if gated:
        hidden = (x @ weight[:48].T + bias[:48]) * activation(x @ weight[48:].T + bias[48:])
    else:
        hidden = activation(x @ weight.T + bias)
    assert len(weight) == (96 if gated else 48)
    close(module(x), hidden @ module.contract.weight.T + module.contract.bias)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel_size", [3, 5])
def test_a_separable_convolution_is_a_regular_one_of_rank_one(kernel_size, stride):
    module = built(Separable(kernel_size=kernel_size), 6, 10, stride)
    x = torch.randn(2, 6, 8, 8).double()
    weight = module.pointwise.weight * module.depthwise.weight.transpose(0, 1)  # (10, 6, K, K)
    close(module(x), F.conv2d(x, weight, module.pointwise.bias, stride, kernel_size // 2))
    assert built(Regular(kernel_size=kernel_size), 6, 10, stride)(x).shape == module(x).shape


@pytest.mark.parametrize(
    ("convolution", "hidden"),
    [
        ("regular", 16),
        ({"kind": "separable", "expansion": 1, "relative_to": "output"}, 16),
        ({"kind": "separable", "expansion": 2, "relative_to": "output"}, 32),
        ({"kind": "separable", "expansion": 2, "relative_to": "widest"}, 64),
    ],
)
def test_a_residual_block_equals_its_recipe(convolution, hidden):
    config = with_edits(LAPTOP, {"convolution": convolution})
    block = ResidualBlock(config, 32, 16).double()
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.3)
    x, time = torch.randn(2, 32, 4, 4).double(), torch.randn(2, config.time_width).double()
    h = block.conv1(F.silu(F.group_norm(x, 8, block.norm1.weight, block.norm1.bias)))
    assert h.shape[1] == hidden
    h = h + (time @ block.time.weight.T + block.time.bias).view(2, hidden, 1, 1)
    h = block.conv2(F.silu(F.group_norm(h, 8, block.norm2.weight, block.norm2.bias)))
    skip = torch.einsum("oi,bihw->bohw", block.shortcut.weight[:, :, 0, 0], x) + block.shortcut.bias.view(-1, 1, 1)
    close(block(x, Condition(time, torch.empty(0), None)), skip + h)


@pytest.mark.parametrize("self_attention", [False, True])
@pytest.mark.parametrize("c_in", [32, 48])
def test_a_transformer_equals_its_recipe(c_in, self_attention):
    """Also the first stage's block with cross-attention: no self-attention, and a shortcut where widths differ."""
    config = with_edits(LAPTOP, {"qk_norm": "rms", "position": "rope_2d", "token_norm": "rms"})
    spec = with_edits(config, {"stages.1.block.self_attention": self_attention}).stages[1].block.attention
    module = Transformer(spec, config, c_in, 32).double()
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)
    x, context = torch.randn(2, c_in, 4, 4).double(), torch.randn(2, 5, 384).double()
    normed = F.group_norm(x, 8, module.norm.weight, module.norm.bias, eps=1e-6)
    tokens = F.linear(normed.flatten(2).transpose(1, 2), module.project_in.weight, module.project_in.bias)
    (layer,) = module.layer
    assert hasattr(layer, "self_attention") == self_attention
    if self_attention:
        h = layer.self_norm(tokens)
        tokens = tokens + layer.self_attention(h, h, rotation=module.position(4, 4, h))
    tokens = tokens + layer.cross_attention(layer.cross_norm(tokens), context)
    tokens = tokens + layer.feed_forward(layer.feed_norm(tokens))
    out = F.linear(tokens, module.project_out.weight, module.project_out.bias).transpose(1, 2).reshape(2, 32, 4, 4)
    skip = x if c_in == 32 else F.conv2d(x, module.shortcut.weight, module.shortcut.bias)
    close(module(x, Condition(torch.empty(0), context, None)), skip + out)


@pytest.mark.parametrize("self_attention", [False, True])
@pytest.mark.parametrize("c_in", [32, 48])
def test_a_transformer_without_projections_is_its_layers(c_in, self_attention):
    """The first stage's block of the ladder: nothing around the layers, a 1 x 1 convolution where channels change."""
    config = with_edits(LAPTOP, {"qk_norm": "rms", "position": "rope_2d"})
    spec = TransformerBlockConfig(depth=2, self_attention=self_attention, projections=False)
    module = builder_of(spec)(spec, config, c_in, 32).double()
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)
    x, context = torch.randn(2, c_in, 4, 4).double(), torch.randn(2, 5, 384).double()
    joined = x if c_in == 32 else F.conv2d(x, module.join.weight, module.join.bias)
    tokens = joined.flatten(2).transpose(1, 2)
    for layer in module.layer:
        if self_attention:
            h = layer.self_norm(tokens)
            tokens = tokens + layer.self_attention(h, h, rotation=module.position(4, 4, h))
        tokens = tokens + layer.cross_attention(layer.cross_norm(tokens), context)
        tokens = tokens + layer.feed_forward(layer.feed_norm(tokens))
    close(module(x, Condition(torch.empty(0), context, None)), tokens.transpose(1, 2).reshape(2, 32, 4, 4))
