"""The same network in diffusers."""

from diffusers import UNet2DConditionModel

from harness.architecture.config import ArchitectureConfig


def twin(config: ArchitectureConfig) -> UNet2DConditionModel:
    """diffusers' UNet of a configuration with SDXL's choices.

    diffusers makes the middle as deep as the last stage: what the configuration has not is cut off.
    """
    deep = [next((transformer.depth for transformer in stage.block.transformers()), 0) for stage in config.stages]
    assert config.middle is not None
    middle = next(config.middle.transformers()).depth
    assert middle <= deep[-1]
    model = UNet2DConditionModel(
        in_channels=config.latent_channels,
        out_channels=config.latent_channels,
        block_out_channels=tuple(stage.channels for stage in config.stages),
        layers_per_block=config.stages[0].down_blocks,
        down_block_types=tuple("CrossAttnDownBlock2D" if depth else "DownBlock2D" for depth in deep),
        up_block_types=tuple("CrossAttnUpBlock2D" if depth else "UpBlock2D" for depth in reversed(deep)),
        transformer_layers_per_block=tuple(depth or 1 for depth in deep),
        attention_head_dim=tuple(stage.channels // config.head_dim for stage in config.stages),
        cross_attention_dim=config.context_width,
        time_embedding_dim=config.time_width,
        norm_num_groups=config.norm.groups,
        use_linear_projection=True,
    )
    (transformer,) = model.mid_block.attentions
    transformer.transformer_blocks = transformer.transformer_blocks[:middle]
    return model
