"""ImageNet as it lies on disk. Which layout it is, is told by what is there:

    ILSVRC2012_img_train.tar, ILSVRC2012_img_val.tar, ILSVRC2012_devkit_t12.tar.gz     as image-net.org gives it
    ILSVRC/Data/CLS-LOC/train/WNID/, .../val/, LOC_val_solution.csv                    as Kaggle gives it
    train/WNID/, val/WNID/                                                             class folders
    WNID/                                                                              class folders of one part

The validation part is held out; of one part a fifth, by a hash of each picture. Tars are read in place: a picture is a
stretch of the file.
"""

import csv
import io
import re
import tarfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness.data.config import ImageNetConfig
from harness.data.images import ImageData
from harness.data.listing import Skipped, list_images
from harness.data.sources.blobs import Found, Slices, source_data
from harness.data.sources.wordnet import WNID, class_names_of
from harness.records.errors import UserError
from harness.records.terminal import escaped
from harness.records.text import text_lines

TRAIN_TAR, VAL_TAR, DEVKIT = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar", "ILSVRC2012_devkit_t12.tar.gz"
KAGGLE, SOLUTION = "ILSVRC/Data/CLS-LOC", "LOC_val_solution.csv"
TRAINING_PICTURES, VALIDATION_PICTURES = 1_281_167, 50_000  # of ILSVRC 2012 (Russakovsky et al. 2015, Tab. 2)
Picture = tuple[str, str, bool]
"""Name, WordNet id, whether it is held out."""


@dataclass(frozen=True, slots=True)
class OnDisk:
    pictures: Sequence[Picture]
    blobs: Slices
    left_out: tuple[Skipped, ...] = ()
    is_split: bool = True


def load_imagenet(config: ImageNetConfig, cache: Path | None) -> ImageData:
    """UserError for a folder in none of the layouts, and for one of which something is missing."""
    root = config.path
    if root is None:
        raise UserError("data=imagenet needs the folder that it lies in; give data.path=FOLDER")
    if (root / TRAIN_TAR).exists():
        there = _tars(root)
    elif (root / KAGGLE).is_dir():
        there = _kaggle(root)
    elif (root / "train").is_dir() and (root / "val").is_dir():
        there = _class_folders(root, ("train", "val"))
    elif root.is_dir() and (folders := list_images(root).folders) and all(map(WNID.fullmatch, folders)):
        there = _class_folders(root, ("",))
    else:
        raise UserError(
            f"{root} has neither {TRAIN_TAR}, nor {KAGGLE}/, nor train/ beside val/, nor folders that "
            "are called by WordNet ids; give the folder of one of these layouts as data.path"
        )
    files = _found(root, there)
    return source_data(
        files, kind=config.kind, size=config.size, crop=config.crop, fraction=None, where=root, cache=cache
    )


def _found(root: Path, there: OnDisk) -> Found:
    pictures = there.pictures
    wnids = sorted({wnid for _, wnid, heldout in pictures if not heldout})
    number = {wnid: index for index, wnid in enumerate(wnids)}
    if new := sorted({wnid for _, wnid, _ in pictures} - set(wnids)):
        raise UserError(
            f"{root} holds out pictures of the class {new[0]}, of which it has no training pictures; add some"
        )
    return Found(
        blobs=there.blobs,
        labels=np.array([number[wnid] for _, wnid, _ in pictures], np.int64),
        heldout=np.array([heldout for *_, heldout in pictures], bool) if there.is_split else None,
        class_names=class_names_of(wnids),
        class_folders=tuple(wnids),
        left_out=there.left_out,
    )


def _class_folders(root: Path, parts: Sequence[str]) -> OnDisk:
    pictures, left_out = [], []
    for part in parts:
        names, skipped = _images(root / part)
        pictures += [(f"{part}/{name}" if part else name, name.split("/")[0], part == "val") for name in names]
        left_out += skipped
    blobs = Slices.of_files(root, [name for name, *_ in pictures])
    return OnDisk(pictures, blobs, tuple(left_out), is_split=len(parts) > 1)


