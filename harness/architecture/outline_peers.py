"""The outlines of the peers: LDM's UNet, DiT, U-ViT."""

from fractions import Fraction
from typing import Literal

from harness.architecture.outline import Level, Node, Outline, Part, Row, convolution, ends, whole
from harness.architecture.peers import DiTConfig, LDMConfig, UViTConfig


def ldm(config: LDMConfig) -> Outline:
    """As diffusers builds it: one transformer layer behind every block of a stage that attends, and in the middle."""
    levels, skips = [], []
    for index, channels in enumerate(config.channels):
        down, up = _ldm_down(config, index), _ldm_up(config, index)
        sources = [row[-1].place for row in down]
        skips += [(source, row[0].place) for source, row in zip(reversed(sources), up, strict=False)]
        levels.append(Level(factor=Fraction(1, 2**index), channels=channels, down=down, up=up))
    lowest = config.channels[-1]
    first, last = (_ldm_residual(config, f"unet.mid_block.resnets.{j}", str(lowest), lowest) for j in (0, 1))
    middle = ((first, _ldm_transformer(config, "unet.mid_block.attentions.0", lowest)), (last,))
    latent = ends("latent", config.latent_channels)
    return Outline(levels=tuple(levels), middle=middle, skips=tuple(skips), input=latent, output=latent)


def _ldm_down(config: LDMConfig, index: int) -> tuple[Row, ...]:
    channels = config.channels[index]
    above = config.channels[index - 1] if index else channels
    entry = (
        _ldm_resampled(f"unet.down_blocks.{index - 1}.downsamplers.0", "downsample", above)
        if index
        else convolution("unet.conv_in", config.latent_channels, channels)
    )
    widths = [above, *[channels] * (config.blocks - 1)]
    blocks = (_ldm_block(config, f"unet.down_blocks.{index}", j, str(c_in), index) for j, c_in in enumerate(widths))
    return ((entry,), *blocks)


def _ldm_up(config: LDMConfig, index: int) -> tuple[Row, ...]:
    """diffusers counts the blocks on the way up from the lowest resolution."""
    channels, number = config.channels[index], len(config.channels) - 1 - index
    widths = enumerate(_ldm_up_widths(config, index))
    blocks = (_ldm_block(config, f"unet.up_blocks.{number}", j, c_in, index) for j, c_in in widths)
    if index:
        return (*blocks, (_ldm_resampled(f"unet.up_blocks.{number}.upsamplers.0", "upsample", channels),))
    groups = {"norm": f"group, groups {config.norm_groups}"}
    norm = Node(place="unet.conv_norm_out", kind="norm", title="norm, SiLU", settings=groups)
    return (*blocks, (norm, convolution("unet.conv_out", channels, config.latent_channels)))


def _ldm_resampled(place: str, kind: Literal["downsample", "upsample"], channels: int) -> Node:
    settings = {"channels": str(channels), "convolution": "regular, 3 x 3"}
    return Node(place=place, kind=kind, title=f"{kind} by 2", settings=settings)


def _ldm_up_widths(config: LDMConfig, index: int) -> list[str]:
    """Of what each block on the way up of a level reads: what comes from before it, and the skip."""
    channels = config.channels[index]
    below = config.channels[min(index + 1, len(config.channels) - 1)]
    above = config.channels[max(index - 1, 0)]
    before = [below, *[channels] * config.blocks]
    skips = [*[channels] * config.blocks, above if index else channels]
    return [f"{one} + {skip} skip" for one, skip in zip(before, skips, strict=True)]


def _ldm_block(config: LDMConfig, place: str, j: int, width: str, index: int) -> Row:
    channels = config.channels[index]
    residual = _ldm_residual(config, f"{place}.resnets.{j}", width, channels)
    return (residual, _ldm_transformer(config, f"{place}.attentions.{j}", channels)) if config.attention[index] else (
        residual,
    )  # fmt: skip


def _ldm_residual(config: LDMConfig, place: str, c_in: str, c_out: int) -> Node:
    settings = {
        "channels": f"{c_in} to {c_out}", "convolution": "regular, 3 x 3",
        "norm": f"group, groups {config.norm_groups}",
    }  # fmt: skip
    return Node(place=place, kind="residual", title="residual block", settings=settings)


def _ldm_transformer(config: LDMConfig, place: str, channels: int) -> Node:
    heads = {"kind": "mhsa", "heads": f"{config.heads} of {channels // config.heads} channels"}
    to = {"attends to": f"the prompt, {config.context_length} tokens of {config.context_width}"}
    parts = (
        Part(kind="self_attention", settings=heads),
        Part(kind="cross_attention", settings=heads | to),
        Part(kind="feed_forward", settings={"kind": "geglu, ratio 4"}),
    )
    settings = {"channels": str(channels), "layers": "1"}
    return Node(place=place, kind="transformer", title="transformer", settings=settings, parts=parts)


def dit(config: DiTConfig) -> Outline:
    blocks = Node(
        place="block", kind="transformer", title="transformer, modulated by time and class", layers=config.depth,
        settings={"channels": str(config.width), "layers": str(config.depth)},
        parts=_vit_parts(config.width, config.heads, config.feed_forward_ratio),
    )  # fmt: skip
    channels = config.latent_channels * (2 if config.predicts_variance else 1)
    rows: tuple[Row, ...] = ((_patches(config),), (blocks,), (_unpatched("out", config, channels),))
    level = Level(factor=Fraction(1, config.patch_size), channels=config.width, down=rows)
    latent = ends("latent", config.latent_channels)
    return Outline(levels=(level,), input=latent, output=latent)


def uvit(config: UViTConfig) -> Outline:
    half, parts = config.depth // 2, _vit_parts(config.width, config.heads, config.feed_forward_ratio)

    def blocks(place: str, layers: int) -> Node:
        settings = {"channels": str(config.width), "layers": str(layers)}
        return Node(place=place, kind="transformer", title="transformer", settings=settings, parts=parts, layers=layers)

    out: Row = (_unpatched("out", config, config.latent_channels),)
    if config.final_convolution:
        out = (*out, convolution("conv_out", config.latent_channels, config.latent_channels))
    down: tuple[Row, ...] = ((_patches(config),), (blocks("down", half),))
    up: tuple[Row, ...] = ((blocks("up", half),), out)
    level = Level(factor=Fraction(1, config.patch_size), channels=config.width, down=down, up=up)
    latent = ends("latent", config.latent_channels)
    middle = ((blocks("middle", 1),),)
    return Outline(levels=(level,), middle=middle, skips=(("down", "up"),), input=latent, output=latent)


def _vit_parts(width: int, heads: int, ratio: float) -> tuple[Part, ...]:
    return (
        Part(kind="self_attention", settings={"kind": "mhsa", "heads": f"{heads} of {width // heads} channels"}),
        Part(kind="feed_forward", settings={"kind": f"gelu, ratio {ratio:g}", "hidden width": whole(width * ratio)}),
    )


def _patches(config: DiTConfig | UViTConfig) -> Node:
    side = config.patch_size
    settings = {"channels": f"{config.latent_channels} to {config.width}", "patch": f"{side} x {side}"}
    return Node(place="patches", kind="convolution", title="patches to tokens", settings=settings)


def _unpatched(place: str, config: DiTConfig | UViTConfig, channels: int) -> Node:
    side = config.patch_size
    settings = {"channels": f"{config.width} to {channels}", "patch": f"{side} x {side}", "norm": "layer"}
    return Node(place=place, kind="linear", title="tokens to patches", settings=settings)
