"""`harness convert NAME --weights FILE --to FILE`: weights that others published, as a file that every verb reads."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.commands.verb import Verb
from harness.records.errors import UserError
from harness.records.store import check_file_writable, known_sha256

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.architecture.config import ArchitectureConfig, Denoiser
    from harness.models.weights import Training
    from harness.trials.settings import Settings

GROUP = "autoencoder"
IMAGENET = 1000
"""Classes, whose names come with the project."""
KEY_DIGITS = 16  # of a sha256, as a trial's key has


def flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--weights", type=Path, required=True, metavar="FILE", help="theirs: .pt, .pth or .safetensors")
    parser.add_argument("--to", type=Path, required=True, metavar="FILE.safetensors", help="where ours goes")
    parser.add_argument(
        "--names", type=Path, metavar="FILE", help="the classes in the table's order, one a line; default: ImageNet's"
    )
    parser.add_argument(
        "--latent-scale", type=float, metavar="S",
        help="what its latents were multiplied by, where the autoencoder's files do not say: 0.18215 for DiT and U-ViT",
    )  # fmt: skip


def check(arguments: argparse.Namespace) -> None:
    from harness.architecture.catalogue import architecture
    from harness.trials.settings import settings_of

    architecture(arguments.name)
    for key in (text.partition("=")[0].lstrip("+~") for text in arguments.overrides):
        if key.split(".")[0] != GROUP:
            raise UserError(f"converting depends on {GROUP}=... alone, not on {key}; leave it out")
    settings_of(arguments.overrides)
    if arguments.to.suffix != ".safetensors":
        raise UserError(f"--to names a .safetensors file, not {arguments.to}")
    check_file_writable(arguments.to)


def run(arguments: argparse.Namespace) -> int:
    from harness.architecture.catalogue import architecture
    from harness.models.convert import converted
    from harness.trials.settings import settings_of

    config = architecture(arguments.name)
    training = _training(arguments, config, settings_of(arguments.overrides))
    converted(arguments.weights, config, arguments.to, training=training)
    if training is None:
        print(
            f"note: {arguments.name} takes text, and the weights do not say whose: {arguments.to} can be exported and "
            "counted, and not sampled",
            file=sys.stderr,
        )
    print(arguments.to)
    return 0


VERB = Verb(
    summary="bring in weights that others published: DiT, SiT, U-ViT, diffusers' DiT and UNet",
    name="an architecture of the catalogue (published/...), or the path of its YAML",
    example="harness convert published/dit_xl_2 --weights DiT-XL-2-256x256.pt --to dit.safetensors autoencoder=kl "
    "autoencoder.name=stabilityai/sd-vae-ft-ema --latent-scale 0.18215",
    lists="architectures",
    flags=flags,
    check=check,
    run=run,
)


def _training(arguments: argparse.Namespace, config: ArchitectureConfig, settings: Settings) -> Training | None:
    """What sampling needs to know of the training; None where the classes are unknown, since they come as text."""
    from harness.architecture.config import Denoiser
    from harness.data.prompts import class_table
    from harness.models.weights import Training

    if not isinstance(config, Denoiser) or config.condition != "class_table":
        return None
    latent, sha256 = config.native_latent, known_sha256(arguments.weights)
    assert latent is not None  # the families that have tables are made for one
    return Training(
        trial=sha256[:KEY_DIGITS],
        latent=latent,
        text=class_table(_names(arguments.names, config.context_width - 1)).identity,
        autoencoder=_autoencoder(arguments, config, settings),
        source=sha256,
    )


def _names(file: Path | None, classes: int) -> tuple[str, ...]:
    from harness.data.sources.wordnet import names_by_wnid
    from harness.records.text import text_lines

    if file is None and classes == IMAGENET:
        return tuple(names_by_wnid().values())
    if file is None:
        raise UserError(f"the table has {classes} classes, and only ImageNet's {IMAGENET:,} are known; give --names")
    names = tuple(line.strip() for line in text_lines(file, "--names ") if line.strip())
    if len(names) != classes or len(set(names)) != classes:
        raise UserError(f"{file} has {len(set(names))} different names, and the table {classes} classes; give them all")
    return names


def _autoencoder(arguments: argparse.Namespace, config: Denoiser, settings: Settings) -> Mapping[str, Any] | None:
    """The identity of what decodes the network's latents; None where it makes pictures itself."""
    from harness.models.autoencoder import describe

    description, scale = describe(settings.autoencoder), arguments.latent_scale
    if description.is_pixels and config.latent_channels not in (1, 3):
        raise UserError(
            f"{arguments.name} makes latents of {config.latent_channels} channels, which an autoencoder decodes; say "
            "which, autoencoder=kl autoencoder.name=FOLDER"
        )
    if (description.scale is None) == (scale is None):
        own = f"is {description.scale}, as its files say; leave out" if scale is not None else "is in none of its files"
        raise UserError(f"the scale of autoencoder={description.kind} {own}{'' if scale else '; give'} --latent-scale")
    if description.is_pixels:
        return None
    if description.channels != config.latent_channels:
        raise UserError(
            f"{arguments.name} makes latents of {config.latent_channels} channels, and autoencoder={description.kind} "
            f"decodes {description.channels}; give another autoencoder.name"
        )
    return description.identity(None if scale is None else (scale,) * config.latent_channels)
