"""Scores outside a trial: of a stored checkpoint sampled anew, or of any folder of images."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.architecture.config import ArchitectureConfig
from harness.data.config import DataConfig, ImageFolderConfig
from harness.data.crop import square
from harness.data.decode import UnreadableError, decode, to_array
from harness.data.folder import check_bits
from harness.data.images import ImageData, unreadable_line
from harness.data.index import by_threads
from harness.data.listing import BESIDE, Skipped, left_out, list_images, prompt_name
from harness.measure.quality import DISTANCES, quality, samples_for
from harness.measure.quality_reference import load_reference
from harness.measure.statistics import sampling_difference
from harness.models.pixels import NotFiniteError
from harness.models.weights import read_weights
from harness.records.errors import UserError
from harness.records.plain import from_plain
from harness.records.quantity import Measured, Quantity, Unavailable
from harness.records.record import TrialRecord
from harness.records.terminal import escaped
from harness.training.device import resolve_device
from harness.trials.prepared import Prepared, cache_folder
from harness.trials.samples import sample_images, sampling_conditions
from harness.trials.spec import store_of


def evaluate(name: str, prepared: Prepared) -> tuple[dict[str, Quantity], list[str]]:
    """Score the folder of images `name`, or the trial of that key, against the data; and remarks, if there are any."""
    data, _ = prepared.training_data
    settings, device = prepared.settings, resolve_device(prepared.settings.recipe.device)
    under: dict[str, Any] = {}
    remarks: list[str] = []
    unlabelled = ""
    if Path(name).is_dir():
        folder = read_images(Path(name), data, settings.data)
        images, labels, unlabelled, remarks = folder.images, folder.labels, folder.unlabelled, folder.remarks
    else:
        record = _trial(name, prepared)
        images, labels = _sampled_again(record, prepared, device)
        trained = {"training_device": record.provenance["device"], "precision": record.provenance["precision"]}
        under = {**trained, **sampling_conditions(settings.sampling)}
    reference = load_reference(settings.quality, data, cache=cache_folder(settings.out), device=device)
    expected_classes = torch.zeros(len(images), dtype=torch.int64) if labels is None else labels
    scores = quality(images, expected_classes, reference, under, what=f"the images of {name}")
    if labels is None:
        scores["class_agreement"] = Unavailable(reason=unlabelled)
    return scores, remarks


def differences(scores: Mapping[str, Quantity], others: Mapping[str, Quantity], of: str) -> dict[str, Quantity]:
    """`kid` and `fd` of trials sampled alike: one less the other, with the sampling noise that they do not share."""
    result: dict[str, Quantity] = {}
    for name in DISTANCES:
        one, two = scores[name], others[name]
        assert isinstance(one, Measured)
        assert isinstance(two, Measured)
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
            f"{folder} has {len(images)} readable images{why}, and a score needs at least 2; give another folder"
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


def _trial(name: str, prepared: Prepared) -> TrialRecord:
    store = store_of(prepared.settings.out)
    record = store.trial(name) if re.fullmatch(r"[0-9a-f]{16}", name) else None
    if record is None:
        raise UserError(
            f"'{name}' is neither a folder of images nor the key of a trial in {store.root}; "
            "the files in its folder trials/ are named by their keys, and out=FOLDER says where it lies"
        )
    if "ema.safetensors" not in record.artifacts:
        raise UserError(f"trial {name} ({record.name}) is {record.state}: it left no weights to sample from")
    return record


def _sampled_again(record: TrialRecord, prepared: Prepared, device: torch.device) -> tuple[Tensor, Tensor]:
    config = from_plain(ArchitectureConfig, record.architecture)
    if prepared.adapt_to_data(config) != config:
        raise UserError(
            f"trial {record.key} was trained on other data or prompts ({record.protocol['data']['kind']}); "
            "give the settings that it was trained with: data=... text=..."
        )
    if record.protocol.get("autoencoder") != prepared.protocol.sections.get("autoencoder"):
        raise UserError(
            f"trial {record.key} was trained on what another autoencoder makes of pictures; give the settings that it "
            "was trained with: data=... autoencoder=..."
        )
    network = read_weights(store_of(prepared.settings.out).artifact(record.key, "ema.safetensors"), config).network()
    data, _ = prepared.training_data
    count = samples_for(prepared.settings.quality, data)
    try:
        return sample_images(network.to(device), prepared, count)
    except NotFiniteError as error:
        raise UserError(f"trial {record.key} ({record.name}) cannot be scored: {error}") from error
