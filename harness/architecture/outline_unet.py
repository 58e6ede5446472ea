"""The outline of the study's UNet, from its plan."""

from fractions import Fraction
from typing import Any

from harness.architecture.knobs import Attention
from harness.architecture.outline import (
    Level,
    Node,
    Outline,
    Part,
    Row,
    convolution,
    ends,
    knob_text,
    resampling,
    whole,
)
from harness.architecture.plan import BlockPlan, StagePlan, unet_plan
from harness.architecture.unet import UNetConfig


def unet(config: UNetConfig) -> Outline:
    plan, sources = unet_plan(config), _skip_sources(config)
    first = config.stages[0].channels
    levels, skips = [], []
    for index, (down, up) in enumerate(zip(plan.down, plan.up, strict=True)):
        entry = (
            convolution("conv_in", config.latent_channels, first)
            if index == 0
            else _down(config, plan.down[index - 1], index)
        )
        leave = _out(config, first) if index == 0 else (_up(config, up, index),)
        level = Level(
            factor=Fraction(1, 2**index),
            channels=down.channels,
            down=((entry,), *(_block(config, block) for block in down.blocks)),
            up=(*(_block(config, block) for block in up.blocks), leave),
        )
        levels.append(level)
        newest_first = reversed(sources[index])
        skips += [(source, block.place) for block, source in zip(up.blocks, newest_first, strict=False)]
    latent = ends("latent", config.latent_channels)
    middle = tuple(_block(config, block) for block in plan.middle)
    return Outline(levels=tuple(levels), middle=middle, skips=tuple(skips), input=latent, output=latent)


def _skip_sources(config: UNetConfig) -> list[list[str]]:
    """By stage, whose outputs its skips are, oldest first: its input's, and every block's with what stands behind."""
    plan = unet_plan(config)
    entries = ["conv_in", *(f"down.{index}.downsample" for index in range(len(plan.down) - 1))]
    return [
        [entry, *(block.transformer_place if block.transformer else block.place for block in stage.blocks)]
        for entry, stage in zip(entries, plan.down, strict=True)
    ]


def _down(config: UNetConfig, stage: StagePlan, index: int) -> Node:
    place, widths = f"down.{index - 1}.downsample", str(stage.channels)
    return resampling(place, "downsample", config.downsample, channels=widths, conv=stage.resample)


def _up(config: UNetConfig, stage: StagePlan, index: int) -> Node:
    place, widths = f"up.{index}.upsample", str(stage.channels)
    return resampling(place, "upsample", config.upsample, channels=widths, conv=stage.resample)


def _block(config: UNetConfig, block: BlockPlan) -> Row:
    """The block, and the transformer behind it."""
    inside = next(block.kind.transformers(), None)
    if not block.kind.residual:
        return (_transformer(config, block, block.place, inside, _widths(block)),)
    residual = Node(
        place=block.place,
        kind="residual",
        title="residual block",
        settings={
            "channels": _widths(block),
            "convolution": knob_text(config.convolution),
            "norm": knob_text(config.norm),
        },
    )
    behind = block.transformer
    return (residual,) if behind is None else (
        residual, _transformer(config, block, block.transformer_place, behind, str(block.c_out))
    )  # fmt: skip


def _widths(block: BlockPlan) -> str:
    before = f"{block.channels_before} + {block.skip_channels} skip" if block.skip_channels else block.channels_before
    return f"{before} to {block.c_out}"


def _transformer(config: UNetConfig, block: BlockPlan, place: str, spec: Any, widths: str) -> Node:
    width, feed_forward = block.c_out, config.at(block.stage).feed_forward
    hidden = whole(width * feed_forward.ratio_at(block.stage))
    common = {"norm": knob_text(config.token_norm)}
    parts = [
        Part(kind="cross_attention", settings=common | _attention(config, config.cross_attention, width)
             | {"attends to": f"the prompt, {config.context_length} tokens of {config.context_width}"}),
        Part(kind="feed_forward", settings=common | {"kind": knob_text(feed_forward), "hidden width": hidden}),
    ]  # fmt: skip
    if spec.self_attention:
        position = {"position": knob_text(config.position)}
        span = {} if spec.span is None else {"span": knob_text(spec.span)}
        own = common | _attention(config, config.self_attention, width) | span | position
        parts.insert(0, Part(kind="self_attention", settings=own))
    settings = {"channels": widths, "layers": str(spec.depth)}
    if not getattr(spec, "projections", True):
        settings["projections"] = "none"
    return Node(
        place=place, kind="transformer", title="transformer", settings=settings, parts=tuple(parts), layers=spec.depth
    )


def _attention(config: UNetConfig, kind: Attention, width: int) -> dict[str, str]:
    heads = width // config.head_dim
    return {
        "kind": knob_text(kind),
        "heads": str(heads),
        "channels of a head": str(config.head_dim),
        "key-value heads": whole(kind.groups_of(heads)),
        "norm of queries and keys": knob_text(config.qk_norm),
    }


def _out(config: UNetConfig, channels: int) -> Row:
    norm = Node(place="norm_out", kind="norm", title="norm, SiLU", settings={"norm": knob_text(config.norm)})
    return norm, convolution("conv_out", channels, config.latent_channels)
