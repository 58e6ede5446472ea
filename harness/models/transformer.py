"""Transformers on feature maps: layers of self-attention, cross-attention and feed-forward."""

from typing import Any

from torch import Tensor, nn

from harness.architecture.kinds import builder_of
from harness.architecture.unet import UNetConfig
from harness.models.attention import AttentionPlace
from harness.models.condition import Condition
from harness.models.embeddings import Rotation

NORM_EPS = 1e-6  # of the norm before the tokens, as in diffusers' SDXL; residual blocks have 1e-5


class TransformerLayer(nn.Module):
    """Self-attention if the place has it, cross-attention, feed-forward; each after a norm and around a residual."""

    def __init__(self, config: UNetConfig, width: int, *, self_attention: bool) -> None:
        super().__init__()
        norm, feed_forward = builder_of(config.token_norm), builder_of(config.feed_forward)
        self.has_self_attention = self_attention
        if self_attention:
            self.self_norm = norm(config.token_norm, width)
            self.self_attention = _attention(config, config.self_attention, width, width)
        self.cross_norm = norm(config.token_norm, width)
        self.cross_attention = _attention(config, config.cross_attention, width, config.context_width)
        self.feed_norm = norm(config.token_norm, width)
        self.feed_forward = feed_forward(config.feed_forward, width)

    def forward(self, x: Tensor, condition: Condition, rotation: Rotation | None) -> Tensor:  # (B, T, width)
        if self.has_self_attention:
            h = self.self_norm(x)
            x = x + self.self_attention(h, h, rotation=rotation)
        x = x + self.cross_attention(self.cross_norm(x), condition.context, mask=condition.mask)
        out: Tensor = x + self.feed_forward(self.feed_norm(x))
        return out


class Transformer(nn.Module):
    """norm, linear, `depth` layers, linear, + shortcut. (B, c_in, H, W) -> (B, c_out, H, W)"""

    def __init__(self, spec: Any, config: UNetConfig, c_in: int, c_out: int) -> None:
        super().__init__()
        self.norm = builder_of(config.norm)(config.norm, c_in, NORM_EPS)
        self.project_in = nn.Linear(c_in, c_out)
        self.layer = nn.ModuleList(
            TransformerLayer(config, c_out, self_attention=spec.self_attention) for _ in range(spec.depth)
        )
        self.project_out = nn.Linear(c_out, c_out)
        self.shortcut = nn.Conv2d(c_in, c_out, 1) if c_in != c_out else nn.Identity()
        position = config.position if spec.self_attention else None
        self.position = builder_of(position)(position, config.head_width) if position else None

    def forward(self, x: Tensor, condition: Condition) -> Tensor:
        height, width = x.shape[-2:]
        tokens = self.project_in(self.norm(x).permute(0, 2, 3, 1).flatten(1, 2))  # (B, H * W, C)
        rotation = self.position(height, width, tokens) if self.position is not None else None
        for layer in self.layer:
            tokens = layer(tokens, condition, rotation)
        h = self.project_out(tokens).reshape(-1, height, width, tokens.shape[-1]).permute(0, 3, 1, 2)
        out: Tensor = self.shortcut(x) + h
        return out


def transformer(spec: Any, config: UNetConfig, c_in: int, c_out: int) -> nn.Module:
    return Transformer(spec, config, c_in, c_out)


def _attention(config: UNetConfig, spec: Any, width: int, source_width: int) -> nn.Module:
    place = AttentionPlace(width=width, source_width=source_width, head_width=config.head_width, qk_norm=config.qk_norm)
    module: nn.Module = builder_of(spec)(spec, place)
    return module
