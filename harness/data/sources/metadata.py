"""A folder of pictures with metadata.jsonl, one line a picture, as Hugging Face's `imagefolder` has it.

    {"file_name": "cat/1.png", "label": "cat"}      or      {"file_name": "1.png", "text": "a cat on a mat"}

`data.column` says which entry is the condition. Equal texts are one class, so a caption is embedded once however many
pictures it has; data.captions=true says that they are captions. A folder of train/ and validation/ or test/, each with
its own metadata.jsonl, is used as given.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from harness.data.config import MetadataConfig
from harness.data.images import ImageData
from harness.data.listing import HELDOUT_NAMES, TRAIN_NAMES, Skipped, left_out, list_images
from harness.data.sources.blobs import Found, Slices, source_data
from harness.records.errors import UserError
from harness.records.terminal import escaped
from harness.records.text import text_lines

FILE = "metadata.jsonl"


def load_metadata(config: MetadataConfig, cache: Path | None) -> ImageData:
    """UserError for a line that is no such entry, and for a picture that is not there."""
    root = config.path
    if root is None:
        raise UserError(f"data=metadata needs the folder that {FILE} lies in; give data.path=FOLDER")
    parts = _parts(root)
    names, texts, held = [], [], []
    for part, is_heldout in parts:
        for name, text in _lines(root / part / FILE, config.column):
            names.append(f"{part}/{name}" if part else name)
            texts.append(text)
            held.append(is_heldout)
    classes = tuple(sorted(set(texts)))
    number = {text: index for index, text in enumerate(classes)}
    files = Found(
        blobs=Slices.of_files(root, names),
        labels=np.array([number[text] for text in texts], np.int64),
        heldout=np.array(held, bool) if len(parts) > 1 else None,
        class_names=classes,
        ordered=False,
        captions=config.captions,
        left_out=tuple(_unnamed(root, [part for part, _ in parts], set(names))),
    )
    return source_data(
        files, kind=config.kind, size=config.size, crop=config.crop, fraction=config.heldout, where=root, cache=cache,
        by_caption=config.heldout_by == "caption",
    )  # fmt: skip


def _parts(root: Path) -> Sequence[tuple[str, bool]]:
    """The folders with a metadata.jsonl, and whether each is held out."""
    if (root / FILE).is_file():
        return [("", False)]
    train = next((name for name in TRAIN_NAMES if (root / name / FILE).is_file()), None)
    held = next((name for name in HELDOUT_NAMES if (root / name / FILE).is_file()), None)
    if train is None or held is None:
        raise UserError(f"{root} has no {FILE}, nor one in train/ and one in validation/; give the folder that has it")
    return [(train, False), (held, True)]


def _unnamed(root: Path, parts: Sequence[str], names: set[str]) -> list[Skipped]:
    """The pictures that have no line."""
    there = [f"{part}/{name}" if part else name for part in parts for name in list_images(root / part).images]
    return left_out(there, names, f"no line of {FILE} names them")


def _lines(path: Path, column: str) -> list[tuple[str, str]]:
    """(file name, condition) of every line."""
    entries, line_of = [], dict[str, int]()
    for number, line in enumerate(text_lines(path), start=1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        name, condition = _entry(line, column, where)
        if not (path.parent / name).is_file():
            raise UserError(f"{where}: the picture {escaped(name)} is not there; add it, or take the line out")
        normal = os.path.normpath(name)  # ./1.png is 1.png
        if (first := line_of.setdefault(normal, number)) != number:
            raise UserError(f"{where}: the picture {escaped(name)} stands in line {first} too; keep one of them")
        entries.append((normal, condition))
    return entries


def _entry(line: str, column: str, where: str) -> tuple[str, str]:
    """(file name, condition) of a line; spaces in a condition are one."""
    try:
        entry = json.loads(line, object_pairs_hook=_without_repetition)
        name, value = entry["file_name"], entry[column]
    except _RepetitionError as error:
        raise UserError(f"{where}: the key '{escaped(str(error))}' stands twice; keep one of them") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(
            f"{where}: no mapping with 'file_name' and '{column}' ({error!r}); mend it, or name another entry, "
            "data.column=NAME"
        ) from error
    if not isinstance(name, str):
        raise UserError(f"{where}: 'file_name' is a text, not {name!r}; write the picture's name")
    if isinstance(value, list | dict):
        raise UserError(f"{where}: '{column}' of {escaped(name)} is one text, not {value!r}; write one")
    condition = "" if value is None else " ".join(str(value).split())
    if not condition:
        raise UserError(f"{where}: '{column}' of {escaped(name)} is empty; write it, or take the line out")
    return name, condition


class _RepetitionError(Exception):
    """Of a key, of which the json module would take the last."""


def _without_repetition(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    mapping: dict[str, Any] = {}
    for key, value in pairs:
        if key in mapping:
            raise _RepetitionError(key)
        mapping[key] = value
    return mapping
