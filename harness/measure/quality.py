"""How good generated images are: kernel distance, Frechet distance, and whether they show the class asked for.

    KID   its expectation does not depend on N, so it ranks at any N; may be below 0 near its floor
    FD    biased upwards by about 1/N, so two of them compare at equal N only, and beside the floor of real images at
          that N. FID is FD in the original Inception's features, and nothing else

Both are torch-fidelity's numbers (the tests hold them to that), computed by `quality_distances` for their replicates
and for unequal numbers of images. Each has a 95% interval of the sampling noise of its N images. It is about the
expectation at that N, for the reference images as they are, and says nothing of another training seed.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.data.images import ImageData
from harness.measure.quality_classifier import pixel_inputs
from harness.measure.quality_config import QualityConfig
from harness.measure.quality_distances import (
    Estimate,
    Groups,
    frechet_distance,
    jackknife_groups,
    kernel_distance,
    kernel_distance_over_subsets,
)
from harness.measure.quality_reference import Reference
from harness.measure.statistics import jackknife_interval, wilson
from harness.models.extractor_config import InceptionV3Extractor, extractor_name
from harness.records.quantity import Measured, Quantity, Unavailable

KID_SEED = 2020  # which random subsets; torch-fidelity's own default


def samples_for(config: QualityConfig, data: ImageData) -> int:
    """N for this data set: `samples`, or as many real images as there are for a floor at the same N, if fewer."""
    other = data.train if config.reference == "heldout" else data.heldout
    return min(config.samples, len(other))


def quality(
    images: Tensor, labels: Tensor, reference: Reference, under: Mapping[str, Any] | None = None, *, what: str = ""
) -> dict[str, Quantity]:
    """Score uint8 images (N, C, H, W) that were asked to show the classes `labels` (N,).

    Returns `kid`, `fd` and `class_agreement`, each with its label, N, reference and extractor as conditions; `under`
    are further ones, of how the images were made. With `what` the images are called, standard error says how far it is.
    """
    if images.dtype != torch.uint8 or tuple(images.shape[1:]) != reference.shape or len(images) != len(labels):
        raise ValueError(
            f"quality needs uint8 images (N, {', '.join(map(str, reference.shape))}) and N labels, "
            f"not {images.dtype} {tuple(images.shape)} and {len(labels)}"
        )
    images, labels = images.cpu(), labels.cpu()
    features = reference.extractor.features(images, what).double()
    scores: dict[str, Quantity] = {
        **{name: distance(name, features, labels, reference) for name in DISTANCES},
        "class_agreement": _class_agreement(images, features, labels, reference),
    }
    return {name: _with_conditions(quantity, under or {}) for name, quantity in scores.items()}


def distance(name: str, features: Tensor, labels: Tensor, reference: Reference) -> Measured:
    """`kid` or `fd` of images whose float64 features (N, D) and labels (N,) these are."""
    return DISTANCES[name](features, jackknife_groups(labels), reference)


def _with_conditions(quantity: Quantity, more: Mapping[str, Any]) -> Quantity:
    if not isinstance(quantity, Measured):
        return quantity
    return replace(quantity, conditions={**quantity.conditions, **more})


def _fd(features: Tensor, groups: Groups, reference: Reference) -> Measured:
    return _measured("FD", frechet_distance(features, reference.gaussian, groups), features, reference)


def _kid(features: Tensor, groups: Groups, reference: Reference) -> Measured:
    config, (m, n) = reference.config, (len(features), len(reference.features))
    if config.kid_full:
        estimate = kernel_distance(features, reference.features, groups)
        estimator = f"unbiased, all {m} images with all {n} of the reference"
    else:
        subsets, size = config.kid_subsets, min(config.kid_subset_size, m, n)
        estimate = kernel_distance_over_subsets(
            features, reference.features, groups, subsets=subsets, size=size, seed=KID_SEED
        )
        estimator = f"unbiased, mean over {subsets} random subsets of {size} of {m} images and {size} of {n}"
    more = {"estimator": estimator, "kernel": "(x.y/D + 1)^3"}
    return _measured("KID", estimate, features, reference, more)


DISTANCES: Mapping[str, Callable[[Tensor, Groups, Reference], Measured]] = {"kid": _kid, "fd": _fd}


def _measured(
    name: str, estimate: Estimate, features: Tensor, reference: Reference, more: Mapping[str, Any] | None = None
) -> Measured:
    conditions = {**_conditions(name, len(features), reference), **(more or {})}
    if not estimate.replicates:
        return Measured(value=estimate.value, unit="1", conditions=conditions)
    interval = jackknife_interval(estimate.value, estimate.replicates)
    return Measured(
        value=estimate.value,
        unit="1",
        low=interval.low,
        high=interval.high,
        spread=f"95%, sampling noise of {len(features)} images (jackknife, {len(estimate.replicates)} groups)",
        replicates=estimate.replicates,
        conditions=conditions,
    )


def _class_agreement(images: Tensor, features: Tensor, labels: Tensor, reference: Reference) -> Quantity:
    classifier = reference.classifier
    if classifier is None:
        return Unavailable(reason="the data set has one class only: there is nothing to tell apart")
    inputs = pixel_inputs(images) if classifier.on_pixels else features.numpy()
    read = classifier.predict(inputs)
    agreed = int(np.sum(read == labels.numpy()))
    label_share, read_share = (np.bincount(of, minlength=len(classifier.bias)) / len(of) for of in (labels, read))
    low, high = wilson(agreed, len(labels))
    conditions = {
        "label": f"class agreement, N={len(labels)}",
        "samples": len(labels),
        "data": reference.conditions["data"],
        "data_fingerprint": reference.conditions["data_fingerprint"],
        "classifier": classifier.description,
        "classifier_heldout_accuracy": classifier.heldout_accuracy,
        "chance": float(label_share @ read_share),  # of the same images in random order (Cohen 1960)
        "chance_at_most": float(label_share.max()),  # of images that all show the class asked for most
    }
    return Measured(
        value=agreed / len(labels), unit="fraction", low=low, high=high, spread="95% Wilson interval",
        conditions=conditions,
    )  # fmt: skip


def _conditions(distance: str, samples: int, reference: Reference) -> dict[str, Any]:
    extractor = reference.config.extractor
    if isinstance(extractor, InceptionV3Extractor):
        name = {"FD": "FID", "KID": "KID"}[distance]
    else:
        name = f"{distance}-{extractor_name(extractor)}"
    against = len(reference.features)
    label = f"{name}, N={samples}" if samples == against else f"{name}, N={samples} against {against}"
    return {"label": label, "samples": samples, **reference.conditions}
