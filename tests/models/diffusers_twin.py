"""The same network in diffusers, and its weights under our names."""

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from harness.architecture.config import ArchitectureConfig


def twin(config: ArchitectureConfig) -> UNet2DConditionModel:
    """diffusers' UNet of a configuration with SDXL's choices.

    diffusers makes the middle as deep as the last stage: what the configuration has not is cut off.
    """
    deep = [next((found.depth for found in stage.block.transformers()), 0) for stage in config.stages]
    assert config.middle is not None
    middle = next(config.middle.transformers()).depth
    assert middle <= deep[-1]
    made = UNet2DConditionModel(
        in_channels=config.latent_channels,
        out_channels=config.latent_channels,
        block_out_channels=tuple(stage.channels for stage in config.stages),
        layers_per_block=config.stages[0].down_blocks,
        down_block_types=tuple("CrossAttnDownBlock2D" if depth else "DownBlock2D" for depth in deep),
        up_block_types=tuple("CrossAttnUpBlock2D" if depth else "UpBlock2D" for depth in reversed(deep)),
        transformer_layers_per_block=tuple(depth or 1 for depth in deep),
        attention_head_dim=tuple(stage.channels // config.head_width for stage in config.stages),
        cross_attention_dim=config.context_width,
        time_embedding_dim=config.time_width,
        norm_num_groups=config.norm.groups,
        use_linear_projection=True,
    )
    (transformer,) = made.mid_block.attentions
    transformer.transformer_blocks = transformer.transformer_blocks[:middle]
    return made


def renamed(theirs: dict[str, Tensor], stages: int) -> dict[str, Tensor]:
    """A state dict of `twin`, under our names; keys and values in one matrix as ours are."""
    ours = {_name(key, stages): value for key, value in theirs.items()}
    for key in [key for key in ours if ".to_k." in key]:
        ours[key.replace("to_k", "key_value")] = torch.cat([ours.pop(key), ours.pop(key.replace("to_k", "to_v"))])
    return ours


WORDS = (
    ("down_blocks.", "down."),
    ("mid_block.", "middle."),
    ("up_blocks.", "up."),
    ("resnets.", "block."),
    ("attentions.", "attention."),
    ("downsamplers.0.conv", "downsample"),
    ("upsamplers.0.conv", "upsample.conv"),
    ("time_emb_proj", "time"),
    ("conv_shortcut", "shortcut"),
    ("linear_", "linear"),
    ("proj_in", "project_in"),
    ("proj_out", "project_out"),
    ("transformer_blocks.", "layer."),
    ("to_out.0", "out"),
    ("to_q", "query"),
    ("ff.net.0.proj", "feed_forward.expand"),
    ("ff.net.2", "feed_forward.contract"),
    ("conv_norm_out", "norm_out"),
)


def _name(key: str, stages: int) -> str:
    for theirs, ours in WORDS:
        key = key.replace(theirs, ours)
    if ".layer." in key:
        for theirs, ours in (("attn1", "self_attention"), ("attn2", "cross_attention")):
            key = key.replace(theirs, ours)
        for theirs, ours in (("norm1", "self_norm"), ("norm2", "cross_norm"), ("norm3", "feed_norm")):
            key = key.replace(theirs, ours)
    parts = key.split(".")
    if parts[0] == "up":  # theirs counts from the lowest resolution
        parts[1] = str(stages - 1 - int(parts[1]))
    return ".".join(parts)
