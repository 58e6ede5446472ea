"""U-ViT (Bao et al. 2023, arXiv 2209.12152), class-conditional, as published for latents of ImageNet.

Time and class are two tokens before the patches; long skips join the halves; a convolution ends it.
"""

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.architecture.peers import UViTConfig
from harness.models.embeddings import sinusoids
from harness.models.feed_forward import Plain
from harness.models.norms import LayerNorm
from harness.models.peers.vit import SelfAttention, condition_of, to_map, to_tokens
from harness.records.errors import UserError

EXTRA_TOKENS = 2  # time and class


class UViT(nn.Module):
    """Modules: `patches`, `text` (or the table of classes in its place), `down.I`, `middle`, `up.I`, `norm_out`, `out`,
    `conv_out`."""

    weight_decay: ClassVar[dict[str, bool]] = {"positions": False}

    def __init__(self, config: UViTConfig) -> None:
        super().__init__()
        self.config, width = config, config.width
        half, patch = config.depth // 2, config.patch_size
        self.patches = nn.Conv2d(config.latent_channels, width, patch, patch)
        self.text = condition_of(config)
        self.positions = nn.Parameter(torch.empty(1, EXTRA_TOKENS + (config.latent_size // patch) ** 2, width))
        self.down = nn.ModuleList(UViTBlock(config, skip=False) for _ in range(half))
        self.middle = UViTBlock(config, skip=False)
        self.up = nn.ModuleList(UViTBlock(config, skip=True) for _ in range(half))
        self.norm_out = LayerNorm(width)
        self.out = nn.Linear(width, patch**2 * config.latent_channels)
        channels = config.latent_channels
        self.conv_out = nn.Conv2d(channels, channels, 3, padding=1) if config.final_convolution else None
        self._initialise()

    def forward(self, x: Tensor, time: Tensor, context: Tensor, context_mask: Tensor | None = None) -> Tensor:
        """x (B, C, H, W), time (B,) in [0, 1], context (B, T, D), context_mask (B, T) bool -> (B, C, H, W)."""
        self._check(x)
        patches = self.patches(x)
        moment = sinusoids(time, self.config.width).to(patches.dtype)[:, None]
        tokens = torch.cat([moment, self.text(context, context_mask)[:, None], to_tokens(patches)], dim=1)
        tokens = tokens + self.positions
        skips = []
        for block in self.down:
            tokens = block(tokens, None)
            skips.append(tokens)
        tokens = self.middle(tokens, None)
        for block in self.up:
            tokens = block(tokens, skips.pop())
        pixels = to_map(self.out(self.norm_out(tokens)[:, EXTRA_TOKENS:]), patches.shape[-2], self.config.patch_size)
        return pixels if self.conv_out is None else self.conv_out(pixels)

    def _initialise(self) -> None:
        """As published: truncated normal of deviation 0.02, biases 0; convolutions as PyTorch's."""
        nn.init.trunc_normal_(self.positions, std=0.02)
        for part in self.modules():
            if isinstance(part, nn.Linear):
                nn.init.trunc_normal_(part.weight, std=0.02)
                if part.bias is not None:
                    nn.init.zeros_(part.bias)

    def _check(self, x: Tensor) -> None:
        size, (height, width) = self.config.latent_size, x.shape[-2:]
        if (height, width) != (size, size):
            raise UserError(
                f"U-ViT learns a position for every patch of a {size} x {size} latent, so it takes no other size: "
                f"this one is {height} x {width}; set latent_size"
            )


class UViTBlock(nn.Module):
    """In the second half the skip is concatenated and projected first; then self-attention and feed-forward."""

    def __init__(self, config: UViTConfig, *, skip: bool) -> None:
        super().__init__()
        width = config.width
        self.join = nn.Linear(2 * width, width) if skip else None
        self.norm1 = LayerNorm(width)
        self.attention = SelfAttention(width, config.heads, bias=False)
        self.norm2 = LayerNorm(width)
        self.feed_forward = Plain(width, int(config.feed_forward_ratio * width), F.gelu)

    def forward(self, x: Tensor, skip: Tensor | None) -> Tensor:  # (B, T, D) -> (B, T, D)
        if self.join is not None and skip is not None:
            x = self.join(torch.cat([x, skip], dim=-1))
        x = x + self.attention(self.norm1(x))
        out: Tensor = x + self.feed_forward(self.norm2(x))
        return out
