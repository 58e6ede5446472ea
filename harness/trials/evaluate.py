"""Scores outside a trial: of a stored checkpoint sampled anew, or of what others made.

KEY          a trial's checkpoint, sampled anew; or a file of weights, or the YAML that a trial was promoted to
FOLDER       any folder of images, brought to the data set's size; against a reference at a path, as they are;
             a diffusers pipeline (model_index.json), sampled by its own call
FILE.npz     `arr_0`, images as they are; `mu` and `sigma`, statistics, of which FD and sFID alone can be told
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.data.config import DataConfig, ImageFolderConfig
from harness.data.crop import square
from harness.data.dataset import load_dataset
from harness.data.decode import UnreadableError, decode, to_array
from harness.data.folder import check_bits
from harness.data.images import ImageData, unreadable_line
from harness.data.index import by_threads
from harness.data.listing import BESIDE, Skipped, left_out, list_images, prompt_name
from harness.data.pictures import Pictures, npz_labels, npz_names, open_folder, open_npz
from harness.measure.quality import DISTANCES, Scorer, distances_of_statistics, samples_for, say_if_fewer
from harness.measure.quality_config import Build
from harness.measure.quality_moments import merged
from harness.measure.quality_reference import load_reference, load_statistics
from harness.measure.quality_reference_files import check_size, open_given, write_statistics
from harness.measure.statistics import sampling_difference
from harness.models.pixels import NotFiniteError
from harness.records.errors import UserError
from harness.records.eta import with_eta
from harness.records.quantity import Failed, Measured, Quantity, Unavailable
from harness.records.terminal import escaped
from harness.training.device import resolve_device
from harness.trials.pipeline import Pipeline, is_pipeline
from harness.trials.prepared import cache_folder
from harness.trials.score_jobs import scores
from harness.trials.scoring import ScoreRequest
from harness.trials.settings import Settings
from harness.trials.trained import OTHERS, TrainedNetwork, names_network, trained_network

CHUNK = 512  # images read at a time


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluated:
    quantities: dict[str, Quantity]
    against: str  # the data set, or the file or folder that the reference is
    remarks: list[str]  # what was left out


def evaluate(
    name: str, settings: Settings, *, to: Path | None = None, build: Build | None = None, workers: int | None = None
) -> Evaluated:
    """Score what `name` is (see above) against the data set or `quality.reference_path`.

    `to`: where to write the images' statistics, a file that can itself be a reference. `build`: who made a file of
    statistics that does not say so. `workers`: the jobs that sample a network; by default this process does. UserError
    for what cannot be read or must not be compared.
    """
    path, config = Path(name), settings.quality
    is_network = names_network(name)
    is_statistics = not is_network and path.is_file() and (path.suffix == ".pt" or "mu" in npz_names(path))
    if build is not None and not is_statistics:
        raise UserError(f"--build names who made a file of statistics, and {name} is none; leave it out")
    if is_network:
        return _trained(trained_network(name, settings.out, OTHERS), settings, to, workers)
    if workers is not None:
        raise UserError(f"--workers sample a trained network, and {name} is there already; leave it out")
    if is_statistics:
        return _statistics(path, settings, to, build)
    if is_pipeline(path):
        return _pipeline(path, settings, to)
    if config.reference_path is not None:
        pictures = open_folder(path) if path.is_dir() else open_npz(path)
        labels = None if path.is_dir() else npz_labels(path, pictures.count)
        return _pictures(name, Shown(pictures=pictures, labels=labels, unlabelled=""), None, settings, to)
    data = _data(settings)
    shown = read_images(path, data, settings.data).shown if path.is_dir() else _npz_of(path, data)
    return _pictures(name, shown, data, settings, to)


def _trained(trained: TrainedNetwork, settings: Settings, to: Path | None, workers: int | None) -> Evaluated:
    request = ScoreRequest(trained=trained, settings=settings, grid=(settings.sampling,))
    written: list[Path] = []

    def write(scorer: Scorer, under: Mapping[str, Any]) -> None:
        assert to is not None
        about = {"images": trained.key, "shape": list(scorer.reference.shape or ()), **under}
        write_statistics(to, settings.quality, merged(scorer.feature_moments()), scorer.spatial_moments(), about)
        written.append(to)

    (quantities,) = scores(request, workers, None if to is None else write)
    failed = next((each for each in quantities.values() if isinstance(each, Failed)), None)
    if failed is not None:
        raise UserError(f"{trained.title} cannot be scored: {failed.message}")
    if to is not None and not written:
        raise UserError(f"another command scored {trained.title} meanwhile; run the same command again for {to}")
    against = settings.data.kind if settings.quality.reference_path is None else str(settings.quality.reference_path)
    return Evaluated(quantities=dict(quantities), against=against, remarks=[])


@dataclass(frozen=True, slots=True)
class Held:
    """Pictures that are in memory."""

    images: Tensor  # uint8 (N, C, H, W)

    @property
    def count(self) -> int:
        return len(self.images)

    @property
    def shape(self) -> tuple[int, int, int]:
        channels, height, width = self.images.shape[1:]
        return channels, height, width

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.images.numpy().tobytes()).hexdigest()[:16]

    def batches(self, size: int) -> Iterator[Tensor]:
        yield from torch.split(self.images, size)


@dataclass(frozen=True, kw_only=True, slots=True)
class Shown:
    """Pictures to score, and the classes that they should show."""

    pictures: Pictures
    labels: Tensor | None
    unlabelled: str  # why there are none
    remarks: Sequence[str] = ()


def _pictures(
    name: str,
    shown: Shown,
    data: ImageData | None,
    settings: Settings,
    to: Path | None,
    under: Mapping[str, Any] | None = None,
) -> Evaluated:
    config, pictures, device = settings.quality, shown.pictures, resolve_device(settings.recipe.device)
    if config.reference_path is not None:
        check_size(open_given(config.reference_path, config, config.reference_build), pictures.shape[1])
    reference = load_reference(config, data, cache=cache_folder(settings.out), device=device)
    labels = torch.zeros(pictures.count, dtype=torch.int64) if shown.labels is None else shown.labels
    scorer, start = Scorer(reference, labels), 0
    batches = pictures.batches(CHUNK)
    parts = -(-pictures.count // CHUNK)
    for batch in with_eta(batches, f"features of the images of {name}, in parts", parts) if parts > 1 else batches:
        scorer.add(batch, range(start, start + len(batch)))
        start += len(batch)
    scores = scorer.quantities(under)
    if shown.labels is None and "class_agreement" in scores and shown.unlabelled:
        scores["class_agreement"] = Unavailable(reason=shown.unlabelled)
    if to is not None:
        about = {"images": pictures.digest, "shape": list(pictures.shape), **(under or {})}
        write_statistics(to, config, merged(scorer.feature_moments()), scorer.spatial_moments(), about)
    against = data.kind if config.reference_path is None and data is not None else str(config.reference_path)
    return Evaluated(quantities=scores, against=against, remarks=list(shown.remarks))


def _pipeline(folder: Path, settings: Settings, to: Path | None) -> Evaluated:
    config, device = settings.quality, resolve_device(settings.recipe.device)
    data = _data(settings) if config.reference_path is None else None
    count = config.samples if data is None else samples_for(config, data)
    if data is not None:
        say_if_fewer(config, data)
    made = Pipeline(folder, device).pictures(settings.sampling, count, data)
    unlabelled = f"{folder} knows no classes"
    shown = Shown(pictures=made, labels=made.labels, unlabelled=unlabelled, remarks=[made.how])
    try:
        return _pictures(str(folder), shown, data, settings, to, made.conditions)
    except NotFiniteError as error:
        raise UserError(f"{folder} cannot be scored: {error}") from error


def _statistics(path: Path, settings: Settings, to: Path | None, build: Build | None) -> Evaluated:
    config = settings.quality
    if to is not None:
        raise UserError(f"{path} holds statistics already; leave out --to")
    given = open_given(path, config, build)
    data = None if config.reference_path is not None else _data(settings)
    if data is not None:
        check_size(given, data.size)
    if config.reference_path is not None and given.size is not None:
        check_size(open_given(config.reference_path, config, config.reference_build), given.size)
    device = resolve_device(settings.recipe.device)
    reference = load_statistics(config, data, cache=cache_folder(settings.out), device=device)
    ignored = [f"{path} has pictures too, which are not scored: its statistics are"] if given.pictures else []
    against = data.kind if data is not None else str(config.reference_path)
    return Evaluated(quantities=distances_of_statistics(given, reference), against=against, remarks=ignored)


def _data(settings: Settings) -> ImageData:
    return load_dataset(settings.data, cache=cache_folder(settings.out))


def _npz_of(path: Path, data: ImageData) -> Shown:
    """The pictures of an .npz, which are of the data's size, and their labels, which are of its classes."""
    pictures = open_npz(path)
    if pictures.shape != (data.channels, data.size, data.size):
        channels, height, width = pictures.shape
        raise UserError(
            f"{path} has pictures of {width} x {height} with {channels} channels, and the data's are {data.size} x "
            f"{data.size} with {data.channels}; give the data that they are to be compared with"
        )
    labels, classes = npz_labels(path, pictures.count), len(data.class_names)
    if labels is not None and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise UserError(f"{path} has labels from {labels.min()} to {labels.max()}, and the data has {classes} classes")
    return Shown(pictures=pictures, labels=labels, unlabelled=f"{path} holds no labels, as arr_1 or labels")


