"""The pictures of one score in parts: each is made once, whoever does it and however often they are killed.

    FOLDER/score.json             what the pictures, and what is kept of them, are functions of
    FOLDER/000064-000128.npz      what is kept of the pictures 64 to 127; appears whole or not at all
    FOLDER/000064-000128.lock     held by the process that makes them

A part is cut at multiples of what is made together (sampling's micro-batch) and of the extractor's batch, so its
numbers are those of all pictures at once, to the bit; and scores are computed of the parts in their order, so that the
number of workers changes nothing. What is kept are the extractor's layers that the metrics read, in float32, since the
sums of one part alone would be D x D for each group of the jackknife: of 50,000 pictures 0.41 GB where Inception's
2,048 features are all, 1.02 GB with its 2,023 spatial ones and 1,008 logits. They go when the score is there.

An append-only log has a line when a part is begun and one when it is there: the proof, after any number of kills, of
what was made how often.
"""

import io
import json
import math
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from harness.launch.events import log_part
from harness.measure.quality import Scorer
from harness.measure.quality_features import Features
from harness.measure.quality_reference import Reference
from harness.models.feature_extractor import BATCH
from harness.processes.locks import FileLock
from harness.records.errors import UserError
from harness.records.plain import canonical_json, fingerprint, to_plain
from harness.records.store import write_atomic

SCORE = "score.json"
KEY = "score"
"""Of a part's arrays: the score that it is of."""

Arrays: TypeAlias = Mapping[str, NDArray[Any]]


def part_ranges(count: int, micro_batch: int) -> list[range]:
    """The parts of the pictures 0..count-1, in their order."""
    size = math.lcm(micro_batch, BATCH)
    return [range(start, min(start + size, count)) for start in range(0, count, size)]


class Parts:
    """Those of one score. `identity` is plain and says all that a part is a function of but its indices."""

    def __init__(self, folder: Path, log: Path, identity: Mapping[str, Any], ranges: list[range]) -> None:
        self.folder, self.log, self.identity, self.ranges = folder, log, identity, ranges
        self.key = fingerprint(identity, schema="score-parts-1")

    @property
    def missing(self) -> list[range]:
        there = {path.name for path in self.folder.glob("*.npz")}
        return [part for part in self.ranges if self._file(part).name not in there]

    def has(self, part: range) -> bool:
        return self._file(part).is_file()

    def begin(self) -> None:
        """Before the first `make` of a process that nobody began for: remove what is of another score, and parts that
        are damaged, with a line for each. They are made anew."""
        if (why := self._foreign()) is not None:
            _say(f"{self.folder} holds {why}; its pictures are made anew")
            self.remove()
        for part in self.ranges:
            if self.has(part) and (why := self._damage(part)) is not None:
                _say(f"{self._file(part)} is {why}; it is made anew")
                self._file(part).unlink(missing_ok=True)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(self.folder / SCORE, json.dumps(to_plain(self.identity), indent=1).encode())

    def make(self, part: range, compute: Callable[[range], Arrays], is_over: Callable[[], bool]) -> bool:
        """Have the part, computed here if it is not there; False while another process computes it.

        `is_over` says whether the parts are not needed any more, because the score is there.
        """
        if self.has(part):
            return True
        lock = FileLock.acquire(self._file(part).with_suffix(".lock"))
        if lock is None:
            return False
        with lock:
            if not self.has(part) and not is_over():
                log_part(self.log, "began", self.key, part)
                self._write(part, compute(part))
                log_part(self.log, "made", self.key, part)
        return True

    def read(self, pictures: range | None = None) -> Iterator[tuple[range, Arrays]]:
        """Every part that has some of `pictures`, or all, in their order; one in memory at a time.

        UserError for one that was lost since it was made.
        """
        for part in self.ranges:
            if pictures is None or (part.start < pictures.stop and pictures.start < part.stop):
                try:
                    arrays = self._read(part)
                except (ValueError, FileNotFoundError) as error:
                    raise UserError(
                        f"{self._file(part)} was lost since it was made ({error}); run the same command again"
                    ) from error
                yield part, arrays

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def _file(self, part: range) -> Path:
        return self.folder / f"{part.start:06d}-{part.stop:06d}.npz"

    def _write(self, part: range, arrays: Arrays) -> None:
        buffer = io.BytesIO()
        np.savez(buffer, allow_pickle=False, **{**arrays, KEY: np.array(self.key)})
        write_atomic(self._file(part), buffer.getvalue(), synced=False)  # `_read` checks it

    def _read(self, part: range) -> Arrays:
        """ValueError says what is wrong with it."""
        try:
            with np.load(self._file(part)) as stored:
                arrays = {name: stored[name] for name in stored.files}  # checks the sum of each
        except FileNotFoundError:
            raise
        except Exception as error:  # whatever NumPy and zip files raise of damaged bytes
            raise ValueError(f"damaged ({type(error).__name__}: {error})") from error
        if str(arrays.pop(KEY, "")) != self.key:
            raise ValueError("of another score")
        if any(len(array) != len(part) for array in arrays.values()):
            raise ValueError(f"damaged (it does not have {len(part)} pictures)")
        return arrays

    def _damage(self, part: range) -> str | None:
        try:
            self._read(part)
        except ValueError as error:
            return str(error)
        except FileNotFoundError:  # another process has the score, and removed it
            return None
        return None

    def _foreign(self) -> str | None:
        """What the folder holds, where that is not this score."""
        path = self.folder / SCORE
        if not path.is_file():
            return None
        try:
            identity = json.loads(path.read_text())
        except ValueError:
            return "a damaged score.json"
        return None if canonical_json(identity) == canonical_json(self.identity) else "another score"


def scorer_of(parts: Parts, labels: Tensor, reference: Reference) -> Scorer:
    """What scores the pictures with these labels, of the features that the parts have, in their order."""
    scorer = Scorer(reference, labels)
    for part, arrays in parts.read():
        scorer.put(Features.of_arrays(arrays, reference), part)
    return scorer


def _say(text: str) -> None:
    print(text, file=sys.stderr)