def _kaggle(root: Path) -> OnDisk:
    solution = root / SOLUTION
    try:
        rows = list(csv.DictReader(text_lines(solution)))
        classes = {row["ImageId"]: row["PredictionString"].split()[0] for row in rows}
    except (UserError, csv.Error, KeyError, IndexError, AttributeError) as error:
        raise UserError(
            f"{solution} does not say the classes of the validation pictures ({error!r}); fetch it again"
        ) from error
    if len(classes) < len(rows):
        twice = next(name for name, count in Counter(row["ImageId"] for row in rows).items() if count > 1)
        raise UserError(f"{solution} has {escaped(twice)} in two lines; fetch it again")
    names, skipped = _images(root / KAGGLE / "train")
    train = [(f"train/{name}", name.split("/")[0], False) for name in names]
    held = list_images(root / KAGGLE / "val")
    if unknown := [name for name in held.images if Path(name).stem not in classes]:
        raise UserError(f"{solution} has no class for the picture {unknown[0]}; fetch it again")
    pictures = [*train, *((f"val/{name}", classes[Path(name).stem], True) for name in held.images)]
    blobs = Slices.of_files(root / KAGGLE, [name for name, *_ in pictures])
    return OnDisk(pictures, blobs, (*skipped, *held.skipped))


def _images(folder: Path) -> tuple[list[str], list[Skipped]]:
    """Those in class folders, which are called by WordNet ids; and what is no picture."""
    listing = list_images(folder)
    if odd := [name for name in listing.images if not WNID.fullmatch(name.split("/")[0])]:
        raise UserError(
            f"{folder / odd[0]} lies in no folder that is called by a WordNet id, such as n01440764; move it"
        )
    return listing.images, listing.skipped


def _tars(root: Path) -> OnDisk:
    classes = _validation_classes(root / DEVKIT)
    train, val = root / TRAIN_TAR, root / VAL_TAR
    pictures: list[Picture] = []
    places: list[tuple[int, int, int]] = []
    for wnid, name, offset, size in _inner_members(train):
        pictures.append((f"{train.name}/{wnid}/{name}", wnid, False))
        places.append((0, offset, size))
    with val.open("rb") as file:
        held = sorted(_members(val, file))
    if len(held) != len(classes):
        raise UserError(
            f"{val} holds {len(held)} pictures, and {DEVKIT} says the classes of {len(classes)}; fetch them again"
        )
    for name, offset, size in held:
        pictures.append((f"{val.name}/{name}", classes[_number(name)], True))
        places.append((1, offset, size))
    file_of, offsets, sizes = np.array(places, np.int64).T
    return OnDisk(pictures, Slices([name for name, *_ in pictures], [train, val], file_of, offsets, sizes))


def _inner_members(path: Path) -> list[tuple[str, str, int, int]]:
    """(wnid, name, offset, size) of every picture of the tar of tars, one a class."""
    members = []
    with path.open("rb") as file:
        for outer, offset, size in sorted(_members(path, file)):
            wnid = Path(outer).stem
            if not WNID.fullmatch(wnid):
                raise UserError(f"{path} holds {outer}, which is no class's tar, such as n01440764.tar; fetch it again")
            file.seek(offset)
            inner = io.BytesIO(file.read(size))
            members += [(wnid, name, offset + at, length) for name, at, length in sorted(_members(path, inner))]
    return members


def _members(path: Path, file: Any) -> list[tuple[str, int, int]]:
    """(name, offset of its bytes, size) of a tar's files."""
    try:
        with tarfile.open(fileobj=file, mode="r:") as archive:
            return [(Path(member.name).name, member.offset_data, member.size) for member in archive if member.isfile()]
    except (tarfile.TarError, OSError, EOFError) as error:
        raise UserError(f"{path} is no whole tar ({error}); fetch it again") from error


def _number(name: str) -> int:
    """ILSVRC2012_val_00000007.JPEG is the 7th."""
    match = re.search(r"_(\d+)\.", name)
    return int(match[1]) if match else 0


def _validation_classes(path: Path) -> Mapping[int, str]:
    """Number of a validation picture, from 1 -> its WordNet id, by the devkit's class numbers and its meta.mat."""
    from scipy.io import loadmat

    try:
        with tarfile.open(path) as archive:
            files = {Path(member.name).name: archive.extractfile(member) for member in archive if member.isfile()}
            contents = {name: file.read() for name, file in files.items() if file is not None}
        truth = contents["ILSVRC2012_validation_ground_truth.txt"].decode().split()
        synsets = loadmat(io.BytesIO(contents["meta.mat"]), squeeze_me=True)["synsets"]
        leaves = [each for each in synsets if int(each["num_children"]) == 0]
        wnids = {int(each["ILSVRC2012_ID"]): str(each["WNID"]) for each in leaves}
        return {place: wnids[int(number)] for place, number in enumerate(truth, start=1)}
    except (tarfile.TarError, OSError, EOFError, KeyError, ValueError) as error:
        raise UserError(
            f"{path} does not say the classes of the validation pictures ({error!r}); fetch it again"
        ) from error