def differences(scores: Mapping[str, Quantity], others: Mapping[str, Quantity], of: str) -> dict[str, Quantity]:
    """`kid` and `fd` of trials sampled alike: one less the other, with the sampling noise that they do not share."""
    result: dict[str, Quantity] = {}
    for name in DISTANCES:
        one, two = scores.get(name), others.get(name)
        if not isinstance(one, Measured) or not isinstance(two, Measured):
            continue
        interval = sampling_difference(one, two)
        result[f"{name} less that of {of}"] = Measured(
            value=interval.value,
            unit=one.unit,
            low=interval.low,
            high=interval.high,
            spread=f"95%, sampling noise of {one.conditions['samples']} pairs of images (jackknife); other seeds apart",
            conditions=one.conditions,
        )
    return result


@dataclass(frozen=True, kw_only=True, slots=True)
class FolderImages:
    images: Tensor  # uint8 (N, C, H, W), shaped as the data's
    labels: Tensor | None  # (N,) where every image lies in a class's folder
    unlabelled: str  # why there are no labels
    remarks: list[str]  # what was left out, and how much of it

    @property
    def shown(self) -> "Shown":
        return Shown(pictures=Held(self.images), labels=self.labels, unlabelled=self.unlabelled, remarks=self.remarks)


def read_images(folder: Path, data: ImageData, config: DataConfig) -> FolderImages:
    """All images below the folder, found and decoded as a data set's are.

    In the order of their content: a score's subsets and groups must not depend on how files are named.
    """
    listing = list_images(folder)
    names, beside = _scored(listing.images, data)
    bits = config.bits if isinstance(config, ImageFolderConfig) else None
    with by_threads(lambda name: _read(folder, name, data, bits), names, f"reading {folder}") as results:
        read = dict(zip(names, results, strict=True))
    unreadable = [f"{escaped(name)}: {result}" for name, result in read.items() if isinstance(result, str)]
    images = [(*result, _owner(name)) for name, result in read.items() if not isinstance(result, str)]
    remarks = [*unreadable_line(unreadable), *(f"left out: {each}" for each in [*listing.skipped, *beside])]
    if len(images) < 2:
        why = f" ({'; '.join(remarks)})" if remarks else ""
        raise UserError(
            f"{folder} has {len(images)} readable image{'s' * (len(images) != 1)}{why}, and a score needs at least 2; "
            "give another folder"
        )
    check_bits(folder, [peak for _, _, peak, _ in images], bits, can_be_given=isinstance(config, ImageFolderConfig))
    images.sort(key=lambda image: (image[0], image[3]))
    labels, unlabelled = _labels([owner for *_, owner in images], data)
    pixels = torch.from_numpy(np.stack([pixels for _, pixels, _, _ in images]))
    return FolderImages(images=pixels, labels=labels, unlabelled=unlabelled, remarks=remarks)


