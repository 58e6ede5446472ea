"""Prepared data: what a network sees of every picture, computed once and mapped into memory by training.

    FOLDER/plan.json           what is to be made of which source; written first, and never changed
    FOLDER/index.npy           the classes of all pictures, and which training pictures are kept as pictures
    FOLDER/SHARD-00000.npy     rows of equal size, in the source's order; SHARD is one of
        train, heldout             latents: float16 (L, h, w), or (2 L, h, w), mean and standard deviation, where the
                                   encoder is a distribution; uint8 pixels where there is no autoencoder
        train-flipped              the same of the mirrored pictures, where asked for
        pictures-heldout           uint8 (3, H, W): what scores compare with
        pictures-train             the same of some training pictures, balanced over the classes
    FOLDER/log.jsonl           one line a shard that was made, in the order of time; only ever appended to
    FOLDER/manifest.json       the plan, what came of it, and a checksum a shard; written last

Latents are shifted and scaled: training reads rows and does nothing to them but draw. A folder without a manifest is
half done, and one whose files are not those of its manifest is damaged; both are refused by name.
"""

import functools
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.data.config import Crop, PreparedConfig
from harness.data.images import ImageData
from harness.data.rows import Latents, Rows
from harness.records.errors import UserError
from harness.records.plain import fingerprint, from_plain
from harness.records.store import file_sha256

