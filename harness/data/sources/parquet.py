"""Parquet files as Hugging Face's data sets are stored: pictures as encoded bytes, classes as numbers, names in the
schema.

    data/train-00000-of-00257.parquet, data/validation-..., data/test-...     columns `image` {bytes, path}, `label`

Files named train* are trained on; validation*, or else test*, is held out; without either a fraction is cut. They are
found as an image folder's are, at any depth and through links, and what is not read is counted.
"""

import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.data.config import ParquetConfig
from harness.data.images import ImageData
from harness.data.listing import Skipped, left_out, list_files
from harness.data.sources.blobs import Found, source_data
from harness.records.errors import UserError, first_line

EXTENSION = ".parquet"
HELDOUT = ("validation", "val", "test")  # how files begin; the first that is there is held out
GROUPS_KEPT = 16  # row groups that stay decompressed: threads read neighbours


@dataclass(frozen=True, slots=True)
class ParquetBlobs:
    names: Sequence[str]
    files: Sequence[Path]
    column: str
    places: NDArray[np.int64]  # (N, 3) file, row group, row in the group
    written: Sequence[int]  # when each file was, in ns: what is kept of one that was written anew is not of this one

    def read(self, number: int) -> bytes:
        file, group, row = self.places[number].tolist()
        content = _group(self.files[file], self.written[file], group, self.column)[row].as_py()
        if not isinstance(content, dict) or not content.get("bytes"):
            raise OSError("it has no bytes")
        return bytes(content["bytes"])

    def containers(self) -> Sequence[Path]:
        return self.files


@functools.lru_cache(maxsize=GROUPS_KEPT)
def _group(path: Path, _written: int, group: int, column: str) -> Any:
    return _opened(path).read_row_group(group, columns=[column]).column(0)


def _opened(path: Path) -> Any:
    try:
        from pyarrow import ArrowInvalid
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise UserError("parquet files need the package pyarrow; run: pip install 'unet-harness[parquet]'") from error
    try:
        return ParquetFile(path)
    except (OSError, ArrowInvalid) as error:
        raise UserError(f"{path} is no whole parquet file ({first_line(error)}); fetch it again") from error


def load_parquet(config: ParquetConfig, cache: Path | None) -> ImageData:
    """UserError for a folder without such files, for a file that lacks a column, and for a class without a name."""
    root = config.path
    if root is None:
        raise UserError("data=parquet needs the folder of the .parquet files; give data.path=FOLDER")
    files, held_files, skipped = _files(root)
    names: list[str] = []
    places, labels, held = [], [], []
    for number, path in enumerate(files):
        opened = _opened(path)
        _check_columns(path, opened.schema_arrow.names, config)
        for group in range(opened.num_row_groups):
            values = opened.read_row_group(group, columns=[config.label]).column(0).to_pylist()
            places += [(number, group, row) for row in range(len(values))]
            labels += values
            held += [path in held_files] * len(values)
            names += [f"{path.name}, group {group}, row {row}" for row in range(len(values))]
    classes, numbers = _classes(files[0], labels, config.label)
    listed = Found(
        blobs=ParquetBlobs(
            names,
            files,
            config.image,
            np.array(places, np.int64).reshape(-1, 3),
            [path.stat().st_mtime_ns for path in files],
        ),
        labels=numbers,
        heldout=np.array(held, bool) if held_files else None,
        class_names=classes,
        captions=config.captions,
        left_out=skipped,
    )
    return source_data(
        listed, kind=config.kind, size=config.size, crop=config.crop, fraction=config.heldout, where=root, cache=cache,
        by_caption=config.heldout_by == "caption",
    )  # fmt: skip


def _files(root: Path) -> tuple[list[Path], set[Path], tuple[Skipped, ...]]:
    """All that are read, those of them that are held out, and what else lies there."""
    listing = list_files(root, (EXTENSION,), lambda _: "not a parquet file's extension")
    there = sorted(root / name for name in listing.images)
    if not there:
        raise UserError(f"{root} has no {EXTENSION} files; give the folder that has them as data.path")
    train = _beginning(there, "train")
    part = next((name for name in HELDOUT if _beginning(there, name)), "")
    held = _beginning(there, part) if part else []
    read = [*train, *held] if train and held else train or there
    reason = f"only train* is trained on{f' and {part}* held out' if held else ''}, by the files' names"
    names = {path.relative_to(root).as_posix() for path in read}
    skipped = (*listing.skipped, *left_out(listing.images, names, reason, f"{EXTENSION} file"))
    return read, set(held) if train else set(), skipped


def _beginning(files: Sequence[Path], name: str) -> list[Path]:
    return [path for path in files if path.name.lower().startswith(name)]


def _check_columns(path: Path, columns: Sequence[str], config: ParquetConfig) -> None:
    for setting in ("image", "label"):
        if (name := getattr(config, setting)) not in columns:
            raise UserError(f"{path} has no column '{name}', but {', '.join(columns)}; give data.{setting}=COLUMN")


def _classes(path: Path, labels: Sequence[Any], column: str) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """The classes' names, and the class of every picture; texts are classes of their own."""
    if all(isinstance(label, str) for label in labels):
        texts = tuple(sorted(set(labels)))
        number = {text: index for index, text in enumerate(texts)}
        return texts, np.array([number[label] for label in labels], np.int64)
    if not all(isinstance(label, int) for label in labels):
        raise UserError(
            f"the column '{column}' in {path.parent} has values that are neither numbers nor texts; mend it"
        )
    metadata = _opened(path).schema_arrow.metadata or {}
    try:
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
        names = tuple(str(name) for name in features[column]["names"])
    except (KeyError, ValueError, TypeError):
        names = tuple(str(number) for number in range(max(labels) + 1))
    if wrong := [label for label in labels if not 0 <= label < len(names)]:
        raise UserError(f"{path.parent} has a picture of class {wrong[0]}, and names for {len(names)} classes; mend it")
    return names, np.array(labels, np.int64)