def _read(folder: Path, name: str, data: ImageData, bits: int | None) -> tuple[bytes, NDArray[np.uint8], int] | str:
    """The pixels' hash, the pixels, and the largest value of a file of 16 bits; or why there are none."""
    try:
        content = (folder / name).read_bytes()
        if data.crop != "centre":
            pixels = square(content, data.crop, data.size, data.channels)
            return hashlib.sha256(pixels.tobytes()).digest(), pixels, 0
        decoded = decode(content, bits)
    except (UnreadableError, OSError) as error:
        return str(getattr(error, "strerror", None) or error)
    pixels = to_array(decoded.image, data.size, data.channels)
    return hashlib.sha256(pixels.tobytes()).digest(), pixels, decoded.peak


def _owner(name: str) -> str:
    """The class folder that an image lies in, as in a data set; "" for one that lies in none."""
    return name.split("/")[0] if "/" in name else ""


def _scored(images: list[str], data: ImageData) -> tuple[list[str], list[Skipped]]:
    """The images to score, and what is left out: beside folders of classes, as in a data set, what lies in none."""
    inside = [name for name in images if _owner(name)]
    if not inside or _labels([_owner(name) for name in inside], data)[0] is None:
        return images, []
    return inside, left_out(images, set(inside), BESIDE)


def _labels(owners: Sequence[str], data: ImageData) -> tuple[Tensor | None, str]:
    """The classes of images by their folders, which are called as the data's folders or as its classes; or why not."""
    known_by = [
        {folder: index for index, folder in enumerate(data.class_folders)},
        {name: index for index, name in enumerate(data.class_names)},
    ]
    if all(owner in known_by[0] for owner in owners):
        return torch.tensor([known_by[0][owner] for owner in owners]), ""
    if all(prompt_name(owner) in known_by[1] for owner in owners):
        return torch.tensor([known_by[1][prompt_name(owner)] for owner in owners]), ""
    other = min(owner for owner in owners if owner not in known_by[0] and prompt_name(owner) not in known_by[1])
    return None, "the images do not lie in folders named after the classes: " + (
        f"'{escaped(other)}' is none of {', '.join(data.class_names[:5])}{', ...' if len(data.class_names) > 5 else ''}"
        if other
        else "some lie in no folder"
    )
