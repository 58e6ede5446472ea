"""A folder to try things in: it shows what an output folder holds, and takes what is written, until it goes."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SHOWN = ("cache", "store/trials", "store/measurements")


@contextmanager
def scratch(out: Path) -> Iterator[Path]:
    """A temporary output folder whose cache and records are those of `out`, file by file. Whoever writes a file writes
    it by rename, so its link goes and the file of `out` stays."""
    with tempfile.TemporaryDirectory(prefix="harness-dry-run-") as place:
        for part in SHOWN:
            _link(out.absolute() / part, Path(place) / part)
        yield Path(place)


def _link(source: Path, target: Path) -> None:
    for folder, _, files in os.walk(source, followlinks=True):
        there = target / Path(folder).relative_to(source)
        there.mkdir(parents=True, exist_ok=True)
        for file in files:
            (there / file).symlink_to(Path(folder) / file)
