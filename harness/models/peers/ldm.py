"""LDM's UNet (Rombach et al. 2022, arXiv 2112.10752) as diffusers has it, called like every denoiser here."""

from typing import Any

from torch import Tensor, nn

from harness.architecture.peers import LDMConfig
from harness.models.embeddings import TIME_SCALE
from harness.models.norms import GroupNorm, LayerNorm


class LDM(nn.Module):
    def __init__(self, config: LDMConfig) -> None:
        super().__init__()
        downs = ["CrossAttnDownBlock2D" if attends else "DownBlock2D" for attends in config.attention]
        ups = ["CrossAttnUpBlock2D" if attends else "UpBlock2D" for attends in reversed(config.attention)]
        self.unet = _diffusers().UNet2DConditionModel(
            in_channels=config.latent_channels,
            out_channels=config.latent_channels,
            block_out_channels=config.channels,
            layers_per_block=config.blocks,
            down_block_types=tuple(downs),
            up_block_types=tuple(ups),
            attention_head_dim=config.heads,  # diffusers' name for the number of heads
            cross_attention_dim=config.context_width,
            norm_num_groups=config.norm_groups,
        )
        _widen_norms(self.unet)

    def forward(self, x: Tensor, time: Tensor, context: Tensor, context_mask: Tensor | None = None) -> Tensor:
        """x (B, C, H, W), time (B,) in [0, 1], context (B, T, D), context_mask (B, T) bool -> (B, C, H, W)."""
        out: Tensor = self.unet(
            x, TIME_SCALE * time, context, encoder_attention_mask=context_mask, return_dict=False
        )[0]  # fmt: skip
        return out


def _widen_norms(unet: nn.Module) -> None:
    """Put this package's norms, which compute in float32 or better, in the place of PyTorch's; before any training."""
    for name, norm in list(unet.named_modules()):
        if isinstance(norm, nn.GroupNorm):
            wide: nn.Module = GroupNorm(norm.num_groups, norm.num_channels, eps=norm.eps, affine=norm.affine)
        elif isinstance(norm, nn.LayerNorm):
            wide = LayerNorm(norm.normalized_shape, eps=norm.eps, elementwise_affine=norm.elementwise_affine)
        else:
            continue
        unet.set_submodule(name, wide)


def _diffusers() -> Any:
    """Imported when it is first needed: it takes seconds."""
    import diffusers

    return diffusers
