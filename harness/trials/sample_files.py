"""Samples as files: a grid for people, a folder of PNGs, or an npz; each file is there whole or not at all."""

import io
import json
import math
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from harness.diffusion.sampling import micro_batches
from harness.records.errors import UserError
from harness.records.eta import with_eta
from harness.records.plain import differences, to_plain
from harness.records.store import appearing, write_atomic
from harness.trials.samples import by_class, write_grid
from harness.trials.sampling_run import SamplingRun

MOST_COLUMNS = 12  # of a grid with a class a column
MANIFEST = "samples.json"
"""In a folder of PNGs: what its samples are."""
LONGEST_NAME = 60  # letters of a class in a file's name


def write_samples(run: SamplingRun, path: Path) -> None:
    """The run's samples at `path`, in the form that its name asks for; standard error says how far it is."""
    {".png": _write_grid, ".npz": _write_npz, "": _write_folder}[path.suffix](run, path)


def _write_grid(run: SamplingRun, path: Path) -> None:
    """Of 2 to 12 classes one a column, else in their order, as a square."""
    images = torch.stack([image for _, image in with_eta(run.images(), "sampling", len(run))])
    columns = math.ceil(math.sqrt(len(run)))
    if 1 < len(set(run.labels.tolist())) <= MOST_COLUMNS:
        images, columns = by_class(images, run.labels, rows=len(run), most_columns=MOST_COLUMNS)
    write_grid(images, path, columns=columns)


def _write_npz(run: SamplingRun, path: Path) -> None:
    """`arr_0`, uint8 (N, H, W, C), and `arr_1`, the class numbers int64 (N,): what guided-diffusion's samplers write
    and its evaluator reads. In constant memory, and the same bytes each time."""
    with appearing(path) as file, zipfile.ZipFile(file, "w") as archive:
        with archive.open("arr_0.npy", "w", force_zip64=True) as entry:
            for index, image in with_eta(run.images(), "sampling", len(run)):
                pixels = np.ascontiguousarray(image.permute(1, 2, 0).numpy())
                if index == 0:
                    _write_header(entry, (len(run), *pixels.shape))
                entry.write(pixels.tobytes())
        with archive.open("arr_1.npy", "w") as entry:
            np.lib.format.write_array(entry, run.labels.numpy())


def _write_header(entry: IO[bytes], shape: tuple[int, ...]) -> None:
    header = {"descr": np.lib.format.dtype_to_descr(np.dtype(np.uint8)), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(entry, header)


def _write_folder(run: SamplingRun, folder: Path) -> None:
    """`000012_red_car.png`: of those that lie there already, none is written again, nor sampled again but for those
    that share a micro-batch with a missing one. A larger N adds to the folder."""
    there = {path.name for path in folder.glob("*.png")} if folder.is_dir() else set()
    _check_folder(run, folder, there)
    write_atomic(folder / MANIFEST, json.dumps(to_plain(run.identity), indent=1, ensure_ascii=False).encode())
    names = [_file_name(run, index) for index in range(len(run))]
    missing = [index for index, name in enumerate(names) if name not in there]
    for index, image in with_eta(_computed(run, set(missing)), "sampling", len(missing)):
        write_atomic(folder / names[index], _png(image))


def _computed(run: SamplingRun, wanted: set[int]) -> Iterator[tuple[int, Tensor]]:
    """The wanted samples, of whole micro-batches."""
    for batch in micro_batches(range(len(run)), run.config):
        part = range(batch.start, min(batch.stop, len(run)))
        if not wanted.isdisjoint(part):
            yield from ((index, image) for index, image in run.images(part) if index in wanted)


def _check_folder(run: SamplingRun, folder: Path, there: set[str]) -> None:
    """Refuse a folder of anything else than the first of these very samples."""
    manifest = folder / MANIFEST
    if not manifest.is_file():
        if folder.is_dir() and any(folder.iterdir()):
            raise UserError(f"{folder} is not empty, and no samples were begun there; give a new folder with --to")
        return
    try:
        before = json.loads(manifest.read_text())
    except ValueError as error:
        raise UserError(f"{manifest} cannot be read ({error}); give a new folder with --to") from error
    if changed := differences(before, to_plain(run.identity)):
        raise UserError(
            f"{folder} has samples made otherwise ({'; '.join(map(str, changed))}); give a new folder with --to"
        )
    if max(map(_index, there), default=-1) >= len(run):
        raise UserError(
            f"{folder} has samples beyond the first {len(run)} already; give a new folder, or a larger --count"
        )


def _index(name: str) -> int:
    number = re.match(r"\d+", name)
    return int(number[0]) if number else -1


def _file_name(run: SamplingRun, index: int) -> str:
    name = re.sub(r"[^\w-]+", "_", run.class_names[int(run.labels[index])])[:LONGEST_NAME]
    return f"{index:06d}_{name}.png"


def _png(image: Tensor) -> bytes:
    """uint8 (C, H, W): greyscale of one channel, else colours."""
    pixels, buffer = image.permute(1, 2, 0).numpy(), io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else np.ascontiguousarray(pixels)).save(buffer, format="PNG")
    return buffer.getvalue()
