"""The laid-out forms of norms, linear layers, feed-forward parts, residual blocks and transformers.

B batch, C channels, H W, S = H W tokens.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.coreml.layout import MAPS, NORMS, TOKENS, laid_out_maps, laid_out_tokens, lays_out, with_parts
from harness.models.blocks import Condition, ResidualBlock
from harness.models.embeddings import TimeEmbedding, sinusoids
from harness.models.feed_forward import Gated, Plain
from harness.models.norms import GroupNorm, LayerNorm, RMSNorm
from harness.models.transformer import BareTransformer, Layers, Transformer, TransformerLayer


@lays_out(nn.Linear, TOKENS)
def pointwise(linear: nn.Linear) -> nn.Conv2d:
    """The 1 x 1 convolution with the linear layer's weights, seen as (C_out, C_in, 1, 1)."""
    with torch.device("meta"):
        conv = nn.Conv2d(linear.in_features, linear.out_features, 1, bias=linear.bias is not None)
    conv.weight = nn.Parameter(linear.weight.detach()[:, :, None, None], requires_grad=False)
    if linear.bias is not None:
        conv.bias = nn.Parameter(linear.bias.detach(), requires_grad=False)
    return conv


@lays_out(nn.Identity, TOKENS)
def _identity(module: nn.Identity) -> nn.Identity:
    return module


@lays_out(LayerNorm, TOKENS)
class ChannelLayerNorm(nn.Module):
    """Layer norm over one axis: 1 of (B, C, 1, S), or 2 of (B, heads, D, S).

    Over axis 1 it has the form of ml-ane-transformers, which coremltools' pass `fuse_layernorm_or_instancenorm` turns
    into one `layer_norm`; scale and shift become one `batch_norm`. Over axis 2 none does, and its squares are scaled.
    """

    def __init__(self, norm: LayerNorm) -> None:
        super().__init__()
        self.eps = norm.eps
        self.weight: nn.Parameter | None = norm.weight
        self.bias: nn.Parameter | None = norm.bias

    def forward(self, x: Tensor, axis: int = 1) -> Tensor:
        centred = x - x.mean(axis, keepdim=True)
        if axis == 1:
            h = centred * torch.rsqrt((centred * centred).mean(axis, keepdim=True) + self.eps)
        else:
            h = over_rms(centred, axis, self.eps)
        if self.weight is None or self.bias is None:
            return h
        shape = (-1, *(1,) * (3 - axis))
        return h * self.weight.view(shape) + self.bias.view(shape)


def over_rms(x: Tensor, axis: int, eps: float) -> Tensor:
    """x / sqrt(mean(x^2) + eps) over the axis, which fp16 keeps whatever x is.

    256^2 is infinite in fp16, and one channel of trained queries or of the residual path may be far above. So x is
    divided first by its largest entry m (at least sqrt(eps), so that eps / m^2 stays small): squares are at most 1, and
    eps, divided by m^2, is what it was. coremltools' own `rms_norm` divides too and leaves eps alone, which is then m^2
    times as large (github.com/apple/coremltools, issue 2821).
    """
    least = torch.tensor([eps**0.5], dtype=x.dtype, device=x.device)  # of a number the converter makes 1 / (m + 0.0001)
    largest = x.abs().amax(axis, keepdim=True).clamp(min=eps**0.5)
    h = x / largest
    return h * torch.rsqrt(h.square().mean(axis, keepdim=True) + (least / largest).square())


