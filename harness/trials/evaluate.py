"""Scores outside a trial: of a stored checkpoint sampled anew, or of any folder of images."""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from harness.architecture.config import ArchitectureConfig
from harness.data.decode import UnreadableError, decode, to_array
from harness.data.images import ImageData
from harness.diffusion.flow_matching import NotFiniteError
from harness.measure.quality import DISTANCES, quality, samples_for
from harness.measure.quality_reference import load_reference
from harness.measure.statistics import sampling_difference
from harness.models.build import build
from harness.records.errors import UserError
from harness.records.plain import from_plain
from harness.records.quantity import Measured, Quantity, Unavailable
from harness.records.record import TrialRecord
from harness.training.device import resolve_device
from harness.trials.prepared import Prepared, cache_folder
from harness.trials.samples import drawn_with, sampled
from harness.trials.spec import store_of

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")


def evaluate(name: str, prepared: Prepared) -> tuple[dict[str, Quantity], str | None]:
    """Score the folder of images `name`, or the trial of that key, against the data; and a remark, if there is one."""
    data, _ = prepared.trained_on
    settings, device = prepared.settings, resolve_device(prepared.settings.recipe.device)
    under: dict[str, Any] = {}
    if Path(name).is_dir():
        images, labels, remark = read_images(Path(name), data)
    else:
        record = _trial(name, prepared)
        (images, labels), remark = _sampled_again(record, prepared, device), None
        trained = {"training_device": record.provenance["device"], "precision": record.provenance["precision"]}
        under = {**trained, **drawn_with(settings.sampling)}
    reference = load_reference(settings.quality, data, cache=cache_folder(settings.out), device=device)
    asked = torch.zeros(len(images), dtype=torch.int64) if labels is None else labels
    found = quality(images, asked, reference, under)
    if labels is None:
        found["class_agreement"] = Unavailable(reason="the images do not lie in folders named after the classes")
    return found, remark


def differences(found: Mapping[str, Quantity], other: Mapping[str, Quantity], of: str) -> dict[str, Quantity]:
    """`kid` and `fd` of trials sampled alike: one less the other, with the sampling noise that they do not share."""
    made: dict[str, Quantity] = {}
    for name in DISTANCES:
        one, two = found[name], other[name]
        assert isinstance(one, Measured)
        assert isinstance(two, Measured)
        interval = sampling_difference(one, two)
        made[f"{name} less that of {of}"] = Measured(
            value=interval.value,
            unit=one.unit,
            low=interval.low,
            high=interval.high,
            spread=f"95%, sampling noise of {one.conditions['samples']} pairs of images (jackknife); other seeds apart",
            conditions=one.conditions,
        )
    return made


def read_images(folder: Path, data: ImageData) -> tuple[Tensor, Tensor | None, str | None]:
    """uint8 (N, C, H, W) shaped as the data's; labels (N,) where every folder is a class's; what was left out.

    In the order of their content: a score's subsets and groups must not depend on how files are named.
    """
    found, unreadable = [], []
    for path in sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES):
        try:
            pixels = to_array(decode(path.read_bytes()), data.size, data.channels)
            found.append(
                (hashlib.sha256(pixels.tobytes()).digest(), path.parent.name.replace("_", " ").strip(), pixels)
            )
        except (UnreadableError, OSError) as error:
            unreadable.append(f"{path.name} ({error})")
    if len(found) < 2:
        raise UserError(f"{folder} has {len(found)} readable images, and a score needs at least 2; give another folder")
    found.sort(key=lambda image: image[:2])
    owners = [owner for _, owner, _ in found]
    classes = {name: index for index, name in enumerate(data.class_names)}
    labels = torch.tensor([classes[name] for name in owners]) if set(owners) <= set(classes) else None
    remark = f"{len(unreadable)} unreadable images left out: {'; '.join(unreadable[:5])}" if unreadable else None
    return torch.from_numpy(np.stack([pixels for *_, pixels in found])), labels, remark


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
    made = from_plain(ArchitectureConfig, record.architecture)
    if prepared.fit(made) != made:
        raise UserError(
            f"trial {record.key} was trained on other data or prompts ({record.protocol['data']['kind']}); "
            "give the settings that it was trained with: data=... text=..."
        )
    network = build(made)
    network.load_state_dict(load_file(store_of(prepared.settings.out).artifact(record.key, "ema.safetensors")))
    data, prompts = prepared.trained_on
    count = samples_for(prepared.settings.quality, data)
    try:
        return sampled(network.to(device), data, prompts, prepared.settings.sampling, count)
    except NotFiniteError as error:
        raise UserError(f"trial {record.key} ({record.name}) cannot be scored: {error}") from error
