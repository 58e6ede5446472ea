"""A folder of pictures with metadata.jsonl, one line a picture, as Hugging Face's `imagefolder` has it.

    {"file_name": "cat/1.png", "label": "cat"}      or      {"file_name": "1.png", "text": "a cat on a mat"}

`data.column` says which entry is the condition. Equal texts are one class, so a caption is embedded once however many
pictures it has; data.captions=true says that they are captions. A folder of train/ and validation/ or test/, each with
its own metadata.jsonl, is used as given.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from harness.data.config import MetadataConfig
from harness.data.images import ImageData
from harness.data.listing import HELDOUT_NAMES, TRAIN_NAMES, Skipped, left_out, list_images
from harness.data.sources.blobs import Found, Slices, source_data
from harness.records.errors import UserError

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
    found = Found(
        blobs=Slices.of_files(root, names),
        labels=np.array([number[text] for text in texts], np.int64),
        heldout=np.array(held, bool) if len(parts) > 1 else None,
        class_names=classes,
        ordered=False,
        captions=config.captions,
        left_out=tuple(_unnamed(root, [part for part, _ in parts], set(names))),
    )
    return source_data(
        found, kind=config.kind, size=config.size, crop=config.crop, fraction=config.heldout, where=root, cache=cache,
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
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            name, text = entry["file_name"], entry[column]
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{path}, line {number}: no mapping with 'file_name' and '{column}' ({error!r}); mend it, or name "
                "another entry, data.column=NAME"
            ) from error
        if not (path.parent / name).is_file():
            raise UserError(f"{path}, line {number}: the picture {name} is not there; add it, or take the line out")
        condition = "" if text is None else " ".join(str(text).split())
        if not condition:
            raise UserError(f"{path}, line {number}: '{column}' of {name} is empty; write it, or take the line out")
        found.append((str(name), condition))
    return found
