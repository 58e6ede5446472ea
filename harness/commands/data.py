"""`harness data [NAME]`: what a data set consists of, and a picture of it."""

import argparse
from pathlib import Path

import numpy as np

from harness.commands.tables import table
from harness.data.dataset import load_dataset
from harness.data.images import ImageData, stack
from harness.records.store import check_file_writable
from harness.trials.images import write_grid
from harness.trials.prepared import cache_folder
from harness.trials.settings import settings_of

ROWS, COLUMNS = 8, 10


def run(arguments: argparse.Namespace) -> int:
    chosen = [f"data={arguments.name}"] if arguments.name else []
    settings = settings_of([*chosen, *arguments.overrides])
    path = Path(arguments.to) if arguments.to else settings.out / "data" / f"{settings.data.kind}.png"
    check_file_writable(path)
    data = load_dataset(settings.data, cache=cache_folder(settings.out))
    counts = [np.bincount(part.labels, minlength=len(data.class_names)) for part in (data.train, data.heldout)]
    rows = [(name, int(counts[0][k]), int(counts[1][k])) for k, name in enumerate(data.class_names)]
    title = f"{data.kind}: {data.size}x{data.size} pixels, {data.channels} channel(s), {data.fingerprint}"
    print(table(("class", "train", "held out"), [*rows, ("all", len(data.train), len(data.heldout))], title))
    print(f"unreadable files: {len(data.unreadable)}")
    for line in data.unreadable:
        print(f"  {line}")
    write_grid(stack(data.train, _spread(data)), path, columns=COLUMNS)
    print(path)
    return 0


def _spread(data: ImageData) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    """Indices of images spread evenly over the training part."""
    return np.unique(np.linspace(0, len(data.train) - 1, ROWS * COLUMNS).astype(np.int64))
