"""Which studies were begun below an output folder. A study's folder is OUT/NAME: `sweep.json` in it says sweep,
`manifest.json` ablation."""

from collections.abc import Sequence
from pathlib import Path

from harness.records.manifest import MANIFEST_FILE
from harness.search.storage import SWEEP_FILE

MARKS = (SWEEP_FILE, MANIFEST_FILE)


def begun(out: Path, marks: Sequence[str] = MARKS) -> list[str]:
    """The names of the folders in `out` that hold one of the `marks`, sorted."""
    if not out.is_dir():
        return []
    return sorted({path.parent.name for mark in marks for path in out.glob(f"*/{mark}")})
