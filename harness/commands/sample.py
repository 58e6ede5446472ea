"""`harness sample WHAT`: images of a trained network, as a grid, as PNGs or as an npz."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from harness.commands.verb import Verb
from harness.records.errors import UserError

if TYPE_CHECKING:
    from harness.trials.trained import TrainedNetwork

GROUPS = ("sampling", "data", "autoencoder")
SINGLE = ("out", "text", "text.name", "text.subfolder", "text.encoders", "recipe.device")
"""The settings that samples depend on: those of GROUPS, and these. The others are the trial's."""
COUNT = 64
MOST_IN_GRID = 1024


def flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--count", type=int, default=COUNT, metavar="N", help=f"how many samples; default {COUNT}")
    parser.add_argument(
        "--classes",
        nargs="+",
        metavar="CLASS",
        help="names, or numbers from 0, in turn; default: all, by sampling.labels",
    )
    parser.add_argument(
        "--prompt",
        action="append",
        default=[],
        metavar="TEXT",
        help="any text, read by the network's text encoder; may be repeated, and they take turns",
    )
    parser.add_argument(
        "--to",
        metavar="PATH",
        help="FILE.png, a grid (the default, OUT/samples/KEY.png); FILE.npz, arr_0 (N, H, W, C) and arr_1, the "
        "numbers of classes or prompts; or a folder of PNGs, which goes on where it stopped",
    )


def check(arguments: argparse.Namespace) -> None:
    from harness.trials.trained import network_and_settings

    if arguments.prompt and arguments.classes:
        raise UserError("--classes and --prompt both say what samples are to show; give one of them")
    if arguments.count < 1:
        raise UserError(f"--count is at least 1, not {arguments.count}")
    for key in (text.partition("=")[0].lstrip("+~") for text in arguments.overrides):
        if key.split(".")[0] not in GROUPS and key not in SINGLE:
            listed = ", ".join([*(f"{group}.SETTING" for group in GROUPS), *SINGLE])
            raise UserError(f"samples depend on {listed}, not on {key}; leave it out")
    arguments.trained, arguments.settings = network_and_settings(arguments.name, arguments.overrides)
    default = arguments.settings.out / "samples" / f"{arguments.trained.key}.png"
    arguments.target = Path(arguments.to) if arguments.to else default
    _check_target(arguments.target, arguments.count)


def run(arguments: argparse.Namespace) -> int:
    from harness.records.store import check_writable
    from harness.trials.sample_files import write_samples
    from harness.trials.sampling_run import sampling_run

    trained: TrainedNetwork = arguments.trained
    check_writable(arguments.target)
    if trained.record is None:
        whose = (
            f"{trained.weights} is of no trial: others trained it"
            if trained.by_others
            else f"trial {trained.key} of {trained.weights} is in no store here"
        )
        print(
            f"note: {whose}, so the settings of sampling are the defaults, and not those that it was scored with; "
            "sampling=NAME or sampling.SETTING=VALUE changes them",
            file=sys.stderr,
        )
    texts = list(dict.fromkeys(arguments.prompt))
    run = sampling_run(trained, arguments.settings, arguments.count, arguments.classes, texts)
    write_samples(run, arguments.target)
    for number, text in enumerate(texts):
        print(f"{number}: {text}")
    print(arguments.target)
    return 0


VERB = Verb(
    summary="sample a trained network: a grid, a folder of PNGs, or an npz",
    name="a trial's key or its first digits, a study that trained one network, a trial's ema.safetensors, or a "
    "promoted YAML",
    operands="WHAT",
    repeated=("--prompt",),
    example="harness sample 0f3a --classes 3 7 --count 16 sampling.steps=50",
    flags=flags,
    check=check,
    run=run,
)


def _check_target(path: Path, count: int) -> None:
    """UserError where samples cannot go there."""
    if path.suffix not in ("", ".png", ".npz"):
        raise UserError(f"--to is FILE.png (a grid), FILE.npz or a folder, whose name has no dot in it, not {path}")
    if path.suffix == ".png" and count > MOST_IN_GRID:
        raise UserError(f"a grid shows at most {MOST_IN_GRID} samples, not {count}; give a folder or an .npz with --to")
    if path.suffix and path.is_dir():
        raise UserError(f"--to {path} is a folder, and a file is to be written; rename one of them")
    if not path.suffix and path.is_file():
        raise UserError(f"--to {path} is a file, and a folder is to be written; give FILE.png, FILE.npz or a folder")
