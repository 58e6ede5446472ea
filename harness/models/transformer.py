"""Transformers on feature maps: layers of self-attention, cross-attention and feed-forward."""

from typing import Any

import torch
from torch import Tensor, nn

from harness.architecture.kinds import builder_of
from harness.architecture.unet import UNetConfig
from harness.models.attention import AttentionPlace, Size
from harness.models.blocks import Condition
from harness.models.embeddings import Rotation

NORM_EPS = 1e-6  # of the norm before the tokens, as in diffusers' SDXL; residual blocks have 1e-5


class TransformerLayer(nn.Module):
    """Self-attention if the place has it, cross-attention, feed-forward; each after a norm and around a residual."""

    def __init__(self, spec: Any, config: UNetConfig, width: int) -> None:
        super().__init__()
        norm, feed_forward = builder_of(config.token_norm), builder_of(config.feed_forward)
        self.has_self_attention = spec.self_attention
        if spec.self_attention:
            self.self_norm = norm(config.token_norm, width)
            self.self_attention = _self_attention(spec.span, config.self_attention, _place(config, width, width))
        self.cross_norm = norm(config.token_norm, width)
        across = _place(config, width, config.context_width)
        self.cross_attention = builder_of(config.cross_attention)(config.cross_attention, across)
        self.feed_norm = norm(config.token_norm, width)
        self.feed_forward = feed_forward(config.feed_forward, width)

    def forward(self, x: Tensor, condition: Condition, rotation: Rotation | None, size: Size) -> Tensor:
        """x (B, T, width), the pixels of a map of that size -> the same."""
        if self.has_self_attention:
            h = self.self_norm(x)
            x = x + self.self_attention(h, h, rotation=rotation, size=size)
        x = x + self.cross_attention(self.cross_norm(x), condition.context, mask=condition.mask)
        out: Tensor = x + self.feed_forward(self.feed_norm(x))
        return out


class Layers(nn.Module):
    """`depth` layers over the pixels of a feature map, row by row, with their positions. (B, C, H, W) -> the same"""

    def __init__(self, spec: Any, config: UNetConfig, width: int) -> None:
        super().__init__()
        self.layer = nn.ModuleList(TransformerLayer(spec, config, width) for _ in range(spec.depth))
        position = config.position if spec.self_attention else None
        self.position = builder_of(position)(position, config.head_dim) if position else None

    def over(self, tokens: Tensor, size: torch.Size, condition: Condition) -> Tensor:  # (B, H * W, C)
        rotation = self.position(*size, tokens) if self.position is not None else None
        height, width = size
        for layer in self.layer:
            tokens = layer(tokens, condition, rotation, (height, width))
        return tokens


class Transformer(Layers):
    """norm, linear, layers, linear, + shortcut. (B, c_in, H, W) -> (B, c_out, H, W)"""

    def __init__(self, spec: Any, config: UNetConfig, c_in: int, c_out: int) -> None:
        super().__init__(spec, config, c_out)
        self.norm = builder_of(config.norm)(config.norm, c_in, NORM_EPS)
        self.project_in = nn.Linear(c_in, c_out)
        self.project_out = nn.Linear(c_out, c_out)
        self.shortcut = nn.Conv2d(c_in, c_out, 1) if c_in != c_out else nn.Identity()

    def forward(self, x: Tensor, condition: Condition) -> Tensor:
        tokens = self.over(self.project_in(_tokens(self.norm(x))), x.shape[-2:], condition)
        out: Tensor = self.shortcut(x) + _map(self.project_out(tokens), x.shape[-2:])
        return out


class BareTransformer(Layers):
    """1 x 1 convolution where the channels change, layers. (B, c_in, H, W) -> (B, c_out, H, W)"""

    def __init__(self, spec: Any, config: UNetConfig, c_in: int, c_out: int) -> None:
        super().__init__(spec, config, c_out)
        self.join = nn.Conv2d(c_in, c_out, 1) if c_in != c_out else nn.Identity()

    def forward(self, x: Tensor, condition: Condition) -> Tensor:
        return _map(self.over(_tokens(self.join(x)), x.shape[-2:], condition), x.shape[-2:])


def transformer(spec: Any, config: UNetConfig, c_in: int, c_out: int) -> nn.Module:
    return (Transformer if spec.projections else BareTransformer)(spec, config, c_in, c_out)


def _tokens(x: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, H * W, C)"""
    return x.permute(0, 2, 3, 1).flatten(1, 2)


def _map(tokens: Tensor, size: torch.Size) -> Tensor:
    """(B, H * W, C) -> (B, C, H, W)"""
    return tokens.reshape(-1, *size, tokens.shape[-1]).permute(0, 3, 1, 2)


def _self_attention(span: Any, attention: Any, place: AttentionPlace) -> nn.Module:
    module: nn.Module = (
        builder_of(attention)(attention, place) if span is None else builder_of(span)(span, attention, place)
    )
    return module


def _place(config: UNetConfig, width: int, source_width: int) -> AttentionPlace:
    return AttentionPlace(width=width, source_width=source_width, head_dim=config.head_dim, qk_norm=config.qk_norm)
