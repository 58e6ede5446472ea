"""The outlines of decoders, and of the autoencoder whose encoder mirrors one."""

from dataclasses import replace
from fractions import Fraction

from harness.architecture.autoencoder import OwnAutoencoderConfig
from harness.architecture.decoder import DecoderConfig
from harness.architecture.outline import Level, Node, Outline, Part, Row, convolution, ends, knob_text, resampling
from harness.architecture.plan import DecoderBlockPlan, decoder_plan


def decoder(config: DecoderConfig) -> Outline:
    plan = decoder_plan(config)
    levels = []
    for index, stage in enumerate(plan.up):
        rows: list[Row] = [_decoder_block(config, block) for block in stage.blocks]
        if index == 0:
            rows = [(convolution("conv_in", config.latent_channels, stage.channels),), *_decoder_middle(config), *rows]
        else:
            rows = [(_decoder_upsample(config, index - 1),), *rows]
        if index == len(plan.up) - 1:
            rows.append(_decoder_out(config))
        levels.append(Level(factor=Fraction(2**index), channels=stage.channels, down=tuple(rows)))
    latent = ends("latent", config.latent_channels)
    return Outline(levels=tuple(levels), input=latent, output=ends("picture", config.image_channels))


def autoencoder(config: OwnAutoencoderConfig) -> Outline:
    """The decoder's levels upside down: its first, of the lowest resolution, is the last."""
    mirrored = config.decoder
    first = mirrored.stages[0].channels
    levels = tuple(
        Level(
            factor=Fraction(1, 2**index),
            channels=level.channels,
            down=_encoder_rows(mirrored, index),
            up=tuple(_renamed(row, "decoder.") for row in level.down),
        )
        for index, level in enumerate(reversed(decoder(mirrored).levels))
    )
    latent = Node(
        place="encoder.conv_out", kind="convolution", title="to the latent",
        settings={"channels": f"{first} to {mirrored.latent_channels}", "bounded by": "3 tanh(z / 3)"},
    )  # fmt: skip
    picture = ends("picture", mirrored.image_channels)
    return Outline(levels=levels, middle=((latent,),), input=picture, output=picture)


def _encoder_rows(config: DecoderConfig, index: int) -> tuple[Row, ...]:
    """Of the encoder's level, counted from the picture's resolution: what leads there, its blocks, at the last the
    middle's."""
    stages = list(reversed(config.stages))
    stage, conv = stages[index], knob_text(config.convolution)
    if index == 0:
        entry = convolution("encoder.conv_in", config.image_channels, stage.channels)
    else:
        before = stages[index - 1]
        widths = {"channels": f"{before.channels} to {stage.channels}", "convolution": conv}
        place = f"encoder.down.{index - 1}.{before.blocks}"
        entry = Node(place=place, kind="downsample", title="downsample by 2", settings=widths)
    rows: list[Row] = [(entry,)]
    norm = knob_text(config.norm if stage.norm else None)
    settings = {"channels": f"{stage.channels} to {stage.channels}", "convolution": conv, "norm": norm}
    for j in range(stage.blocks):
        place = f"encoder.down.{index}.{j}"
        rows.append((Node(place=place, kind="residual", title="residual block", settings=settings),))
    if index == len(stages) - 1:
        rows += [_renamed(row, "encoder.") for row in _decoder_middle(config)]
    return tuple(rows)


def _renamed(row: Row, prefix: str) -> Row:
    return tuple(replace(node, place=f"{prefix}{node.place}") for node in row)


def _decoder_block(config: DecoderConfig, block: DecoderBlockPlan) -> Row:
    settings = {
        "channels": f"{block.c_in} to {block.c_out}",
        "convolution": knob_text(config.convolution),
        "norm": knob_text(config.norm if block.normed else None),
    }
    return (Node(place=block.place, kind="residual", title="residual block", settings=settings),)


def _decoder_middle(config: DecoderConfig) -> list[Row]:
    rows = [_decoder_block(config, block) for block in decoder_plan(config).middle]
    if rows and config.middle is not None and config.middle.attention:
        settings = {"kind": "mhsa", "heads": f"1 of {config.stages[0].channels} channels"}
        attention = Node(
            place="middle.attention", kind="transformer", title="attention",
            settings={"channels": str(config.stages[0].channels), "norm": knob_text(config.norm)},
            parts=(Part(kind="self_attention", settings=settings),),
        )  # fmt: skip
        rows[0] = (*rows[0], attention)
    return rows


def _decoder_upsample(config: DecoderConfig, index: int) -> Node:
    stage = decoder_plan(config).up[index]
    widths, conv = f"{stage.channels} to {stage.upsample_to}", config.convolution.for_resampling("up")
    return resampling(f"up.{index}.upsample", "upsample", config.upsample, channels=widths, conv=conv)


def _decoder_out(config: DecoderConfig) -> Row:
    last = convolution("conv_out", config.stages[-1].channels, config.image_channels)
    norm = Node(place="norm_out", kind="norm", title="norm, SiLU", settings={"norm": knob_text(config.norm)})
    return (norm, last) if config.norm_out else (last,)
