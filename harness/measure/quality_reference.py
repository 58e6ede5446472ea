"""The real images that generated ones are compared with: their features and statistics, computed once.

A reference is a part of the data set, or what lies at a path (`quality_reference_files`). Up to WHOLE images, and where
KID is over all images, every feature is kept; beyond, mean and covariance stream (`quality_moments`), and the features
of `reference_kept` images stay for KID over subsets, precision and recall.

The cache's key is everything that decides them: the content of the data set and its transform, which part, which of
its images, and the extractor with its weights, resolution and resizing. Change any and the key is another, so an
entry can be missing but not stale.
"""

import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.data.images import ImageData, stack
from harness.data.pictures import Pictures
from harness.measure.quality_captions import Gallery, load_gallery
from harness.measure.quality_classifier import Classifier, load_classifier
from harness.measure.quality_config import OF_CAPTIONS, QualityConfig
from harness.measure.quality_distances import Gaussian
from harness.measure.quality_moments import GroupedMoments
from harness.measure.quality_reference_files import Given, Statistics, check_size, open_given
from harness.models.extractor_config import LAYERS, Layer, extractor_identity
from harness.models.feature_extractor import FeatureExtractor, load_extractor
from harness.processes.locks import waited_for
from harness.records.errors import UserError
from harness.records.eta import with_eta
from harness.records.plain import fingerprint
from harness.records.store import reading_cache, write_atomic

CHUNK = 512  # images read at a time
WHOLE = 4096
"""Up to so many images all features are kept in float64, and scores are computed from them; beyond, from sums."""

ONE_CLASS = "the data set has one class only: there is nothing to tell apart"
CAPTIONS = "the data set has captions, and no classes with pictures of their own: `retrieval` reads the samples"
NO_DATA = "no data set is named whose classes could be told apart"


@dataclass(frozen=True, kw_only=True, slots=True)
class ReferenceStatistics:
    """What a Frechet distance is to."""

    config: QualityConfig
    gaussian: Gaussian  # of all features
    spatial: Gaussian | None = None  # of spatial features, where they are asked for and known
    conditions: dict[str, Any]  # what is true of every score against this reference


@dataclass(frozen=True, kw_only=True, slots=True)
class Reference(ReferenceStatistics):
    """All that scoring a batch needs; the extractor is loaded."""

    extractor: FeatureExtractor
    features: Tensor  # (N_kept, D) float64; those that KID is against
    manifold: Tensor  # (n, D) float64; those that precision and recall are against
    classifier: Classifier | None  # None where there is none
    unclassified: str = ONE_CLASS  # why there is none
    gallery: Gallery | None = None  # the captions' pictures, where a score reads captions
    shape: tuple[int, int, int] | None  # (C, H, W) of the images to score; None where any will do


def load_reference(
    config: QualityConfig, data: ImageData | None, *, cache: Path, device: torch.device | str = "cpu"
) -> Reference:
    """Load the extractor, and the reference from `cache`, from the images or from its file.

    Without `data` the reference is at a path, and nothing tells classes apart. Raises UserError for a missing or
    altered weight file, and for a reference that must not be compared with.
    """
    config.check_data("none" if data is None else data.kind, captions=data is not None and data.captions)
    extractor = load_extractor(config.extractor, device, config.layers)
    classifier, gallery = None, None
    if data is not None and set(OF_CAPTIONS) & set(config.metrics):
        gallery = load_gallery(config.extractor, data, extractor, cache)
    if data is not None and "class_agreement" in config.metrics:
        classifier = load_classifier(config, data, extractor, cache)
    if config.reference_path is not None:
        given = open_given(config.reference_path, config, config.reference_build)
        return replace(_from_given(config, data, given, extractor, classifier, cache), gallery=gallery)
    if data is None:
        raise UserError(
            f"quality.reference={config.reference} is a part of a data set, and none is named; give "
            "quality.reference=path with quality.reference_path=FILE"
        )
    part = data.heldout if config.reference == "heldout" else data.train
    chosen = fixed_choice(len(part), config.reference_samples)
    pieces = [chosen[start : start + CHUNK] for start in range(0, len(chosen), CHUNK)]
    key = reference_key(config, data, chosen)
    real = _cached(config, key, extractor, (stack(part, piece) for piece in pieces), len(chosen), cache)
    return Reference(
        config=config,
        extractor=extractor,
        features=real.features,
        gaussian=real.gaussian,
        spatial=real.spatial,
        manifold=real.features,
        classifier=classifier,
        unclassified=_unclassified(data),
        gallery=gallery,
        shape=(data.channels, data.size, data.size),
        conditions={
            "data": data.kind,
            "data_fingerprint": data.fingerprint,
            "reference": f"{'held-out' if config.reference == 'heldout' else 'training'} part",
            "reference_samples": len(chosen),
            "extractor": extractor_identity(config.extractor),
        },
    )


