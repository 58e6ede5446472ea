"""`harness draw NAME [path.of.knob=value ...]`: the network as a picture, its edits against another one marked."""

from __future__ import annotations

import argparse
from pathlib import Path

from harness.commands.operands import edited, latent_of, say_latent
from harness.commands.verb import Verb
from harness.records.errors import UserError


def flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--against", metavar="B", help="the architecture before: what NAME adds, removes, changes")
    parser.add_argument("--latent", type=int, help="height and width of the latent; default: its own, or 128")
    parser.add_argument("--to", metavar="FILE", help="the picture, an SVG; default: NAME.svg here")


def check(arguments: argparse.Namespace) -> None:
    edited(arguments.name, arguments.overrides)
    if arguments.against is not None:
        edited(arguments.against, ())
    if _target(arguments).suffix != ".svg":
        raise UserError(f"--to is FILE.svg, not {arguments.to}")


def run(arguments: argparse.Namespace) -> int:
    from harness.architecture.outline_edits import edited as edited_outline
    from harness.architecture.outline_edits import unedited
    from harness.architecture.outlines import outline
    from harness.records.store import check_file_writable, write_atomic
    from harness.reporting.network_drawing import network_svg

    config, target = edited(arguments.name, arguments.overrides), _target(arguments)
    latent = latent_of(arguments.latent, config, arguments.name)
    say_latent(latent, arguments.name)
    check_file_writable(target)
    title, drawn = " ".join([arguments.name, *arguments.overrides]), unedited(outline(config))
    if arguments.against is not None:
        before = edited(arguments.against, ())
        if type(before) is not type(config):
            raise UserError(
                f"{arguments.against} and {arguments.name} are of different families, with no place in common; draw "
                "each alone"
            )
        title, drawn = f"{title}, against {arguments.against}", edited_outline(outline(before), outline(config))
    write_atomic(target, network_svg(drawn, title=title, side=latent, standalone=True).encode())
    print(target)
    return 0


def _target(arguments: argparse.Namespace) -> Path:
    return Path(arguments.to if arguments.to is not None else f"{Path(arguments.name).stem}.svg")


VERB = Verb(
    summary="draw an architecture as an SVG: levels, blocks, attention, skips; its edits against another one",
    name="an architecture of the catalogue, or the path of its YAML",
    example="harness draw first_stage_ca --against mqa --to first_stage_ca.svg",
    lists="architectures",
    flags=flags,
    check=check,
    run=run,
)
