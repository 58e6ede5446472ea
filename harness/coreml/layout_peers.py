"""The laid-out blocks of DiT and U-ViT: the peers are exported by the same rules as the study's UNet.

Blocks take and give tokens (B, S, C), as the networks around them expect; between two blocks the converter cancels the
transposes. The few linear layers outside the blocks stay as they are.
"""

from typing import Any

import torch
from torch import Tensor, nn

from harness.coreml.layout import MAPS, TOKENS, as_channels, as_tokens, laid_out_tokens, lays_out, with_parts
from harness.coreml.layout_attention import attend_by_heads
from harness.models.peers.dit import DiTBlock
from harness.models.peers.uvit import UViTBlock
from harness.models.peers.vit import SelfAttention


class SplitSelfAttention(SelfAttention):
    """(B, C, 1, S) -> the same"""

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.query_key_value(x).chunk(3, dim=1)
        out: Tensor = self.out(attend_by_heads(q, k, v, width=x.shape[1] // self.heads))
        return out


class ChannelDiTBlock(DiTBlock):
    """(B, S, C), (B, C) -> (B, S, C)"""

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        x = as_channels(x)
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(condition[:, :, None, None]).chunk(6, dim=1)
        x = x + gate1 * self.attention(self.norm1(x) * (1 + scale1) + shift1)
        return as_tokens(x + gate2 * self.feed_forward(self.norm2(x) * (1 + scale2) + shift2))


class ChannelUViTBlock(UViTBlock):
    """(B, S, C) -> (B, S, C)"""

    def forward(self, x: Tensor, skip: Tensor | None) -> Tensor:
        x = as_channels(x)
        if self.join is not None and skip is not None:
            x = self.join(torch.cat([x, as_channels(skip)], dim=1))
        x = x + self.attention(self.norm1(x))
        return as_tokens(x + self.feed_forward(self.norm2(x)))


def _as(cls: type[nn.Module]) -> Any:
    return lambda module: with_parts(module, laid_out_tokens, cls)


lays_out(SelfAttention, TOKENS)(_as(SplitSelfAttention))
lays_out(DiTBlock, MAPS)(_as(ChannelDiTBlock))
lays_out(UViTBlock, MAPS)(_as(ChannelUViTBlock))