def load_statistics(
    config: QualityConfig, data: ImageData | None, *, cache: Path, device: torch.device | str = "cpu"
) -> ReferenceStatistics:
    """`load_reference` for what has statistics alone: where the reference's lie in a file, no extractor is needed."""
    if config.reference_path is None:
        return load_reference(config, data, cache=cache, device=device)
    given = open_given(config.reference_path, config, config.reference_build)
    if given.statistics is None:
        return load_reference(config, data, cache=cache, device=device)
    return ReferenceStatistics(
        config=config,
        gaussian=given.statistics.gaussian,
        spatial=_spatial(config, given, None),
        conditions=_conditions(config, data, given),
    )


def _conditions(config: QualityConfig, data: ImageData | None, given: Given) -> dict[str, Any]:
    return {
        "data": given.name if data is None else data.kind,
        "data_fingerprint": given.digest if data is None else data.fingerprint,
        "reference": str(given),
        "reference_samples": given.samples,
        "reference_build": given.build or "recomputed",
        "extractor": extractor_identity(config.extractor),
    }


def _unclassified(data: ImageData | None) -> str:
    """Why there is no classifier, where there is none."""
    if data is None:
        return NO_DATA
    return CAPTIONS if data.captions else ONE_CLASS


def _from_given(
    config: QualityConfig,
    data: ImageData | None,
    given: Given,
    extractor: FeatureExtractor,
    classifier: Classifier | None,
    cache: Path,
) -> Reference:
    if data is not None:
        check_size(given, data.size)
    real = None if given.pictures is None else _of_pictures(config, given.pictures, extractor, cache)
    nothing = torch.empty(0, 0, dtype=torch.float64)
    if given.statistics is None:
        assert real is not None
        recomputed, gaussian = real, real.gaussian
    else:
        _check_width(given, extractor)
        recomputed, gaussian = None, given.statistics.gaussian
    return Reference(
        config=config,
        extractor=extractor,
        features=recomputed.features if recomputed is not None else nothing,
        gaussian=gaussian,
        spatial=_spatial(config, given, recomputed),
        manifold=real.features if real is not None else nothing,
        classifier=classifier,
        unclassified=_unclassified(data),
        shape=None if data is None else (data.channels, data.size, data.size),
        conditions=_conditions(config, data, given),
    )


def _check_width(given: Given, extractor: FeatureExtractor) -> None:
    """Refuse statistics of more or fewer features than the extractor gives of an image."""
    layers = extractor.layers(torch.zeros(1, 3, 32, 32, dtype=torch.uint8))
    held: dict[Layer, Statistics | None] = {"features": given.statistics, "spatial": given.spatial}
    for layer, statistics in held.items():
        if statistics is not None and layer in layers and layers[layer].shape[1] != len(statistics.mean):
            raise UserError(
                f"{given.name} has {layer} of {len(statistics.mean)} values, and the extractor's are of "
                f"{layers[layer].shape[1]}; give statistics of the same network"
            )


def _spatial(config: QualityConfig, given: Given, recomputed: "Real | None") -> Gaussian | None:
    if "spatial" not in config.layers:
        return None
    if recomputed is not None:
        return recomputed.spatial
    return None if given.spatial is None else given.spatial.gaussian


def _of_pictures(config: QualityConfig, pictures: Pictures, extractor: FeatureExtractor, cache: Path) -> "Real":
    what = {"pictures": pictures.digest, **_extraction(config, pictures.count)}
    what["extractor"] = extractor_identity(config.extractor)
    key = fingerprint(what, schema="quality-reference-pictures-1")
    parts = (range(start, min(start + CHUNK, pictures.count)) for start in range(0, pictures.count, CHUNK))
    return _cached(config, key, extractor, map(pictures.read, parts), pictures.count, cache)


