"""`harness publish TRIAL --to FOLDER`: a trained network as a folder that others load."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from harness.commands.verb import Verb
from harness.records.errors import UserError
from harness.records.plain import from_plain

if TYPE_CHECKING:
    from harness.coreml.config import Mlprogram

GROUPS = ("sampling", "autoencoder")
SINGLE = ("out", "text", "text.name", "text.subfolder", "text.encoders", "recipe.device")
"""The settings that a published model depends on: those of GROUPS, and these."""


def flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--to", metavar="FOLDER", required=True, help="where the model goes; a new folder")
    parser.add_argument("--no-coreml", action="store_true", help="leave out what a phone needs")
    parser.add_argument("--target", choices=("iOS16", "iOS17", "iOS18"), help="of the packages; default iOS17")
    parser.add_argument("--bits", type=int, choices=(16, 8, 6, 4), help="of their weights; default 16")
    parser.add_argument("--embed", action="store_true", help="copy the autoencoder's files too")
    parser.add_argument("--license", metavar="FILE", help="the text of the weights' licence; default Apache 2.0")


def check(arguments: argparse.Namespace) -> None:
    from harness.trials.trained import network_and_settings

    for key in (text.partition("=")[0].lstrip("+~") for text in arguments.overrides):
        if key.split(".")[0] not in GROUPS and key not in SINGLE:
            listed = ", ".join([*(f"{group}.SETTING" for group in GROUPS), *SINGLE])
            raise UserError(f"a published model depends on {listed}, not on {key}; leave it out")
    arguments.coreml = _export_settings(arguments)
    arguments.trained, arguments.settings = network_and_settings(arguments.name, arguments.overrides)
    if arguments.trained.record is None:
        raise UserError(
            f"{arguments.trained.weights} is of no trial in a store here, and a model card has its numbers from the "
            "trial's record; give a trial's key, and out=FOLDER where its store lies"
        )


def run(arguments: argparse.Namespace) -> int:
    from harness.publish.write import Publication, check_publication, license_in, own_license, publish, summary
    from harness.records.terminal import table

    target = Path(arguments.to)
    publication = Publication(
        trained=arguments.trained,
        record=arguments.trained.record,
        settings=arguments.settings,
        coreml=arguments.coreml,
        embed=arguments.embed,
        license=own_license() if arguments.license is None else license_in(Path(arguments.license)),
    )
    if not check_publication(publication, target):
        print(f"{target} holds this model already, whole and unaltered; nothing to do")
        return 0
    publish(publication, target)
    print(table(("file", "bytes"), summary(target), f"trial {publication.record.key}, {publication.record.name}"))
    print(target)
    return 0


def _export_settings(arguments: argparse.Namespace) -> Mlprogram | None:
    from harness.coreml.config import Mlprogram

    chosen = {name: value for name in ("target", "bits") if (value := getattr(arguments, name)) is not None}
    if not arguments.no_coreml:
        return from_plain(Mlprogram, chosen)
    for name in chosen:
        raise UserError(f"--no-coreml writes no packages, so it takes no --{name}; leave one of them out")
    return None


VERB = Verb(
    summary="write a trained network as a folder that others load: weights, model card, Core ML packages",
    name="a trial's key or its first digits, its ema.safetensors, or a promoted YAML",
    operands="TRIAL",
    example="harness publish 0f3a --to digits-unet",
    flags=flags,
    check=check,
    run=run,
)
