"""The local tracker: FOLDER/ID.jsonl, one JSON line a start, point and end, appended as they come."""

import json
import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.records.plain import to_plain
from harness.records.quantity import Quantity
from harness.records.record import CurvePoint
from harness.tracking.run import Run


class LocalSink:
    def __init__(self, run: Run, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"{run.id}.jsonl"
        self._write("start", **_mapping(to_plain(run)))

    def log(self, point: CurvePoint) -> None:
        # JSON has no NaN and no infinity: they are written as words
        value = point.value if math.isfinite(point.value) else str(point.value)
        self._write("point", step=point.step, name=point.name, value=value)

    def finish(self, quantities: Mapping[str, Quantity], images: Mapping[str, Path]) -> None:
        self._write("finish", quantities=to_plain(quantities), images=to_plain(images))

    def abort(self) -> None:
        self._write("abort")

    def _write(self, event: str, **more: Any) -> None:
        """One `write` a line: a kill leaves whole lines only."""
        line = json.dumps({"event": event, "time": time.time(), **more}, ensure_ascii=False) + "\n"
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)


def _mapping(plain: Any) -> dict[str, Any]:
    assert isinstance(plain, dict)
    return plain
