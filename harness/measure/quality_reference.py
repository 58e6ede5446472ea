"""The real images that generated ones are compared with: their features, computed once.

The cache's key is everything that decides them: the content of the data set and its transform, which part, which of
its images, and the extractor with its weights, resolution and resizing. Change any and the key is another, so an
entry can be missing but not stale.
"""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.data.images import ImageData, Images, stack
from harness.measure.quality_classifier import Classifier, load_classifier
from harness.measure.quality_config import QualityConfig
from harness.measure.quality_distances import Gaussian
from harness.models.extractor_config import extractor_identity
from harness.models.feature_extractor import FeatureExtractor, load_extractor
from harness.records.eta import with_eta
from harness.records.plain import fingerprint
from harness.records.store import reading_cache, write_atomic

CHUNK = 512  # images read at a time


@dataclass(frozen=True, kw_only=True, slots=True)
class Reference:
    """All that scoring a batch needs; the extractor is loaded."""

    config: QualityConfig
    extractor: FeatureExtractor
    features: Tensor  # (N_reference, D) float64
    gaussian: Gaussian  # of these features
    classifier: Classifier | None  # None where there is one class only
    shape: tuple[int, int, int]  # (C, H, W) of the data's images
    conditions: dict[str, Any]  # what is true of every score against this reference


def load_reference(
    config: QualityConfig, data: ImageData, *, cache: Path, device: torch.device | str = "cpu"
) -> Reference:
    """Load the extractor, and the reference from `cache` or from the images.

    Raises UserError for a missing or altered weight file.
    """
    extractor = load_extractor(config.extractor, device)
    part = data.heldout if config.reference == "heldout" else data.train
    chosen = fixed_choice(len(part), config.reference_samples)
    features = _cached_features(config, data, extractor, part, chosen, cache)
    return Reference(
        config=config,
        extractor=extractor,
        features=features,
        gaussian=Gaussian.of(features),
        classifier=load_classifier(config, data, extractor, cache),
        shape=(data.channels, data.size, data.size),
        conditions={
            "data": data.kind,
            "data_fingerprint": data.fingerprint,
            "reference": f"{'held-out' if config.reference == 'heldout' else 'training'} part",
            "reference_samples": len(chosen),
            "extractor": extractor_identity(config.extractor),
        },
    )


def fixed_choice(count: int, limit: int | None) -> NDArray[np.int64]:
    """`limit` of `count` indices, sorted: always the same ones; all of them where there are no more, or for None."""
    if limit is None or limit >= count:
        return np.arange(count)
    return np.sort(np.random.RandomState(0).permutation(count)[:limit])  # this generator's stream is frozen


def part_features(extractor: FeatureExtractor, images: Images, chosen: NDArray[np.int64]) -> Tensor:
    """(len(chosen), D) float32; the images are read piece by piece."""
    pieces = [chosen[start : start + CHUNK] for start in range(0, len(chosen), CHUNK)]
    shown = with_eta(pieces, "features of the reference images, in parts", len(pieces)) if len(pieces) > 1 else pieces
    return torch.cat([extractor.features(stack(images, piece)) for piece in shown])


def reference_key(config: QualityConfig, data: ImageData, chosen: NDArray[np.int64]) -> str:
    what = {
        "data": data.identity,
        "part": config.reference,
        "images": len(chosen),
        "extractor": extractor_identity(config.extractor),
    }
    return fingerprint(what, schema="quality-reference-2")


def _cached_features(
    config: QualityConfig,
    data: ImageData,
    extractor: FeatureExtractor,
    part: Images,
    chosen: NDArray[np.int64],
    cache: Path,
) -> Tensor:
    path = cache / "references" / f"{reference_key(config, data, chosen)}.npz"
    if not path.exists():
        features = part_features(extractor, part, chosen)
        buffer = io.BytesIO()
        np.savez(buffer, allow_pickle=False, features=features.numpy())
        write_atomic(path, buffer.getvalue())
    with reading_cache(path), np.load(path) as stored:
        return torch.from_numpy(stored["features"]).double()
