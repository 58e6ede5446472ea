"""DiT (Peebles and Xie 2023, arXiv 2212.09748), and so SiT (Ma et al. 2024, arXiv 2401.08740), which is its network.

Written out, since diffusers' DiT gives every block a time and class embedding of its own: 752 M where DiT-XL/2 has 675.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from harness.architecture.peers import DiTConfig
from harness.models.embeddings import sinusoids
from harness.models.feed_forward import Plain
from harness.models.norms import LayerNorm, typed_as
from harness.models.peers.vit import SelfAttention, check_patches, condition_of, positions_2d, to_map, to_tokens

NORM_EPS = 1e-6


class DiT(nn.Module):
    """Patches, blocks, patches. Modules: `patches`, `time`, `text` (or the table of classes in its place), `block.I`,
    `modulation_out`, `out`."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.config, width = config, config.width
        self.patches = nn.Conv2d(config.latent_channels, width, config.patch_size, config.patch_size)
        self.time = nn.Sequential(nn.Linear(config.time_features, width), nn.SiLU(), nn.Linear(width, width))
        self.text = condition_of(config)
        self.block = nn.ModuleList(DiTBlock(config) for _ in range(config.depth))
        self.norm_out = _norm(width)
        self.modulation_out = nn.Linear(width, 2 * width)
        channels = config.latent_channels * (2 if config.predicts_variance else 1)
        self.out = nn.Linear(width, config.patch_size**2 * channels)
        self._initialise()

    def forward(self, x: Tensor, time: Tensor, context: Tensor, context_mask: Tensor | None = None) -> Tensor:
        """x (B, C, H, W), time (B,) in [0, 1], context (B, T, D), context_mask (B, T) bool -> (B, C, H, W)."""
        check_patches(x, self.config.patch_size)
        patches = self.patches(x)
        rows, columns = patches.shape[-2:]
        tokens = typed_as(to_tokens(patches) + positions_2d(rows, columns, self.config.width, patches), patches)
        features = sinusoids(time, self.config.time_features).to(patches.dtype)
        condition = F.silu(self.time(features) + self.text(context, context_mask))  # (B, D)
        for block in self.block:
            tokens = block(tokens, condition)
        shift, scale = self.modulation_out(condition)[:, None].chunk(2, dim=-1)
        predicted = to_map(self.out(_modulated(self.norm_out(tokens), shift, scale)), rows, self.config.patch_size)
        return predicted[:, : self.config.latent_channels] if self.config.predicts_variance else predicted

    def _initialise(self) -> None:
        """As published (section 3.2 and its code): adaLN-Zero, so every block begins as the identity."""
        for name, part in self.named_modules():
            if not isinstance(part, nn.Linear | nn.Conv2d):
                continue
            if name.split(".")[0] in ("time", "text"):
                nn.init.normal_(part.weight, std=0.02)
            elif name.endswith(("modulation", "modulation_out")) or part is self.out:
                nn.init.zeros_(part.weight)
            else:
                nn.init.xavier_uniform_(part.weight.view(len(part.weight), -1))
            assert part.bias is not None  # every layer here has one
            nn.init.zeros_(part.bias)


class DiTBlock(nn.Module):
    """Self-attention and feed-forward; time and text scale, shift and gate both (adaLN-Zero, their Fig. 3)."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        width = config.width
        self.modulation = nn.Linear(width, 6 * width)
        self.norm1 = _norm(width)
        self.attention = SelfAttention(width, config.heads, bias=True)
        self.norm2 = _norm(width)
        self.feed_forward = Plain(width, int(config.feed_forward_ratio * width), _gelu_tanh)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:  # (B, T, D), (B, D) -> (B, T, D)
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(condition)[:, None].chunk(6, dim=-1)
        x = x + gate1 * self.attention(_modulated(self.norm1(x), shift1, scale1))
        out: Tensor = x + gate2 * self.feed_forward(_modulated(self.norm2(x), shift2, scale2))
        return out


def _norm(width: int) -> nn.Module:
    return LayerNorm(width, eps=NORM_EPS, elementwise_affine=False)


def _modulated(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return x * (1 + scale) + shift


def _gelu_tanh(x: Tensor) -> Tensor:
    return F.gelu(x, approximate="tanh")
