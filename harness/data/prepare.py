"""Fill a folder of prepared data (`harness.data.prepared` has its format): every picture encoded once, shard by shard.

A shard is a function of the plan and of its rows alone, and appears whole or not at all. So whoever makes it, and after
how many kills, its bytes are the same, and only shards that are missing are made. Pictures are decoded by threads while
the autoencoder encodes, a fixed batch at a time; memory holds one shard's rows.
"""

import hashlib
import json
import os
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from harness.data.images import ImageData, Images, balanced_choice
from harness.data.prepared import (
    FLIPPED,
    FORMAT,
    HELDOUT,
    INDEX,
    LOG,
    MANIFEST,
    PICTURES,
    PLAN,
    TRAIN,
    Index,
    Manifest,
    Part,
    Plan,
    check_files,
    check_sums,
    read_manifest,
    read_plan,
)
from harness.models.autoencoder import (
    Autoencoder,
    check_standard_deviation,
    describe,
    load_codec,
    load_matching,
    measured_scale,
    raw_latents,
)
from harness.models.autoencoder_config import AutoencoderConfig
from harness.models.codec import Description, Scale
from harness.processes.locks import FileLock, holder
from harness.records.errors import UserError
from harness.records.eta import with_eta
from harness.records.lines import append_line, whole_lines
from harness.records.plain import differences, to_plain
from harness.records.provenance import provenance
from harness.records.store import appearing, file_sha256, write_atomic

LOCK = "preparing.lock"
AHEAD = 4  # batches of pictures that are decoded before they are encoded
PICTURES_KEPT = 5000  # training pictures, by default


@dataclass(frozen=True, kw_only=True, slots=True)
class PrepareConfig:
    """How a folder is filled."""

    to: Path
    """The folder."""
    flips: bool = False
    """Encode the mirrored picture too: an autoencoder's latent of it is not the mirrored latent."""
    shard: int = 1024
    """Rows of a shard: what a kill loses, and what one file holds."""
    batch: int = 32
    """Pictures encoded together."""
    pictures: int | None = PICTURES_KEPT
    """So many training pictures, balanced over the classes, are kept as pictures for scores: for the floor, for the
    classifier, and for quality.reference=train. null: all. The held-out ones are all kept."""
    job_shards: int | None = None
    """null: all in this process; a number: the launcher's jobs make so many shards each."""
    scale_pictures: int = 512
    """Training pictures that the latents' scale is measured on, where the autoencoder's files say none; and that show
    whether it is right, where they say one."""

    def __post_init__(self) -> None:
        least = {"shard": 1, "batch": 1, "scale_pictures": 2, "pictures": 2, "job_shards": 1}
        for name, bound in least.items():
            value = getattr(self, name)
            if value is not None and value < bound:
                raise UserError(f"{name} is a whole number from {bound}, not {value}")


