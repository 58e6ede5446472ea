"""`harness data [NAME]`: what a data set consists of, and a picture of it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from harness.commands.verb import Verb
from harness.records.store import check_file_writable
from harness.records.terminal import table

if TYPE_CHECKING:
    import numpy as np

    from harness.data.images import ImageData

ROWS, COLUMNS = 8, 10
CAPTIONS_SHOWN = 20


def flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--to", metavar="FILE", help="where the grid of samples goes; default OUT/data/KIND.png")


def check(arguments: argparse.Namespace) -> None:
    from harness.trials.settings import settings_of

    settings_of([*([f"data={arguments.name}"] if arguments.name else []), *arguments.overrides])


def run(arguments: argparse.Namespace) -> int:
    from harness.data.dataset import load_dataset
    from harness.data.images import stack
    from harness.data.prompts import class_prompts
    from harness.trials.samples import write_grid
    from harness.trials.settings import settings_of
    from harness.trials.spec import cache_folder

    chosen = [f"data={arguments.name}"] if arguments.name else []
    settings = settings_of([*chosen, *arguments.overrides])
    path = Path(arguments.to) if arguments.to else settings.out / "data" / f"{settings.data.kind}.png"
    check_file_writable(path)
    data = load_dataset(settings.data, cache=cache_folder(settings.out))
    prompts = class_prompts(  # refuses classes that it reads alike
        settings.text, data.class_names, cache_folder(settings.out), captions=data.captions
    )
    title = f"{data.kind}: {data.size}x{data.size} pixels, {data.channels} channel(s), {data.fingerprint}"
    total = ("all", sum(data.class_sizes), len(data.heldout))
    print(table(("caption" if data.captions else "class", "train", "held out"), [*_rows(data), total], title))
    print(f"unreadable files: {len(data.unreadable)}")
    for line in data.unreadable:
        print(f"  {line}")
    for line in (*(f"left out: {each}" for each in data.left_out), *data.remarks, *prompts.remarks):
        print(line)
    write_grid(stack(data.train, _spread(data)), path, columns=COLUMNS)
    print(path)
    return 0


VERB = Verb(
    summary="describe a data set: sizes, classes, unreadable files, a grid of samples",
    name="a data set: digits, emoji, fashion_mnist, image_folder, imagenet, metadata, parquet, prepared",
    operands="[NAME]",
    example="harness data image_folder data.path=~/my_images",
    flags=flags,
    check=check,
    run=run,
)


def _rows(data: ImageData) -> list[tuple[str, object, object]]:
    """Of every class, how many pictures; of captions, of which most have one, some."""
    rows: list[tuple[str, object, object]] = list(
        zip(data.class_names, data.class_sizes, data.heldout_sizes, strict=True)
    )
    if not data.captions or len(rows) <= CAPTIONS_SHOWN:
        return rows
    return [*rows[:: -(-len(rows) // CAPTIONS_SHOWN)], (f"... of {len(rows):,} captions", "", "")]


def _spread(data: ImageData) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Indices of images spread evenly over the training part."""
    import numpy as np

    return np.unique(np.linspace(0, len(data.train) - 1, ROWS * COLUMNS).astype(np.int64))
