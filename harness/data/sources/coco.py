"""COCO's pictures as they lie on disk, to score on what a publication's score is of.

    FOLDER/annotations/instances_val2017.json    "images": [{"file_name": "000000000139.jpg", "id": 139, ...}, ...]
    FOLDER/val2017/000000000139.jpg

Of the annotations only the list of pictures is read: `instances_`, `captions_`, `person_keypoints_` and `image_info_`
have the same. It says which pictures belong to the split, so that one that is missing is seen. They become squares as
the pictures do that were trained on; the paper's Tab. 2 does not say how its own did.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness.data.config import CocoConfig, Crop
from harness.data.crop import TRANSFORMS
from harness.data.sources.blobs import BlobImages, Slices, check_readable, digests_of
from harness.records.errors import UserError
from harness.records.plain import fingerprint
from harness.records.terminal import escaped

KINDS = ("instances", "captions", "person_keypoints", "image_info")
"""Of annotations, the first that is there."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CocoPictures:
    images: BlobImages
    fingerprint: str
    """Of the pictures' bytes and order, and of how they become squares."""


def coco_pictures(config: CocoConfig, *, size: int, crop: Crop, cache: Path | None) -> CocoPictures:
    """Every picture of the split, in the order of the annotations' ids; UserError where one is missing or not whole."""
    if config.path is None:
        raise UserError("task.scored_on needs COCO's folder; give 'task.scored_on={path: FOLDER}'")
    root = config.path.expanduser()
    names = _names(root, config.split)
    blobs = Slices.of_files(root / config.split, names)
    content = digests_of(blobs, root / config.split, cache).tobytes().hex()
    numbers = np.arange(len(names))
    images = BlobImages(blobs, numbers, np.zeros(len(names), np.int64), size, crop)
    check_readable(images, root / config.split, cache)
    identity = fingerprint([config.split, TRANSFORMS[crop], size, content], schema="coco-1")
    return CocoPictures(images=images, fingerprint=identity)


def _names(root: Path, split: str) -> list[str]:
    files = [root / "annotations" / f"{kind}_{split}.json" for kind in KINDS]
    path = next((file for file in files if file.is_file()), None)
    if path is None:
        raise UserError(
            f"{root} has none of annotations/{{{','.join(KINDS)}}}_{split}.json; give the folder that COCO's "
            "annotations/ and pictures lie in, and its split as task.scored_on.split"
        )
    try:
        listed = sorted((int(each["id"]), str(each["file_name"])) for each in json.loads(path.read_text())["images"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} has no list of COCO's images ({error!r}); fetch it again") from error
    names = [name for _, name in listed]
    if len(names) < 2:
        raise UserError(f"{path} lists {len(names)} pictures, and a score needs at least 2; give another split")
    missing = [name for name in names if not (root / split / name).is_file()]
    if missing:
        raise UserError(
            f"{len(missing)} of the {len(names)} pictures that {path} lists are not in {root / split}, such as "
            f"{escaped(missing[0])}; fetch them, since a score of some is not one of all"
        )
    return names