Encode = Callable[[Tensor], Tensor]
"""uint8 pictures (B, C, H, W) -> rows as they are stored, on the CPU."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Preparation:
    """A folder, what is to be in it, and the pictures that it is made of."""

    folder: Path
    plan: Plan
    index: Index
    data: ImageData

    @property
    def missing(self) -> list[str]:
        """The shards that are not there, in the order in which they are made."""
        return [name for name in self.plan.shards if not (self.folder / name).is_file()]

    def make(self, name: str, encode: Encode) -> None:
        """The shard of that name; and its line in the log, once it is there."""
        part, rows = self.plan.shards[name]
        images, numbers = self._pictures_of(part, rows)
        shape = (len(rows), *self.plan.parts[part].shape)
        latents = np.empty(shape, np.dtype(self.plan.parts[part].type))
        store = (lambda batch: batch) if part in PICTURES.values() else encode
        at = 0
        for batch in _batches(images, numbers, self.plan.batch):
            mirrored = batch.flip(-1) if part == FLIPPED else batch
            latents[at : at + len(batch)] = store(mirrored).numpy()
            at += len(batch)
        with appearing(self.folder / name) as file:
            np.lib.format.write_array(file, latents, version=(1, 0), allow_pickle=False)
        self.log(name, "made")

    def log(self, name: str, event: str) -> None:
        line = {
            "shard": name, "event": event, "sha256": file_sha256(self.folder / name), "time": time.time(),
            "pid": os.getpid(), "host": socket.gethostname(),
        }  # fmt: skip
        append_line(self.folder / LOG, line)

    def logged(self) -> dict[str, str]:
        """Shard -> the sum that the log has of it; of a line that was cut short none: its shard is found anew."""
        lines = whole_lines(self.folder / LOG)
        return {line["shard"]: line["sha256"] for line in lines if {"shard", "sha256"} <= line.keys()}

    def finish(self) -> None:
        """The manifest, once every shard is there; a shard that a kill kept from the log is added to it."""
        for name in self.plan.shards.keys() - self.logged().keys():
            self.log(name, "found")
        check_files(self.folder, self.plan)
        sums = self.logged()
        manifest = Manifest(
            plan=self.plan,
            sha256={name: sums[name] for name in self.plan.shards},
            remarks=(self.data.warning,) if self.data.warning else (),
            provenance=provenance(),
        )
        write_atomic(self.folder / MANIFEST, json.dumps(to_plain(manifest), indent=1).encode())

    def _pictures_of(self, part: str, rows: range) -> tuple[Images, Sequence[int]]:
        if part == PICTURES[TRAIN]:
            return self.data.train, [int(number) for number in self.index.train_pictures[rows.start : rows.stop]]
        return (self.data.heldout if part in (HELDOUT, PICTURES[HELDOUT]) else self.data.train), rows


Fill = Callable[[Preparation], None]
"""Makes the missing shards."""


def prepare_data(
    config: PrepareConfig,
    data: ImageData,
    autoencoder: AutoencoderConfig,
    device: torch.device,
    fill: Fill | None = None,
) -> Preparation:
    """Fill the folder with what is missing of it, by `fill` or in this process. Of one that is whole, check every sum.

    Raises UserError for a folder that holds something else, or that another process fills, and for pictures that the
    autoencoder cannot take.
    """
    lock = FileLock.acquire(config.to / LOCK, wait_s=0.5)
    if lock is None:
        other = holder(config.to / LOCK)
        raise UserError(
            f"process {other.get('pid')} on {other.get('host')} already fills {config.to}; wait for it, or give "
            "another folder, to=FOLDER"
        )
    with lock:
        preparation = begin(config, data, autoencoder, device)
        if (config.to / MANIFEST).is_file():
            names = preparation.plan.shards
            check_files(config.to, preparation.plan)
            check_sums(config.to, read_manifest(config.to), with_eta(names, f"checking {config.to}", len(names)))
            return preparation
        if preparation.missing:
            (fill or _fill_here(autoencoder, device))(preparation)
        preparation.finish()
    return preparation


def _fill_here(autoencoder: AutoencoderConfig, device: torch.device) -> Fill:
    """One shard after another, in this process."""

    def fill(preparation: Preparation) -> None:
        encode, missing = encoder_of(preparation.plan, autoencoder, device), preparation.missing
        for name in with_eta(missing, f"filling {preparation.folder}, in shards", len(missing)):
            preparation.make(name, encode)

    return fill


def begin(config: PrepareConfig, data: ImageData, autoencoder: AutoencoderConfig, device: torch.device) -> Preparation:
    """The plan, as the folder has it or written into it; UserError where the folder holds another one."""
    if data.latents is not None:
        raise UserError("data=prepared is prepared already; name the data that it is to be made of")
    description = describe(autoencoder)
    existing = read_plan(config.to)
    if existing is None:
        _check_empty(config.to)
    index = _index(data, config.pictures)
    scale = _known_scale(existing, description)
    if scale is None:
        scale = _scale(description, autoencoder, data, config, device)
    plan = _plan(config, data, description, scale, index)
    if existing is None:
        write_atomic(config.to / INDEX, index.content())
        write_atomic(config.to / PLAN, json.dumps(to_plain(plan), indent=1).encode())
    elif changed := differences(to_plain(existing), to_plain(plan)):
        raise UserError(
            f"{config.to} holds another preparation ({'; '.join(map(str, changed[:3]))}); give another folder, "
            "to=FOLDER, or the settings and the pictures that it was begun with"
        )
    return Preparation(folder=config.to, plan=plan, index=index, data=data)


def encoder_of(plan: Plan, autoencoder: AutoencoderConfig, device: torch.device) -> Encode:
    """What makes rows of pictures; the autoencoder is loaded."""
    if plan.autoencoder["kind"] == "pixels":
        return lambda batch: batch
    loaded = load_matching(autoencoder, device, plan.autoencoder)
    return lambda batch: _stored(loaded, batch)


def _stored(autoencoder: Autoencoder, batch: Tensor) -> Tensor:
    """float16 (B, L, h, w), or (B, 2 L, h, w): means, then standard deviations."""
    encoded = autoencoder.encode(batch)
    rows = encoded.mean if encoded.std is None else torch.cat([encoded.mean, encoded.std], dim=1)
    if not bool(torch.isfinite(rows).all()):
        raise UserError("the autoencoder makes latents that are NaN or infinite of these pictures; give another one")
    return rows.half().cpu()


def _plan(config: PrepareConfig, data: ImageData, description: Description, scale: Scale | None, index: Index) -> Plan:
    latent = description.latent_shape(data.channels, data.size)
    is_sampled, picture = description.encoding == "sampled", (data.channels, data.size, data.size)
    stored = (2 * latent[0], *latent[1:]) if is_sampled else latent
    kind = "uint8" if description.is_pixels else "float16"
    parts = {
        TRAIN: Part(rows=len(data.train), shape=stored, type=kind),
        HELDOUT: Part(rows=len(data.heldout), shape=stored, type=kind),
        PICTURES[TRAIN]: Part(rows=len(index.train_pictures), shape=picture, type="uint8"),
        PICTURES[HELDOUT]: Part(rows=len(data.heldout), shape=picture, type="uint8"),
    }
    if config.flips:
        parts[FLIPPED] = parts[TRAIN]
    return Plan(
        format=FORMAT,
        source={"kind": data.kind, "size": data.size, "channels": data.channels, "content": data.fingerprint},
        crop=data.crop,
        class_names=data.class_names,
        class_folders=data.class_folders,
        captions=data.captions,
        autoencoder=description.identity(scale),
        shard=config.shard,
        batch=config.batch,
        parts=parts,
        index_sha256=hashlib.sha256(index.content()).hexdigest(),
    )


def _index(data: ImageData, pictures: int | None) -> Index:
    labels = data.train.labels
    kept = np.arange(len(labels)) if pictures is None else balanced_choice(labels, pictures)
    return Index(train_labels=labels, heldout_labels=data.heldout.labels, train_pictures=kept)


def _known_scale(existing: Plan | None, description: Description) -> Scale | None:
    """The one that was measured when the folder was begun."""
    measured = None if existing is None else existing.autoencoder.get("scale")
    if description.scale is None and isinstance(measured, list | tuple):
        return tuple(float(each) for each in measured)
    return None


def _scale(
    description: Description, config: AutoencoderConfig, data: ImageData, how: PrepareConfig, device: torch.device
) -> Scale | None:
    """The measured scale, of six digits, where the files say none; where they do, that it is right is checked."""
    if description.is_pixels:
        return None
    description.latent_shape(data.channels, data.size)
    codec = load_codec(config, device)
    numbers = np.unique(np.linspace(0, len(data.train) - 1, how.scale_pictures).astype(int)).tolist()
    shown = with_eta(_batches(data.train, numbers, how.batch), "measuring the latents", -(-len(numbers) // how.batch))
    raws = [raw_latents(codec, description, batch.to(device)) for batch in shown]
    scale = None
    if description.scale is None:
        scale = tuple(float(f"{each:.6g}") for each in measured_scale(raws, description))
    scaled = Autoencoder(description, codec, scale, device)
    check_standard_deviation(torch.cat([scaled.scaled(raw).mean.cpu() for raw in raws]), description)
    return scale


def _check_empty(folder: Path) -> None:
    others = sorted(path.name for path in folder.iterdir() if path.name != LOCK and not path.name.startswith("."))
    if others:
        raise UserError(
            f"{folder} holds something else than prepared data, such as {others[0]}; give an empty or a new folder, "
            "to=FOLDER"
        )


def _batches(images: Images, numbers: Sequence[int], size: int) -> Iterator[Tensor]:
    """The pictures of these numbers, uint8 (B, C, H, W), decoded by threads some batches ahead."""
    starts = deque(range(0, len(numbers), size))
    waiting: deque[list[Future[Tensor]]] = deque()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        try:
            while starts or waiting:
                while starts and len(waiting) < AHEAD:
                    start = starts.popleft()
                    chosen = numbers[start : start + size]
                    waiting.append([pool.submit(lambda number: images[number][0], int(each)) for each in chosen])
                yield torch.stack([future.result() for future in waiting.popleft()])
        finally:
            pool.shutdown(cancel_futures=True)