def fixed_choice(count: int, limit: int | None) -> NDArray[np.int64]:
    """`limit` of `count` indices, sorted: always the same ones; all of them where there are no more, or for None."""
    if limit is None or limit >= count:
        return np.arange(count)
    return np.sort(np.random.RandomState(0).permutation(count)[:limit])  # this generator's stream is frozen


def reference_key(config: QualityConfig, data: ImageData, chosen: NDArray[np.int64]) -> str:
    what = {
        "data": data.identity,
        "part": config.reference,
        "images": len(chosen),
        "extractor": extractor_identity(config.extractor),
        **_extraction(config, len(chosen)),
    }
    return fingerprint(what, schema="quality-reference-2")


@dataclass(frozen=True, kw_only=True, slots=True)
class Real:
    """What is known of real images."""

    features: Tensor  # (n, D) float64
    gaussian: Gaussian
    spatial: Gaussian | None


def _kept(config: QualityConfig, count: int) -> int:
    """How many of so many images have their features kept."""
    if count <= WHOLE or (config.kid_full and "kid" in config.metrics):
        return count
    return min(count, config.reference_kept or count) if config.keeps_features else 0


def _extraction(config: QualityConfig, count: int) -> dict[str, Any]:
    """What is extracted beyond all features: empty where that is all."""
    more: dict[str, Any] = {}
    if _kept(config, count) < count:
        more["kept"] = _kept(config, count)
    if "spatial" in config.layers:
        more["spatial"] = True
    return more


def _cached(
    config: QualityConfig,
    key: str,
    extractor: FeatureExtractor,
    batches: Iterable[Tensor],
    count: int,
    cache: Path,
) -> Real:
    path = cache / "references" / f"{key}.npz"
    if not path.exists():
        with waited_for(path.with_suffix(".lock"), "features of the reference images"):
            if not path.exists():
                _compute(path, config, extractor, batches, count)
    with reading_cache(path), np.load(path) as stored:
        features = torch.from_numpy(stored["features"]).double()
        statistics = {
            layer: Statistics(
                mean=torch.from_numpy(stored[f"{layer}_mean"]),
                covariance=torch.from_numpy(stored[f"{layer}_covariance"]),
                samples=count,
            ).gaussian
            for layer in LAYERS["inception_v3"]
            if f"{layer}_mean" in stored
        }
        gaussian = statistics["features"] if "features" in statistics else Gaussian.of(features)
        return Real(features=features, gaussian=gaussian, spatial=statistics.get("spatial"))


def _compute(
    path: Path, config: QualityConfig, extractor: FeatureExtractor, batches: Iterable[Tensor], count: int
) -> None:
    shown = with_eta(batches, "features of the reference images, in parts", -(-count // CHUNK))
    arrays = extracted(extractor, shown if count > CHUNK else batches, count, _kept(config, count))
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    write_atomic(path, buffer.getvalue())


def extracted(
    extractor: FeatureExtractor, batches: Iterable[Tensor], count: int, kept: int
) -> Mapping[str, NDArray[Any]]:
    """`features` (kept, D) float32 of a fixed choice of the `count` images; mean and covariance of all features where
    these are not all, and of spatial ones."""
    chosen, start = fixed_choice(count, kept), 0
    rows: list[Tensor] = []
    moments: dict[Layer, GroupedMoments] = {}
    needed: dict[Layer, bool] = {"features": kept < count, "spatial": True}
    summed = [layer for layer in extractor.names if needed.get(layer)]
    for batch in batches:
        layers = extractor.layers(batch)
        stop = start + len(batch)
        here = chosen[(chosen >= start) & (chosen < stop)] - start
        rows.append(layers["features"][torch.from_numpy(here)])
        for layer in summed:
            sums = moments.setdefault(layer, GroupedMoments(1, layers[layer].shape[1]))
            sums.add(layers[layer], np.zeros(len(batch), dtype=np.int64))
        start = stop
    arrays: dict[str, NDArray[Any]] = {"features": torch.cat(rows).numpy()}
    for name, sums in moments.items():
        (total,) = sums.parts()
        arrays |= {f"{name}_mean": total.mean.numpy(), f"{name}_covariance": total.covariance.numpy()}
    return arrays
