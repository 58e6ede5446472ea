"""The study's UNet written a second time, from the paper's prose: plain functions, one thing after the other.

Nothing of harness/ is used. `take(name, *shape)` gives a weight; the names are those of the harness' modules, which is
all the mapping there is. Channels last are never used here: feature maps are (B, C, H, W), tokens (B, T, C).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Take = Callable[..., Tensor]


@dataclass(frozen=True, kw_only=True)
class Size:
    """thin SDXL: transformers 0, 2, 4 deep at three resolutions, 2 blocks on the way down and 3 on the way up."""

    widths: tuple[int, int, int] = (256, 512, 896)
    depths: tuple[int, int, int] = (0, 2, 4)
    middle: int = 3
    head: int = 64
    time_features: int = 256
    time_width: int = 768
    groups: int = 32
    latent_channels: int = 16


@dataclass(frozen=True, kw_only=True)
class Choices:
    """What the rungs of Fig. 3 change."""

    high_res_self_attention: bool = True
    expansion: int = 0  # of separable convolutions; 0: regular ones
    ratio: int = 4
    shared: bool = False  # one key and one value for all heads
    first_stage_ca: bool = False
    qk_norm_rope: bool = False


RUNGS = {
    "thin_sdxl": {},
    "no_high_res_sa": {"high_res_self_attention": False},
    "sepconv": {"high_res_self_attention": False, "expansion": 1},
    "expanded_sepconv": {"high_res_self_attention": False, "expansion": 2},
    "ffn3": {"high_res_self_attention": False, "expansion": 2, "ratio": 3},
    "mqa": {"high_res_self_attention": False, "expansion": 2, "ratio": 3, "shared": True},
}
RUNGS["first_stage_ca"] = RUNGS["mqa"] | {"first_stage_ca": True}
RUNGS["qknorm_rope"] = RUNGS["snapgen"] = RUNGS["first_stage_ca"] | {"qk_norm_rope": True}


def paper_unet(take: Take, x: Tensor, time: Tensor, context: Tensor, choices: Choices, size: Size) -> Tensor:
    net = Net(take, context, choices, size)
    emb = net.time(time)
    x = net.conv("conv_in", x, size.widths[0], 3)
    kept = []
    for s in range(3):
        skips = [x]
        for j in range(2):
            skips.append(net.block(f"down.{s}", s, j, skips[-1], emb))
        kept.append(skips)
        x = net.conv(f"down.{s}.downsample", skips[-1], size.widths[s], 3, stride=2) if s < 2 else skips[-1]
    x = net.residual("middle.block.0", x, emb, size.widths[2])
    x = net.transformer("middle.attention.0", x, size.middle, sees_itself=True)
    x = net.residual("middle.block.1", x, emb, size.widths[2])
    for s in (2, 1, 0):
        for j in range(3):
            x = net.block(f"up.{s}", s, j, torch.cat([x, kept[s].pop()], 1), emb)
        if s > 0:
            larger = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
            x = net.blocks_conv(f"up.{s}.upsample.conv", larger, size.widths[s])
    return net.conv("conv_out", silu(net.group_norm("norm_out", x)), size.latent_channels, 3)


def silu(x: Tensor) -> Tensor:
    return x * torch.sigmoid(x)


def gelu(x: Tensor) -> Tensor:
    return x * (1 + torch.erf(x / math.sqrt(2))) / 2


class Net:
    def __init__(self, take: Take, context: Tensor, choices: Choices, size: Size) -> None:
        self.take, self.context, self.choices, self.size = take, context, choices, size

    def time(self, time: Tensor) -> Tensor:
        half = self.size.time_features // 2
        angles = 1000 * time[:, None] / 10000 ** (torch.arange(half, dtype=time.dtype, device=time.device) / half)
        features = torch.cat([angles.cos(), angles.sin()], 1)
        h = silu(self.linear("time_embedding.linear1", features, self.size.time_width))
        return silu(self.linear("time_embedding.linear2", h, self.size.time_width))

    def block(self, place: str, s: int, j: int, x: Tensor, emb: Tensor) -> Tensor:
        """Block j of stage s, and behind it the transformer of the stages that have one."""
        width, depth = self.size.widths[s], self.size.depths[s]
        if s == 0 and self.choices.first_stage_ca:
            x = self.conv(f"{place}.block.{j}.join", x, width, 1) if x.shape[1] != width else x
            return self.layers(f"{place}.block.{j}", x, 1, sees_itself=False)
        x = self.residual(f"{place}.block.{j}", x, emb, width)
        sees_itself = s == 2 or self.choices.high_res_self_attention
        return self.transformer(f"{place}.attention.{j}", x, depth, sees_itself) if depth else x

    def residual(self, name: str, x: Tensor, emb: Tensor, width: int) -> Tensor:
        inside = 2 * max(x.shape[1], width) if self.choices.expansion == 2 else width
        h = self.blocks_conv(f"{name}.conv1", silu(self.group_norm(f"{name}.norm1", x)), inside)
        h = h + self.linear(f"{name}.time", emb, inside)[:, :, None, None]
        h = self.blocks_conv(f"{name}.conv2", silu(self.group_norm(f"{name}.norm2", h)), width)
        return h + (self.conv(f"{name}.shortcut", x, width, 1) if x.shape[1] != width else x)

    def transformer(self, name: str, x: Tensor, depth: int, sees_itself: bool) -> Tensor:
        h = self.pixels(self.group_norm(f"{name}.norm", x, 1e-6))
        h = self.image(self.linear(f"{name}.project_in", h, x.shape[1]), x)
        h = self.pixels(self.layers(name, h, depth, sees_itself))
        return x + self.image(self.linear(f"{name}.project_out", h, x.shape[1]), x)

    def layers(self, name: str, x: Tensor, depth: int, sees_itself: bool) -> Tensor:
        h, (rows, columns) = self.pixels(x), x.shape[2:]
        for layer in (f"{name}.layer.{i}" for i in range(depth)):
            if sees_itself:
                own = self.layer_norm(f"{layer}.self_norm", h)
                turn = self.turn(rows, columns, h) if self.choices.qk_norm_rope else None
                h = h + self.attention(f"{layer}.self_attention", own, own, turn)
            h = h + self.attention(
                f"{layer}.cross_attention", self.layer_norm(f"{layer}.cross_norm", h), self.context, None
            )
            h = h + self.feed_forward(f"{layer}.feed_forward", self.layer_norm(f"{layer}.feed_norm", h))
        return self.image(h, x)

    def feed_forward(self, name: str, x: Tensor) -> Tensor:
        hidden = self.choices.ratio * x.shape[-1]
        both = self.linear(f"{name}.expand", x, 2 * hidden)
        return self.linear(f"{name}.contract", both[..., :hidden] * gelu(both[..., hidden:]), x.shape[-1])

    def attention(self, name: str, x: Tensor, source: Tensor, turn: Tensor | None) -> Tensor:
        width, head = x.shape[-1], self.size.head
        heads = width // head
        kept = 1 if self.choices.shared else heads
        queries = self.linear(f"{name}.query", x, width, bias=False)
        both = self.linear(f"{name}.key_value", source, 2 * kept * head, bias=False)
        out = []
        for i in range(heads):
            own = 0 if self.choices.shared else i
            q = queries[..., i * head : (i + 1) * head]
            k = both[..., own * head : (own + 1) * head]
            v = both[..., (kept + own) * head : (kept + own + 1) * head]
            if self.choices.qk_norm_rope:
                q, k = self.rms(f"{name}.query_norm", q), self.rms(f"{name}.key_norm", k)
            if turn is not None:
                q, k = rotated(q, turn), rotated(k, turn)
            scores = (q @ k.transpose(1, 2)) / math.sqrt(head)
            weights = (scores - scores.amax(-1, keepdim=True)).exp()
            out.append(weights / weights.sum(-1, keepdim=True) @ v)
        return self.linear(f"{name}.out", torch.cat(out, -1), width)

    def turn(self, rows: int, columns: int, like: Tensor) -> Tensor:
        """e^(i angle) of every token (row by row) and channel pair: the first half turns by row, the rest by column."""
        quarter = self.size.head // 4
        kind = {"dtype": like.dtype, "device": like.device}
        speeds = 10000.0 ** (-torch.arange(quarter, **kind) / quarter)
        row = torch.arange(rows, **kind).repeat_interleave(columns)[:, None] * speeds
        column = torch.arange(columns, **kind).repeat(rows)[:, None] * speeds
        angles = torch.cat([row, column], 1)
        return torch.complex(angles.cos(), angles.sin())

    def linear(self, name: str, x: Tensor, width: int, bias: bool = True) -> Tensor:
        out = x @ self.take(f"{name}.weight", width, x.shape[-1]).T
        return out + self.take(f"{name}.bias", width) if bias else out

    def conv(self, name: str, x: Tensor, width: int, kernel: int, stride: int = 1) -> Tensor:
        weight = self.take(f"{name}.weight", width, x.shape[1], kernel, kernel)
        return torch.conv2d(x, weight, self.take(f"{name}.bias", width), stride, kernel // 2)

    def blocks_conv(self, name: str, x: Tensor, width: int) -> Tensor:
        """3 x 3; or 5 x 5 channel by channel, then 1 x 1."""
        if not self.choices.expansion:
            return self.conv(name, x, width, 3)
        channels = x.shape[1]
        x = torch.conv2d(x, self.take(f"{name}.depthwise.weight", channels, 1, 5, 5), None, 1, 2, 1, channels)
        return self.conv(f"{name}.pointwise", x, width, 1)

    def group_norm(self, name: str, x: Tensor, eps: float = 1e-5) -> Tensor:
        parts = x.reshape(len(x), self.size.groups, -1)
        parts = parts - parts.mean(-1, keepdim=True)
        parts = parts / (parts.square().mean(-1, keepdim=True) + eps).sqrt()
        weight, bias = (self.take(f"{name}.{part}", x.shape[1])[:, None, None] for part in ("weight", "bias"))
        return parts.reshape(x.shape) * weight + bias

    def layer_norm(self, name: str, x: Tensor) -> Tensor:
        x = x - x.mean(-1, keepdim=True)
        x = x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt()
        return x * self.take(f"{name}.weight", x.shape[-1]) + self.take(f"{name}.bias", x.shape[-1])

    def rms(self, name: str, x: Tensor) -> Tensor:
        return x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt() * self.take(f"{name}.weight", x.shape[-1])

    @staticmethod
    def pixels(x: Tensor) -> Tensor:
        return x.flatten(2).transpose(1, 2)

    @staticmethod
    def image(tokens: Tensor, like: Tensor) -> Tensor:
        return tokens.transpose(1, 2).reshape(len(tokens), -1, *like.shape[2:])


def rotated(x: Tensor, turn: Tensor) -> Tensor:
    """Channels i and i + D/2 as one complex number, times the turn."""
    half = x.shape[-1] // 2
    z = torch.complex(x[..., :half], x[..., half:]) * turn
    return torch.cat([z.real, z.imag], -1)