@lays_out(RMSNorm, TOKENS)
class ChannelRMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) * weight over one axis: 1 of (B, C, H, W), or 2 of (B, heads, D, S)."""

    def __init__(self, norm: RMSNorm) -> None:
        super().__init__()
        self.eps, self.weight = norm.eps, norm.weight

    def forward(self, x: Tensor, axis: int = 1) -> Tensor:
        return over_rms(x, axis, self.eps) * self.weight.view(-1, *(1,) * (3 - axis))


class LastAxisRMSNorm(nn.Module):
    """The same over the last axis of tokens (B, S, C)."""

    def __init__(self, norm: RMSNorm) -> None:
        super().__init__()
        self.eps, self.weight = norm.eps, norm.weight

    def forward(self, x: Tensor) -> Tensor:
        return over_rms(x, -1, self.eps) * self.weight


@lays_out(RMSNorm, NORMS)
def scaled_rms_norm(norm: RMSNorm) -> nn.Module:
    return ChannelRMSNorm(norm) if norm.dim == 1 else LastAxisRMSNorm(norm)


@lays_out(GroupNorm, NORMS)
class FusedGroupNorm(nn.Module):
    """Group norm whose normalisation is one `layer_norm` over (C / groups * H, W). (B, C, H, W) -> the same

    coremltools writes a group norm out in ten operators, with squares and means in fp16, which spikes overflow.
    """

    def __init__(self, norm: GroupNorm) -> None:
        super().__init__()
        self.groups, self.eps, self.weight, self.bias = norm.num_groups, norm.eps, norm.weight, norm.bias

    def forward(self, x: Tensor) -> Tensor:
        grouped = x.reshape(x.shape[0], self.groups, -1, x.shape[3])
        h = F.layer_norm(grouped, grouped.shape[2:], eps=self.eps).reshape(x.shape)
        return h * self.weight[:, None, None] + self.bias[:, None, None]


class ChannelGated(Gated):
    """(B, C, 1, S) -> the same"""

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.expand(x).chunk(2, dim=1)
        out: Tensor = self.contract(value * self.activation(gate))
        return out


@lays_out(Gated, TOKENS)
def _gated(module: Gated) -> nn.Module:
    laid_out: nn.Module = with_parts(module, laid_out_tokens, ChannelGated)
    return laid_out


@lays_out(Plain, TOKENS)
@lays_out(TransformerLayer, TOKENS)
def _same_forward(module: nn.Module) -> nn.Module:
    """Its own forward does not ask which axis holds the channels."""
    laid_out: nn.Module = with_parts(module, laid_out_tokens)
    return laid_out


class PixelTimeEmbedding(TimeEmbedding):
    """(B,) -> (B, width), inside as an image of one pixel."""

    def forward(self, time: Tensor) -> Tensor:
        h = sinusoids(time, self.features).to(self.linear1.weight.dtype)[:, :, None, None]
        return F.silu(self.linear2(F.silu(self.linear1(h)))).flatten(1)


@lays_out(TimeEmbedding, MAPS)
def _time_embedding(module: TimeEmbedding) -> nn.Module:
    laid_out: nn.Module = with_parts(module, laid_out_tokens, PixelTimeEmbedding)
    return laid_out


class MapResidualBlock(ResidualBlock):
    """The time embedding goes through a 1 x 1 convolution, as an image of one pixel."""

    def forward(self, x: Tensor, condition: Condition) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        h = h + self.time(condition.time[:, :, None, None])
        h = self.conv2(F.silu(self.norm2(h)))
        out: Tensor = self.shortcut(x) + h
        return out


@lays_out(ResidualBlock, MAPS)
def _residual(module: ResidualBlock) -> nn.Module:
    laid_out: nn.Module = with_parts(module, laid_out_maps, MapResidualBlock)
    laid_out._modules["time"] = pointwise(module.time)
    return laid_out


class MapTransformer(Transformer):
    """(B, c_in, H, W) -> (B, c_out, H, W)"""

    def forward(self, x: Tensor, condition: Condition) -> Tensor:
        tokens = self.over(self.project_in(_tokens(self.norm(x))), x.shape[-2:], condition)
        out: Tensor = self.shortcut(x) + self.project_out(tokens).reshape(*x.shape[:1], -1, *x.shape[2:])
        return out


class MapBareTransformer(BareTransformer):
    """(B, c_in, H, W) -> (B, c_out, H, W)"""

    def forward(self, x: Tensor, condition: Condition) -> Tensor:
        tokens = self.over(_tokens(self.join(x)), x.shape[-2:], condition)
        return tokens.reshape(x.shape[0], -1, *x.shape[2:])


@lays_out(Transformer, MAPS)
def _transformer(module: Transformer) -> nn.Module:
    laid_out = with_parts(module, laid_out_maps, MapTransformer)
    for name in ("project_in", "project_out"):
        laid_out._modules[name] = pointwise(getattr(module, name))
    return _with_layers(laid_out, module)


@lays_out(BareTransformer, MAPS)
def _bare_transformer(module: BareTransformer) -> nn.Module:
    return _with_layers(with_parts(module, laid_out_maps, MapBareTransformer), module)


def _with_layers(laid_out: Layers, module: Layers) -> Layers:
    laid_out._modules["layer"] = with_parts(module.layer, laid_out_tokens)
    return laid_out


def _tokens(x: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, C, 1, H * W)"""
    return x.flatten(2).unsqueeze(2)