FORMAT = "prepared-1"
PLAN, INDEX, MANIFEST, LOG = "plan.json", "index.npy", "manifest.json", "log.jsonl"
TRAIN, FLIPPED, HELDOUT = "train", "train-flipped", "heldout"
PICTURES = {TRAIN: "pictures-train", HELDOUT: "pictures-heldout"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """A series of shards."""

    rows: int
    shape: tuple[int, ...]
    """Of a row."""
    type: str
    """NumPy's name of a value's type."""

    def shard_rows(self, number: int, shard: int) -> range:
        """The rows of shard `number`, of `shard` rows each but the last."""
        return range(number * shard, min((number + 1) * shard, self.rows))

    def shards(self, shard: int) -> int:
        return -(-self.rows // shard)


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What is to be made. Two plans that are equal make equal bytes on one machine."""

    format: str
    source: Mapping[str, Any]
    """Kind, size, channels and fingerprint of the pictures that it was made of."""
    crop: Crop
    class_names: tuple[str, ...]
    class_folders: tuple[str, ...]
    captions: bool = False
    """Whether `class_names` are captions."""
    autoencoder: Mapping[str, Any]
    """Its identity, with the measured scale where its files say none."""
    shard: int
    """Rows of a shard."""
    batch: int
    """Pictures encoded together, cut at multiples of it: another number rounds otherwise."""
    parts: Mapping[str, Part]
    index_sha256: str
    """Of index.npy."""

    @property
    def is_sampled(self) -> bool:
        return self.autoencoder.get("encoding") == "sampled"

    @property
    def shards(self) -> dict[str, tuple[str, range]]:
        """File name -> its part and which of the part's rows it has; training's latents last, as the largest."""
        order = sorted(self.parts, key=lambda name: (name in (TRAIN, FLIPPED), name))
        return {
            f"{name}-{number:05d}.npy": (name, self.parts[name].shard_rows(number, self.shard))
            for name in order
            for number in range(self.parts[name].shards(self.shard))
        }

    @property
    def fingerprint(self) -> str:
        """Of what is in the folder, not of how it was cut or computed."""
        content = [self.source, self.autoencoder, FLIPPED in self.parts, self.parts[TRAIN].type, self.index_sha256]
        return fingerprint(content, schema=self.format)


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    plan: Plan
    sha256: Mapping[str, str]
    """Of each shard's file."""
    remarks: tuple[str, ...]
    """What of the source was left out or read otherwise than one may think."""
    provenance: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Index:
    train_labels: NDArray[np.int64]
    heldout_labels: NDArray[np.int64]
    train_pictures: NDArray[np.int64]
    """The numbers of the training pictures that are kept as pictures, sorted."""

    def content(self) -> bytes:
        """Of the file; equal indices make equal bytes."""
        parts = (self.train_labels, self.heldout_labels, self.train_pictures)
        buffer = io.BytesIO()
        np.save(buffer, np.concatenate([[len(part) for part in parts], *parts]).astype(np.int64))
        return buffer.getvalue()

    @classmethod
    def read(cls, path: Path, sha256: str) -> "Index":
        """UserError for a file that is missing, or has another content than the plan says."""
        if not path.is_file() or file_sha256(path) != sha256:
            raise _damaged(path, "it is missing, or not what was written")
        values: NDArray[np.int64] = np.load(path, allow_pickle=False)
        train, heldout, pictures = np.split(values[3:], np.cumsum(values[:2]))
        return cls(train_labels=train, heldout_labels=heldout, train_pictures=pictures)


def load_prepared(config: PreparedConfig) -> ImageData:
    """The folder's pictures, with its latents beside them. UserError for one that is half done, damaged or foreign."""
    folder = folder_of(config)
    manifest = read_manifest(folder)
    plan = manifest.plan
    check_files(folder, plan)
    index = Index.read(folder / INDEX, plan.index_sha256)
    doubled = [TRAIN, FLIPPED] if FLIPPED in plan.parts else [TRAIN]
    latents = Latents(
        train=_rows(folder, plan, doubled, np.tile(index.train_labels, len(doubled))),
        heldout=_rows(folder, plan, [HELDOUT], index.heldout_labels),
        fingerprint=plan.fingerprint,
        autoencoder=plan.autoencoder,
        is_sampled=plan.is_sampled,
        pictures=index.train_pictures,
    )
    return ImageData(
        kind=config.kind,
        channels=plan.source["channels"],
        size=plan.source["size"],
        class_names=plan.class_names,
        class_folders=plan.class_folders,
        captions=plan.captions,
        train=_rows(folder, plan, [PICTURES[TRAIN]], index.train_labels[index.train_pictures]),
        heldout=_rows(folder, plan, [PICTURES[HELDOUT]], index.heldout_labels),
        fingerprint=plan.fingerprint,
        crop=plan.crop,
        remarks=manifest.remarks,
        training_labels=index.train_labels,
        latents=latents,
    )


def folder_of(config: PreparedConfig) -> Path:
    if config.path is None:
        raise UserError("data=prepared needs the folder that `harness data prepare` filled; give data.path=FOLDER")
    return config.path


def _rows(folder: Path, plan: Plan, parts: Sequence[str], labels: NDArray[np.int64]) -> Rows:
    files = {name: rows for part in parts for name, (owner, rows) in plan.shards.items() if owner == part}
    counts = np.array([len(rows) for rows in files.values()], np.int64)
    return Rows(tuple(folder / name for name in files), np.cumsum(counts) - counts, labels)


def read_manifest(folder: Path) -> Manifest:
    """UserError for a folder that is half done, or none of `harness data prepare`."""
    path = folder / MANIFEST
    if not path.is_file():
        plan = read_plan(folder)
        if plan is None:
            raise UserError(
                f"{folder} is no folder of prepared data: it has no {MANIFEST}; give data.path=FOLDER as "
                "`harness data prepare NAME to=FOLDER` filled it"
            )
        done = sum((folder / name).is_file() for name in plan.shards)
        raise UserError(
            f"{folder} is half done, {done:,} of {len(plan.shards):,} shards; run the same `harness data prepare` again"
        )
    manifest: Manifest = _read(path, Manifest)
    if manifest.plan.format != FORMAT:
        raise UserError(f"{path} has the format {manifest.plan.format}, and this version reads {FORMAT}; prepare anew")
    return manifest


def read_plan(folder: Path) -> Plan | None:
    """The plan of a folder that was begun; None where there is none."""
    return _read(folder / PLAN, Plan) if (folder / PLAN).is_file() else None


def _read(path: Path, kind: type[Any]) -> Any:
    try:
        return from_plain(kind, json.loads(path.read_text()))
    except (OSError, ValueError, UserError) as error:
        raise UserError(
            f"{path} is not what `harness data prepare` wrote ({error}); prepare into another folder"
        ) from (error)


def check_files(folder: Path, plan: Plan) -> None:
    """Every shard is there with its size in bytes; `check_sums` reads them."""
    for name, (part, rows) in plan.shards.items():
        path = folder / name
        try:
            size = path.stat().st_size
        except OSError as error:
            raise _damaged(path, "it is missing") from error
        if size != (expected := _bytes(plan.parts[part], len(rows))):
            raise _damaged(path, f"{size:,} bytes, where {expected:,} were written")


def check_sums(folder: Path, manifest: Manifest, names: Iterable[str]) -> None:
    """The contents are those that were written."""
    for name in names:
        if file_sha256(folder / name) != manifest.sha256.get(name):
            raise _damaged(folder / name, "its content is not what was written")


def _damaged(path: Path, why: str) -> UserError:
    remove = f"that file and {MANIFEST}" if path.exists() else MANIFEST
    return UserError(
        f"the prepared data in {path.parent} are damaged: {path.name}: {why}; remove {remove}, and run the "
        "same `harness data prepare` again"
    )


def _bytes(part: Part, rows: int) -> int:
    """Of a shard's file: its header and its rows."""
    header = _header_size(part.type, (rows, *part.shape))
    return header + rows * int(np.prod(part.shape)) * np.dtype(part.type).itemsize


@functools.cache
def _header_size(type_name: str, shape: tuple[int, ...]) -> int:
    """Of the .npy format, version 1: padded to a multiple of 64 bytes."""
    buffer = io.BytesIO()
    description = {"descr": np.lib.format.dtype_to_descr(np.dtype(type_name)), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, description)
    return buffer.tell()
